"""Data sets that fit into memory: uint8 images and integer labels, split into train, validation and test.

Axis legend: N examples, H height, W width, C channels.
"""

import hashlib
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import numpy as np

from sealkd_jax.errors import InputError


class Split(NamedTuple):
    """Images uint8 `[N, H, W, C]` and labels int32 `[N]`."""

    images: np.ndarray
    labels: np.ndarray


class Dataset:
    """Three splits of one data set. The test split is looked at once, at the very end of a run.

    Args:
        name: what the data set is called in options and reports.
        train, validation, test: see `Split`.
        classes: the names of the classes; labels index into it.

    Raises:
        InputError: if images are not uint8 `[N, H, W, C]`, a split is empty, or labels are not `[N]` integers
            in `[0, len(classes))`.
    """

    def __init__(self, name: str, train: Split, validation: Split, test: Split, classes: tuple[str, ...]):
        self.name, self.classes = name, classes
        self.train, self.validation, self.test = train, validation, test
        for split_name in ("train", "validation", "test"):
            _check(f"{name}: {split_name}", getattr(self, split_name), train.images.shape[1:], len(classes))

    @cached_property
    def mean(self) -> np.ndarray:
        """Mean of each channel over the training images, float64 `[C]`, with pixels in [0, 1]."""
        return self.train.images.mean((0, 1, 2), dtype=np.float64) / 255

    @cached_property
    def std(self) -> np.ndarray:
        """Standard deviation of each channel over the training images, float64 `[C]`, with pixels in [0, 1]."""
        return self.train.images.std((0, 1, 2), dtype=np.float64) / 255

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the training images and labels: what precomputed teacher logits belong to."""
        digest = hashlib.sha256()
        for array in self.train:
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array))
        return digest.hexdigest()


def _check(where: str, split: Split, image_shape: tuple[int, ...], classes: int) -> None:
    images, labels = split
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != image_shape or not len(images):
        raise InputError(
            f"{where} images: expected uint8 [N, H, W, C] with N >= 1, the same H, W, C in each split; "
            f"got {images.dtype} {list(images.shape)}"
        )
    if labels.shape != images.shape[:1] or labels.dtype != np.int32:
        raise InputError(
            f"{where} labels: expected int32 [{len(images)}], one for each image; "
            f"got {labels.dtype} {list(labels.shape)}"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise InputError(
            f"{where} labels: expected 0 to {classes - 1}, one of {classes} classes; "
            f"got {labels.min()} to {labels.max()}"
        )


def _digits() -> Dataset:
    """scikit-learn's handwritten digits, 8x8, 1,797 images; comes with the package, nothing is downloaded.

    The split is fixed and stratified: 1,257 train, 180 validation, 360 test.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]  # 0..16 -> 0..255, invertible
    labels = digits.target.astype(np.int32)
    rest, test = train_test_split(np.arange(len(labels)), test_size=360, stratify=labels, random_state=0)
    train, validation = train_test_split(rest, test_size=180, stratify=labels[rest], random_state=0)
    splits = (Split(images[part], labels[part]) for part in (train, validation, test))
    return Dataset("digits", *splits, classes=tuple("0123456789"))


DATASETS: dict[str, Callable[[], Dataset]] = {"digits": _digits}


def load(name: str) -> Dataset:
    """Loads the data set of that name.

    Raises:
        InputError: if there is none of that name.
    """
    if name not in DATASETS:
        raise InputError(f"dataset {name!r}: unknown; expected one of {', '.join(DATASETS)}")
    return DATASETS[name]()
