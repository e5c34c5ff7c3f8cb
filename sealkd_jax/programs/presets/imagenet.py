"""ImageNet (224x224 RGB, 1000 classes) by the paper's recipe: a PreAct spiking ResNet-34 at T = 4 from a ResNet-34.

    python -m train.distill imagenet --data-dir DIR --precision bfloat16

Streams DIR/imagenet/train/CLASS/*.JPEG and DIR/imagenet/val/CLASS/*.JPEG. Expected: 72.11 %, as in the paper. Not run
on the whole of ImageNet. Differences from the authors' code: the crop is taken from the middle 224x224 pixels of a
picture; and every epoch sees one of 10 views, so that the teacher's logits can be stored (51 GB).
"""

from sealkd_jax.programs.options import make_preset

PRESET = make_preset(
    dataset="imagenet",
    stream=True,
    teacher="resnet34",
    epochs=100,
    batch_size=512,
    optimizer="sgd",
    augment="resized_crop(0.08) | flip | autoaugment(imagenet) | cutout(0.5)",
    for_student={"student": "spiking-resnet34", "decay": 0.2, "learning_rate": 0.2, "weight_decay": 2e-5, "views": 10},
    for_teacher={"learning_rate": 0.1, "weight_decay": 1e-4},
)
