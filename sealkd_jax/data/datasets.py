"""Data sets: images, or frames of events, and integer labels, split into train, validation and test.

Axis legend: N examples, T timesteps, H height, W width, C channels.
"""

import copy
import hashlib
import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike

from sealkd_jax.errors import InputError


class Images(Protocol):
    """What a split's images can be besides an array: read from disk one by one, uint8 `[H, W, C]` each."""

    shape: tuple[int, ...]
    dtype: np.dtype

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> np.ndarray: ...


class OnDemand:
    """An array, or a part of other images, as images that are read one by one; see `Images`.

    Args:
        images: an array, memory-mapped perhaps, or images that are themselves read one by one.
        index: which of them, in which order; all where not given.
    """

    def __init__(self, images: np.ndarray | Images, index: np.ndarray | None = None):
        self._images, self._index = images, np.arange(len(images)) if index is None else index
        self.shape, self.dtype = (len(self._index), *images.shape[1:]), np.dtype(images.dtype)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._images[int(self._index[index])]


class Split(NamedTuple):
    """Images uint8 `[N, H, W, C]`, or frames of events uint8 or uint16 `[N, T, H, W, 2]`; labels int32 `[N]`."""

    images: np.ndarray | Images
    labels: np.ndarray


class Dataset:
    """Three splits of one data set. The test split is looked at once, at the very end of a run.

    Args:
        name: what the data set is called in options and reports.
        train: see `Split`.
        validation: to choose the epoch by.
        test: as the other two.
        classes: the names of the classes; labels index into it.
        facts: what else would be computed from all the pixels.

    Raises:
        InputError: if images are neither uint8 `[N, H, W, C]` nor counts `[N, T, H, W, 2]`, a split is empty, or
            labels are not `[N]` integers in `[0, len(classes))`.
    """

    def __init__(
        self,
        name: str,
        train: Split,
        validation: Split,
        test: Split,
        classes: tuple[str, ...],
        facts: "Facts | None" = None,
    ):
        self.name, self.classes = name, classes
        if facts is not None:
            self._facts = facts
        self.train, self.validation, self.test = train, validation, test
        for split_name in ("train", "validation", "test"):
            _check(f"{name}: {split_name}", getattr(self, split_name), train.images.shape[1:], len(classes))

    @property
    def frames(self) -> int | None:
        """T of recordings of events; None for static images."""
        return self.train.images.shape[1] if len(self.train.images.shape) == 5 else None

    @property
    def mean(self) -> np.ndarray:
        """Mean of each channel over the training images, float64 `[C]`, with pixels in [0, 1].

        0 for frames of events: where nothing happened, the network gets nothing.
        """
        return np.zeros_like(self._facts.mean) if self.frames else self._facts.mean

    @property
    def std(self) -> np.ndarray:
        """Standard deviation of each channel over the training images, float64 `[C]`, with pixels in [0, 1].

        1 for a channel that never changes.
        """
        return self._facts.std

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the training images and labels: what precomputed teacher logits belong to."""
        return self._facts.fingerprint

    def rescaled(self, mean: ArrayLike, std: ArrayLike) -> "Dataset":
        """The same data with this mean and deviation `[C]` of the channels, such as those of an imported network."""
        other = copy.copy(self)
        other._facts = self._facts._replace(mean=np.asarray(mean, np.float64), std=np.asarray(std, np.float64))
        return other

    def in_memory(self) -> "Dataset":
        """The same data with all images read now."""
        train, validation, test = (
            Split(take(s.images, range(len(s.labels))), s.labels) for s in (self.train, self.validation, self.test)
        )
        return Dataset(self.name, train, validation, test, self.classes, self._facts)

    def with_fewer(self, examples: int) -> "Dataset":
        """The same data with only so many training examples: stratified, always the same, the rest left out.

        Mean and deviation of the channels stay those of all of them; the fingerprint is of theirs and the choice.

        Raises:
            InputError: if there are not so many, or not one of each class can be taken and left out.
        """
        images, labels = self.train
        if examples == len(labels):
            return self
        try:
            _, chosen = hold_out(labels, examples)
        except ValueError as error:
            raise InputError(f"{examples} of the {len(labels)} training examples of {self.name}: {error}") from error
        part = take(images, chosen) if isinstance(images, np.ndarray) else OnDemand(images, chosen)
        digest = hashlib.sha256(self.fingerprint.encode() + chosen.astype("<i8").tobytes()).hexdigest()
        facts = self._facts._replace(fingerprint=digest)
        return Dataset(self.name, Split(part, labels[chosen]), self.validation, self.test, self.classes, facts)

    @cached_property
    def _facts(self) -> "Facts":
        return _facts(self.train)


class Facts(NamedTuple):
    """See the properties of `Dataset` of these names."""

    mean: np.ndarray
    std: np.ndarray
    fingerprint: str


def _facts(split: Split) -> Facts:
    """All that needs the pixels, in one pass. Sums are exact, so mean and deviation do not depend on the blocks."""
    images, labels = split
    digest = hashlib.sha256(f"{np.dtype(images.dtype).str}{images.shape}".encode())
    total, squares = np.zeros((2, images.shape[-1]))
    for block in _blocks(images):
        digest.update(block)
        flat = block.reshape(-1, images.shape[-1]).astype(np.float64)
        total += flat.sum(0)
        squares += np.einsum("ij,ij->j", flat, flat)
    count = np.prod(images.shape[:-1], dtype=np.float64)
    mean = total / count
    digest.update(f"{labels.dtype.str}{labels.shape}".encode())
    digest.update(np.ascontiguousarray(labels))
    std = np.sqrt(np.maximum(squares / count - mean**2, 0)) / 255
    return Facts(mean / 255, np.where(std > 0, std, 1), digest.hexdigest())


def _blocks(images: np.ndarray | Images, nbytes: int = 2**22) -> Iterator[np.ndarray]:
    """The images in order, contiguous arrays of about `nbytes`."""
    size = max(1, nbytes // int(np.prod(images.shape[1:]) * np.dtype(images.dtype).itemsize))
    for first in range(0, len(images), size):
        yield take(images, range(first, min(first + size, len(images))))


def take(images: np.ndarray | Images, index: Any) -> np.ndarray:
    """The images at `index`, as one contiguous array."""
    if isinstance(images, np.ndarray):
        return np.ascontiguousarray(images[np.asarray(index)])
    return np.stack([images[int(i)] for i in index])


def hold_out(labels: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Which examples stay for training and which `count` are held out for validation: stratified, always the same.

    Returns:
        two index arrays in rising order.
    """
    from sklearn.model_selection import train_test_split

    rest, held_out = train_test_split(np.arange(len(labels)), test_size=count, stratify=labels, random_state=0)
    return np.sort(rest), np.sort(held_out)


