"""Data sets: images, or frames of events, and integer labels, split into train, validation and test.

Axis legend: N examples, T timesteps, H height, W width, C channels.
"""

import copy
import hashlib
import json
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike

from sealkd_jax.data._remedies import channels_first, for_images, for_labels
from sealkd_jax.errors import InputError

SPLITS = ("train", "validation", "test")


class Images(Protocol):
    """Images that are read from disk when they are needed, uint8 `[N, H, W, C]` in all."""

    shape: tuple[int, ...]
    dtype: np.dtype

    def read(self, index: np.ndarray) -> np.ndarray:
        """The images at `index`, integers `[K]`, as one array `[K, H, W, C]`."""


class OnDemand:
    """A selection of other images, or of an array that may be memory-mapped, as `Images`.

    Args:
        images: an array or `Images`.
        index: the selection, integers `[N]`, in this order; all images if None.
    """

    def __init__(self, images: np.ndarray | Images, index: np.ndarray | None = None):
        self._images, self._index = images, np.arange(images.shape[0]) if index is None else index
        self.shape, self.dtype = (len(self._index), *images.shape[1:]), np.dtype(images.dtype)

    def read(self, index: np.ndarray) -> np.ndarray:
        """The images at `index`, integers `[K]`, as one array `[K, H, W, C]`."""
        return take(self._images, self._index[index])


class Split(NamedTuple):
    """Images uint8 `[N, H, W, C]`, or frames of events uint8 or uint16 `[N, T, H, W, 2]`; labels int32 `[N]`."""

    images: np.ndarray | Images
    labels: np.ndarray


class Statistics(NamedTuple):
    """What needs all training pixels: see the properties of `Dataset` of these names."""

    mean: np.ndarray
    std: np.ndarray
    fingerprint: str


class Dataset:
    """Three splits of one data set. A run evaluates the test split once, at its very end.

    Args:
        name: name of the data set in options and reports.
        train: see `Split`.
        validation: the split that the epoch is chosen on.
        test: as the other two.
        classes: names of the classes; labels index into it.
        statistics: computed from the training images if None.

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
        statistics: Statistics | None = None,
    ):
        self.name, self.classes = name, classes
        self.train, self.validation, self.test = map(_as_arrays, (train, validation, test))
        if statistics is not None:
            self.statistics = statistics
        for split in SPLITS:
            _check(f"{name}: {split}", getattr(self, split), self.train.images.shape[1:], len(classes))

    @cached_property
    def statistics(self) -> Statistics:
        """Mean, standard deviation and fingerprint of the training split, from one pass over its images."""
        return _measure(self.train)

    @property
    def frames(self) -> int | None:
        """T of recordings of events; None for static images."""
        return self.train.images.shape[1] if len(self.train.images.shape) == 5 else None

    @property
    def mean(self) -> np.ndarray:
        """Mean of each channel over the training images, float64 `[C]`, with pixels in [0, 1].

        0 for frames of events, so that a cell without events is 0 for the network.
        """
        return np.zeros_like(self.statistics.mean) if self.frames else self.statistics.mean

    @property
    def std(self) -> np.ndarray:
        """Standard deviation of each channel over the training images, float64 `[C]`, with pixels in [0, 1].

        1 for a channel that never changes.
        """
        return self.statistics.std

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the training images, their labels and the names of the classes: what a teacher belongs to."""
        return _sha256([self.statistics.fingerprint, *self.classes])

    @cached_property
    def splits_fingerprint(self) -> str:
        """SHA-256 of all three splits: what a run belongs to. Reads all images of validation and test."""
        return _sha256([self.fingerprint, _measure(self.validation).fingerprint, _measure(self.test).fingerprint])

    def rescaled(self, mean: ArrayLike, std: ArrayLike) -> "Dataset":
        """The same data with this mean and deviation `[C]` of the channels, such as those of an imported network."""
        other = copy.copy(self)
        other.statistics = self.statistics._replace(mean=np.asarray(mean, np.float64), std=np.asarray(std, np.float64))
        return other

    def in_memory(self) -> "Dataset":
        """The same data with all images read now."""
        return self._with_images(
            lambda images: images if isinstance(images, np.ndarray) else take(images, range(images.shape[0]))
        )

    def on_demand(self) -> "Dataset":
        """The same data with images that are read when they are needed."""
        return self._with_images(lambda images: OnDemand(images) if isinstance(images, np.ndarray) else images)

    def with_fewer(self, examples: int) -> "Dataset":
        """The same data with `examples` training examples: a fixed, stratified subset.

        Mean and deviation are still those of the full split; the fingerprint covers the split and the selection.

        Raises:
            InputError: if there are fewer examples, or not one of each class can be taken and left out.
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
        statistics = self.statistics._replace(fingerprint=digest)
        return Dataset(self.name, Split(part, labels[chosen]), self.validation, self.test, self.classes, statistics)

    def _with_images(self, change: Callable[[np.ndarray | Images], np.ndarray | Images]) -> "Dataset":
        other = copy.copy(self)
        for name in SPLITS:
            images, labels = getattr(self, name)
            setattr(other, name, Split(change(images), labels))
        return other


def _sha256(texts: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def _measure(split: Split) -> Statistics:
    """One pass over the pixels. The sums are exact, so mean and deviation do not depend on the size of a block."""
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
    return Statistics(mean / 255, np.where(std > 0, std, 1), digest.hexdigest())


def _blocks(images: np.ndarray | Images, nbytes: int = 2**22) -> Iterator[np.ndarray]:
    """The images in order, in contiguous arrays of about `nbytes`."""
    size = max(1, nbytes // int(np.prod(images.shape[1:]) * np.dtype(images.dtype).itemsize))
    for first in range(0, images.shape[0], size):
        yield take(images, range(first, min(first + size, images.shape[0])))


def take(images: np.ndarray | Images, index: Sequence[int] | np.ndarray) -> np.ndarray:
    """The images at `index`, as one contiguous array."""
    index = np.asarray(index)
    return np.ascontiguousarray(images[index]) if isinstance(images, np.ndarray) else images.read(index)


def hold_out(labels: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Splits off `count` examples for validation: a fixed, stratified choice.

    Returns:
        Indices of the examples that stay for training, and of those held out, both rising.
    """
    from sklearn.model_selection import train_test_split

    rest, held_out = train_test_split(np.arange(len(labels)), test_size=count, stratify=labels, random_state=0)
    return np.sort(rest), np.sort(held_out)


