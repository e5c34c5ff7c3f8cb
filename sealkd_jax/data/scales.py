"""How the numbers of an image become those that a network was trained with."""

import numpy as np

from sealkd_jax.data.datasets import Dataset
from sealkd_jax.errors import InputError

SCALES = {
    # Mean and standard deviation with which PyTorch's networks are usually trained, on CIFAR too.
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "unit": ((0.0,), (1.0,)),  # 0 to 1
    "symmetric": ((0.5,), (0.5,)),  # -1 to 1
    "pixels": ((0.0,), (1 / 255,)),  # 0 to 255
}
"""Mean and standard deviation of the channels, for pixels in [0, 1]; one for all channels, or one for each."""
SCALE_NAMES = (*SCALES, "dataset")


def mean_and_std(dataset: Dataset, scale: str, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation `[channels]` that a network's images are normalised with.

    Args:
        dataset: whose own mean and deviation `dataset` means.
        scale: a name of `SCALE_NAMES`.
        channels: of the images that the network sees.

    Raises:
        InputError: for a scale that has another number of channels.
    """
    mean, std = (dataset.mean, dataset.std) if scale == "dataset" else map(np.asarray, SCALES[scale])
    if len(mean) not in (1, channels):
        raise InputError(f"scale {scale}: expected RGB images, which those of {dataset.name} are not; use dataset")
    return np.broadcast_to(mean, channels), np.broadcast_to(std, channels)
