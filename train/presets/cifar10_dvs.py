"""CIFAR10-DVS (events of a 128x128 sensor at 48x48, 10 classes), on the split that is published in this package.

python -m train.distill cifar10-dvs --data-dir DIR

A spiking VGG at T = 10 from a ResNet-18 on the mean frame.
"""

from train.options import DistillOptions, Preset, TeacherOptions

RECIPE = {
    "epochs": 300,
    "batch_size": 128,
    "optimizer": "sgd",
    "learning_rate": 0.1,
    "weight_decay": 5e-4,
    "timesteps": 10,
    "flip": True,
    "roll": 5,
}

PRESET = Preset(
    distill=DistillOptions(dataset="cifar10-dvs", student="spiking-vgg", teacher="resnet18", views=16, **RECIPE),
    teacher=TeacherOptions(dataset="cifar10-dvs", teacher="resnet18", **RECIPE),
)
