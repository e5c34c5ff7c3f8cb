"""CIFAR10-DVS (events of a 128x128 sensor at 48x48, 10 classes): a spiking ResNet-18 at T = 10 from a ResNet-19.

    python -m train.distill cifar10-dvs --data-dir DIR

The paper's recipe of 300 epochs, with a teacher that sees the mean frame, on the split that this package publishes.
--student spiking-vgg is the network of Deng et al., ICLR 2022. Expected: 86.7 %, the paper's accuracy at the epoch that
is best on the test set. Not run: the data were not available. Difference from the authors' code: events are counted at
48x48, not resized bilinearly.
"""

from typing import Any

from sealkd_jax.programs.options import DistillOptions, Preset, TeacherOptions

RECIPE: dict[str, Any] = {
    "dataset": "cifar10-dvs",
    "epochs": 300,
    "optimizer": "sgd",
    "weight_decay": 5e-4,
    "timesteps": 10,
    "frame_by": "count",
    "augment": "flip | nda(2)",
}

PRESET = Preset(
    distill=DistillOptions(
        student="spiking-resnet18", teacher="resnet19", batch_size=32, learning_rate=0.1, views=16, **RECIPE
    ),
    teacher=TeacherOptions(teacher="resnet19", batch_size=128, learning_rate=0.2, **RECIPE),
)
