"""N-Caltech101 (events of a 240x180 sensor at 64x48, 101 classes): a spiking VGG at T = 10 from a ResNet-18.

    python -m train.distill n-caltech101 --data-dir DIR

There is no official split: a fifth is held out for test and a tenth for validation, stratified and fixed. Not run: the
data were not available. Expected: 80 % and more, which papers report on splits of their own.
"""

from sealkd_jax.programs.options import make_preset

PRESET = make_preset(
    dataset="n-caltech101",
    timesteps=10,
    frame_by="count",
    frame_size=64,
    teacher="resnet18",
    epochs=200,
    batch_size=32,
    optimizer="adamw",
    learning_rate=1e-3,
    weight_decay=1e-2,
    warmup_epochs=5,
    augment="flip | roll(5)",
    for_student={"student": "spiking-vgg", "views": 16},
)
