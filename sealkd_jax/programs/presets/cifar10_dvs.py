"""CIFAR10-DVS (events of a 128x128 sensor at 48x48, 10 classes): a spiking ResNet-18 at T = 10 from a ResNet-19.

    python -m train.distill cifar10-dvs --data-dir DIR

The paper's recipe of 300 epochs, with a teacher that sees the mean frame, on the split that this package publishes.
--student spiking-vgg is the network of Deng et al., ICLR 2022. Expected: 86.7 %, the paper's accuracy at the epoch that
is best on the test set. Not run: the data were not available. Difference from the authors' code: events are counted at
48x48, not resized bilinearly.
"""

from sealkd_jax.programs.options import make_preset

PRESET = make_preset(
    dataset="cifar10-dvs",
    timesteps=10,
    frame_by="count",
    teacher="resnet19",
    epochs=300,
    optimizer="sgd",
    weight_decay=5e-4,
    augment="flip | nda(2)",
    for_student={"student": "spiking-resnet18", "batch_size": 32, "learning_rate": 0.1, "views": 16},
    for_teacher={"batch_size": 128, "learning_rate": 0.2},
)