def hold_out_for_validation(
    labels: np.ndarray, count: int, where: object, instead: str
) -> tuple[np.ndarray, np.ndarray]:
    """`hold_out`, with an error that says `where` the labels are and what to give `instead`."""
    try:
        return hold_out(labels, count)
    except ValueError as error:
        raise InputError(
            f"{where}: no tenth of each class can be held out for validation ({error}); give {instead}"
        ) from error


def prepare_command(name: str, data_dir: Path) -> str:
    """The command that downloads and prepares a data set."""
    return f"sealkd prepare {name} --data-dir {shlex.quote(str(data_dir))}"


def directory_name(text: str) -> str:
    """`text` reduced to letters, digits, `.`, `_` and `-`, for the name of a directory; it may come out empty."""
    return re.sub(r"[^\w.-]+", "-", text).strip(".-")


def _as_arrays(split: Split) -> Split:
    """The split with NumPy arrays for other arrays; images that are read on demand stay as they are."""
    images, labels = split
    if isinstance(labels, np.ndarray) and (isinstance(images, np.ndarray) or hasattr(images, "read")):
        return split
    return Split(images if hasattr(images, "read") else np.asarray(images), np.asarray(labels))


def _check(where: str, split: Split, image_shape: tuple[int, ...], classes: int) -> None:
    images, labels = split
    shape, dtype = images.shape, np.dtype(images.dtype)
    static = len(shape) == 4 and dtype == np.uint8 and not channels_first(shape)
    events = len(shape) == 5 and shape[-1] == 2 and dtype in (np.uint8, np.uint16)
    if not (static or events) or shape[1:] != image_shape or not all(shape):
        remedy = for_images("images", images, labels.size) if isinstance(images, np.ndarray) else ""
        if len(shape) == 3 and dtype == np.uint8:
            remedy = remedy or "; write images = images[..., None]"
        raise InputError(
            f"{where} images: expected uint8 [N, H, W, C], or frames of events uint8 or uint16 [N, T, H, W, 2], with "
            f"N >= 1 and the same shape in each split; got {dtype} {list(shape)}{remedy}"
        )
    if labels.shape != shape[:1] or labels.dtype != np.int32:
        of_another_width = labels.shape == shape[:1] and labels.dtype.kind in "iu"
        cast = "; write labels = labels.astype(np.int32)"
        remedy = cast if of_another_width else for_labels("labels", labels, shape[0])
        raise InputError(
            f"{where} labels: expected int32 [{shape[0]}], one for each image; got {labels.dtype} "
            f"{list(labels.shape)}{remedy}"
        )
    if classes < 2:
        raise InputError(f"{where} labels: {classes} class; expected at least two classes")
    if labels.min() < 0 or labels.max() >= classes:
        remedy = "; subtract 1" if labels.min() > 0 and labels.max() == classes else ""
        raise InputError(
            f"{where} labels: expected 0 to {classes - 1}, one of {classes} classes; "
            f"got {labels.min()} to {labels.max()}{remedy}"
        )