def hold_out_for_validation(
    labels: np.ndarray, count: int, where: object, instead: str
) -> tuple[np.ndarray, np.ndarray]:
    """`hold_out`; its error says `where` the labels are, and what to give `instead`."""
    try:
        return hold_out(labels, count)
    except ValueError as error:
        raise InputError(
            f"{where}: no tenth of each class can be held out for validation ({error}); give {instead}"
        ) from error


def directory_name(text: str) -> str:
    """`text` as a part of directories' names: letters, digits, `.`, `_` and `-`; perhaps nothing is left."""
    return re.sub(r"[^\w.-]+", "-", text).strip(".-")


def _check(where: str, split: Split, image_shape: tuple[int, ...], classes: int) -> None:
    images, labels = split
    shape, dtype = images.shape, np.dtype(images.dtype)
    static = len(shape) == 4 and dtype == np.uint8
    events = len(shape) == 5 and shape[-1] == 2 and dtype in (np.uint8, np.uint16)
    if not (static or events) or shape[1:] != image_shape or not shape[0]:
        raise InputError(
            f"{where} images: expected uint8 [N, H, W, C], or frames of events uint8 or uint16 [N, T, H, W, 2], with "
            f"N >= 1 and the same shape in each split; got {dtype} {list(shape)}"
        )
    if labels.shape != images.shape[:1] or labels.dtype != np.int32:
        raise InputError(
            f"{where} labels: expected int32 [{len(images)}], one for each image; "
            f"got {labels.dtype} {list(labels.shape)}"
        )
    if classes < 2:
        raise InputError(f"{where} labels: of {classes} class; expected two classes at least")
    if labels.min() < 0 or labels.max() >= classes:
        raise InputError(
            f"{where} labels: expected 0 to {classes - 1}, one of {classes} classes; "
            f"got {labels.min()} to {labels.max()}"
        )
