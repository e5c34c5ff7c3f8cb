"""Weights for a published network that follow from the names and shapes of its arrays, with and without PyTorch."""

import zlib

import numpy as np

CASES = {
    # name: width, side of the images
    "resnet20b": (1 / 4, 16),
    "cifar-resnet18": (1 / 16, 32),
    "cifar-resnet50": (1 / 16, 32),
    "resnet18-7x7": (1 / 16, 32),
    "resnet50-3x3": (1 / 16, 32),
    "vgg11": (1 / 16, 32),
    "vgg16-512": (1 / 16, 32),
    "vgg11-4096": (1 / 64, 64),
    "wideresnet28-10": (1 / 16, 16),
}
"""The networks that are compared, small, and how."""
CLASSES = 5


def make_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """float64 arrays of these shapes, with which activations neither vanish nor explode."""
    return {name: _array(name, shape) for name, shape in shapes.items()}


def _array(name: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
        return rng.uniform(0.5, 1.5, shape)
    inputs = int(np.prod(shape[1:])) if name.endswith("weight") else 25
    return rng.normal(size=shape) * (2 / inputs) ** 0.5


def make_images(side: int) -> np.ndarray:
    """Two images `[2, side, side, 3]`."""
    return np.random.default_rng(0).normal(size=(2, side, side, 3))
