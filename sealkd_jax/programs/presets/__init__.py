"""Presets by name, each a module whose docstring says data, command, time, and the accuracy to expect and seen."""

from sealkd_jax.programs.presets import (
    cifar10,
    cifar10_cpu,
    cifar10_dvs,
    cifar10_fast,
    cifar100,
    digits,
    dvs_gesture,
    fashion_mnist,
    imagenet,
    nmnist,
)

PRESETS = {
    "digits": digits.PRESET,
    "cifar10": cifar10.PRESET,
    "cifar10-fast": cifar10_fast.PRESET,
    "cifar10-cpu": cifar10_cpu.PRESET,
    "cifar100": cifar100.PRESET,
    "imagenet": imagenet.PRESET,
    "fashion-mnist": fashion_mnist.PRESET,
    "nmnist": nmnist.PRESET,
    "dvs-gesture": dvs_gesture.PRESET,
    "cifar10-dvs": cifar10_dvs.PRESET,
}
DEFAULT = "digits"
