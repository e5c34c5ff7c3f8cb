"""CIFAR-10 on an H200 in four minutes: a spiking ResNet-18 at T = 4 from a ResNet-18.

    python -m train.distill cifar10-fast

Time: 237 s on an H200 from start to report, for a teacher of 20 epochs and a student of 40 (seed 0, images from an npz
file). Seen: teacher 91.71 %, student 92.50 % of the test images, 91.21 % after one timestep (docs/comparisons.md).
Expected: the same within half a point.
"""

from sealkd_jax.programs.options import make_preset

PRESET = make_preset(
    dataset="cifar10",
    teacher="resnet18",
    batch_size=256,
    optimizer="sgd",
    learning_rate=0.2,
    weight_decay=5e-4,
    warmup_epochs=2,
    augment="crop(4) | flip | cutout(0.25)",
    precision="bfloat16",
    for_student={"student": "spiking-resnet18", "timesteps": 4, "epochs": 40, "views": 16},
    for_teacher={"epochs": 20},
)
