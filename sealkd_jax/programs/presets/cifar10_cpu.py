"""CIFAR-10 on two CPU cores in an hour and a half: a four-convolution student at T = 4 from a narrow ResNet-18.

    python -m train.distill cifar10-cpu

Time: a quarter of an hour for the teacher and 71 minutes for the student (210 images per second on two cores of an
Intel Xeon, before gradients became faster). Expected and seen, one seed: 82.77 % ± 0.38 (one standard error of the test
set), teacher 83.47 %.
"""

from typing import Any

from sealkd_jax.programs.options import DistillOptions, Preset, TeacherOptions

RECIPE: dict[str, Any] = {
    "dataset": "cifar10",
    "batch_size": 64,
    "optimizer": "adamw",
    "learning_rate": 3e-3,
    "weight_decay": 1e-2,
    "warmup_epochs": 1,
    "augment": "crop(4) | flip",
}

PRESET = Preset(
    distill=DistillOptions(
        student="spiking-conv4", teacher="resnet18", teacher_width=0.25, views=4, epochs=20, **RECIPE
    ),
    teacher=TeacherOptions(teacher="resnet18", teacher_width=0.25, epochs=7, **RECIPE),
)
