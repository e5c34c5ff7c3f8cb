"""Tiny-ImageNet (64x64 RGB, 200 classes, 100,000 + 10,000 pictures): a spiking ResNet-18 at T = 4 from a ResNet-34.

    python -m train.distill tiny-imagenet --data-dir DIR --precision bfloat16

Reads DIR/tiny-imagenet-200 as its archive unpacks: train/CLASS/images, and val with val_annotations.txt, which is the
test split; the pictures in test have no labels. Not run: the data were not available. Expected: some 60 %, which other
distilled spiking ResNets report.
"""

from sealkd_jax.programs.options import make_preset

PRESET = make_preset(
    dataset="tiny-imagenet",
    image_size=64,
    teacher="resnet34",
    epochs=100,
    batch_size=128,
    optimizer="sgd",
    learning_rate=0.1,
    weight_decay=5e-4,
    augment="crop(8) | flip | cutout(0.25)",
    for_student={"student": "spiking-resnet18", "views": 10},
)
