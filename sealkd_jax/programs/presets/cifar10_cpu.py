"""CIFAR-10 on two CPU cores in an hour and a half: a four-convolution student at T = 4 from a narrow ResNet-18.

    python -m train.distill cifar10-cpu

Time: a quarter of an hour for the teacher and 71 minutes for the student (210 images per second on two cores of an
Intel Xeon, before gradients became faster). Expected and seen, one seed: 82.77 % ± 0.38 (one standard error of the test
set), teacher 83.47 %.
"""

from sealkd_jax.programs.options import make_preset

PRESET = make_preset(
    dataset="cifar10",
    teacher="resnet18",
    teacher_width=0.25,
    batch_size=64,
    optimizer="adamw",
    learning_rate=3e-3,
    weight_decay=1e-2,
    warmup_epochs=1,
    augment="crop(4) | flip",
    for_student={"student": "spiking-conv4", "views": 4, "epochs": 20},
    for_teacher={"epochs": 7},
)
