"""Presets by name, each a module whose docstring says command, time, hardware and accuracy."""

from train.presets import cifar10, cifar10_dvs, cifar100, digits, dvs_gesture, fashion_mnist, nmnist

PRESETS = {
    "digits": digits.PRESET,
    "cifar10": cifar10.PRESET,
    "cifar100": cifar100.PRESET,
    "fashion-mnist": fashion_mnist.PRESET,
    "nmnist": nmnist.PRESET,
    "dvs-gesture": dvs_gesture.PRESET,
    "cifar10-dvs": cifar10_dvs.PRESET,
}
DEFAULT = "digits"
