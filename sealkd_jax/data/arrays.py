"""A user's own arrays, from one `.npz` file.

Axis legend: N examples, H height, W width, C channels.
"""

import warnings
from itertools import combinations
from pathlib import Path

import numpy as np

from sealkd_jax.data._left_out import is_hidden
from sealkd_jax.data._remedies import axis_of_examples, channels_first, for_images, for_labels, renumbered
from sealkd_jax.data.datasets import Dataset, Split, directory_name, hold_out_for_validation, take
from sealkd_jax.errors import InputError
from sealkd_jax.files import read_npz

NEEDED = ("x_train", "y_train", "x_test", "y_test")
KEYS = (*NEEDED, "x_val", "y_val", "classes")


def load_npz(path: Path) -> Dataset:
    """Reads `x_train`, `y_train`, `x_test`, `y_test`, and if present `x_val`, `y_val` and `classes`.

    Images are uint8 `[N, H, W, C]` or `[N, H, W]`, or frames of events uint8 or uint16 `[N, T, H, W, 2]`. Labels are
    integers `[N]` or `[N, 1]`, each of 0, 1, 2, … at least once in `y_train` unless `classes` has the names. Without
    `x_val`, a tenth of the training examples is held out (`hold_out`). The data set has the file's name.

    Warns of keys that are not read, and of images that are unusual: more than four channels, no pixel above 1, the same
    array in two splits.

    Raises:
        InputError: if the file is missing or damaged, or lacks an array or has one of another kind.
    """
    arrays = _read(path)
    if ("x_val" in arrays) != ("y_val" in arrays):
        raise InputError(f"{path}: {'x_val' if 'x_val' in arrays else 'y_val'} alone; expected both or neither")
    splits = {part: _split(path, arrays, part) for part in ("train", "val", "test") if f"x_{part}" in arrays}
    train, test = splits["train"], splits["test"]
    classes = _classes(path, arrays.get("classes"), train.labels)
    _warn_of_unusual(path, arrays)
    if "val" in splits:
        validation = splits["val"]
    else:
        count = len(train.labels) // 10
        rest, held_out = hold_out_for_validation(train.labels, count, f"{path}: y_train", "x_val, y_val")
        train, validation = (Split(take(train.images, index), train.labels[index]) for index in (rest, held_out))
    try:
        return Dataset(directory_name(path.stem) or "npz", train, validation, test, classes)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of `KEYS` that the file has, at least those of `NEEDED`."""

    def check(members: list[str]) -> None:
        found = [name for name in members if not is_hidden(name)]
        if missing := [key for key in NEEDED if key not in found]:
            raise InputError(
                f"{path}: no {', '.join(missing)}; expected the keys {', '.join(NEEDED)}; "
                f"found {', '.join(found[:9]) or 'none'}"
            )
        others.extend(name for name in found if name not in KEYS)

    others: list[str] = []
    arrays = read_npz(path, KEYS, check)
    if others:
        text = f"{', '.join(others[:9])}; the keys are {', '.join(KEYS)}"
        warnings.warn(f"{path}: {len(others)} keys are not read: {text}", stacklevel=4)
    return arrays


def _split(path: Path, arrays: dict[str, np.ndarray], part: str) -> Split:
    (x, images), (y, labels) = ((key, arrays[key]) for key in (f"x_{part}", f"y_{part}"))
    if images.ndim < 3 <= labels.ndim:
        raise InputError(f"{path}: {x} {list(images.shape)} and {y} {list(labels.shape)} are exchanged")
    static = images.ndim in (3, 4) and images.dtype == np.uint8 and not channels_first(images.shape)
    frames = images.ndim == 5 and images.dtype in (np.uint8, np.uint16) and images.shape[-1] == 2
    if not (static or frames) or not images.size or axis_of_examples(images.shape, labels.size):
        raise InputError(
            f"{path}: {x}: expected uint8 [N, H, W, C] or [N, H, W], pixels from 0 to 255, or frames of events, "
            f"uint8 or uint16 [N, T, H, W, 2]; got {images.dtype} {list(images.shape)}"
            f"{for_images(x, images, labels.size)}"
        )
    if labels.dtype.kind not in "iu" or labels.shape not in ((len(images),), (len(images), 1)):
        as_many = [f", as many as {key}" for key in arrays if key[0] == "x" and arrays[key].shape[:1] == (labels.size,)]
        raise InputError(
            f"{path}: {y}: expected integers [{len(images)}], one for each image of {x}; "
            f"got {labels.dtype} {list(labels.shape)}{for_labels(y, labels, len(images)) or ''.join(as_many)}"
        )
    if labels.min() < 0 or labels.max() >= 2**31:
        raise InputError(
            f"{path}: {y}: expected labels from 0; got {labels.min()} to {labels.max()}; leave out examples without a "
            f"label, or write {renumbered(y)}"
        )
    return Split(images[..., None] if images.ndim == 3 else images, labels.reshape(-1).astype(np.int32))


def _classes(path: Path, names: np.ndarray | None, labels: np.ndarray) -> tuple[str, ...]:
    """The names of the classes; without names, the numbers up to the largest training label."""
    if names is None:
        found = np.unique(labels)
        if found[-1] >= len(found):
            absent = int(np.argmax(found != np.arange(len(found))))
            raise InputError(
                f"{path}: y_train: labels from {found[0]} to {found[-1]}, but none is {absent}; expected each of 0, 1, "
                f"2, …: write {renumbered('y_train')}, and likewise the other labels; or add the names of all classes "
                "as classes"
            )
        return tuple(map(str, range(len(found))))
    if names.ndim != 1 or names.dtype.kind != "U":
        text = "; write classes = classes.astype(str)" if names.dtype.kind == "S" else ""
        raise InputError(f"{path}: classes: expected names, strings [C]; got {names.dtype} {list(names.shape)}{text}")
    if len(set(names)) < len(names) or not all(map(str.isprintable, names.tolist())):
        raise InputError(f"{path}: classes: expected different names that can be printed; got {names.tolist()[:9]}")
    return tuple(map(str, names))


def _warn_of_unusual(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Warns of what may be a mistake in images that can be read."""
    images = arrays["x_train"]
    if images.ndim == 4 and images.shape[-1] > 4:
        _, height, width, channels = images.shape
        warnings.warn(f"{path}: x_train: read as {height} x {width} pixels of {channels} channels", stacklevel=4)
    if images.ndim < 5 and images.max() <= 1:
        remedy = "write np.round(x * 255).astype(np.uint8)"
        warnings.warn(f"{path}: x_train: no pixel is above 1; if x was in [0, 1], {remedy}", stacklevel=4)
    for one, other in combinations([key for key in KEYS if key[0] == "x" and key in arrays], 2):
        if np.array_equal(arrays[one], arrays[other]):
            warnings.warn(f"{path}: {one} and {other} are the same images", stacklevel=4)
