"""scikit-learn's handwritten digits (8x8 grey, 10 classes): the whole job in a minute, without a download.

    python -m train.distill

Time: half a minute on two CPU cores, teacher included. Expected and seen: see the README. Other processors and versions
round differently; one standard error of the 360 test images is 0.8 points.
"""

from typing import Any

from sealkd_jax.programs.options import DistillOptions, Preset, TeacherOptions

RECIPE: dict[str, Any] = {
    "dataset": "digits",
    "epochs": 20,
    "batch_size": 64,
    "optimizer": "adamw",
    "learning_rate": 3e-3,
    "weight_decay": 1e-2,
    "warmup_epochs": 2,
    "augment": "crop(1)",
}

PRESET = Preset(
    distill=DistillOptions(student="spiking-conv", teacher="convnet", views=8, **RECIPE),
    teacher=TeacherOptions(teacher="convnet", **RECIPE),
)
