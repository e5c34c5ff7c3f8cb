"""Fashion-MNIST (28x28 grey, 10 classes): a three-convolution student at T = 4 from a small convolutional ANN.

    python -m train.distill fashion-mnist

Time: an hour on two CPU cores. Expected: 91 %. Seen: 85.4 % after one epoch at half width (docs/data.md).
"""

from typing import Any

from sealkd_jax.programs.options import DistillOptions, Preset, TeacherOptions

RECIPE: dict[str, Any] = {
    "batch_size": 128,
    "optimizer": "adamw",
    "learning_rate": 3e-3,
    "weight_decay": 1e-2,
    "warmup_epochs": 1,
    "augment": "crop(2) | flip",
}

PRESET = Preset(
    distill=DistillOptions(
        dataset="fashion-mnist", student="spiking-conv", teacher="convnet", epochs=10, views=4, **RECIPE
    ),
    teacher=TeacherOptions(dataset="fashion-mnist", teacher="convnet", epochs=10, **RECIPE),
)
