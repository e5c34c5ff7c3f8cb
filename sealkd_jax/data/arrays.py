"""A user's own arrays, from one `.npz` file.

Axis legend: N examples, H height, W width, C channels.
"""

import zipfile
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from sealkd_jax.data.datasets import Dataset, Split, directory_name, hold_out_for_validation, take
from sealkd_jax.errors import InputError
from sealkd_jax.files import read_npy_header

NEEDED = ("x_train", "y_train", "x_test", "y_test")
KEYS = (*NEEDED, "x_val", "y_val", "classes")
DEFLATE = 1032  # most bytes that one byte of a zip archive can expand to; https://zlib.net/zlib_tech.html


def load_npz(path: Path) -> Dataset:
    """Reads `x_train`, `y_train`, `x_test`, `y_test`, and if present `x_val`, `y_val` and `classes`.

    Images are uint8 `[N, H, W, C]` or `[N, H, W]`, or frames of events uint8 or uint16 `[N, T, H, W, 2]`. Labels are
    integers `[N]` or `[N, 1]` from 0; `classes` are their names. Other keys are ignored. Without `x_val`, a tenth of
    the training examples is held out (`hold_out`). The data set has the file's name.

    Raises:
        InputError: if the file is missing or damaged, or lacks an array or has one of another kind.
    """
    arrays = _read(path)
    if missing := [key for key in NEEDED if key not in arrays]:
        raise InputError(f"{path}: no {', '.join(missing)}; expected the keys {', '.join(NEEDED)}")
    if ("x_val" in arrays) != ("y_val" in arrays):
        raise InputError(f"{path}: {'x_val' if 'x_val' in arrays else 'y_val'} alone; expected both or neither")
    train, test = (_split(path, arrays, part) for part in ("train", "test"))
    classes = _classes(path, arrays.get("classes"), train.labels)
    if "x_val" in arrays:
        validation = _split(path, arrays, "val")
    else:
        count = len(train.labels) // 10
        rest, held_out = hold_out_for_validation(train.labels, count, f"{path}: y_train", "x_val, y_val")
        train, validation = (Split(take(train.images, index), train.labels[index]) for index in (rest, held_out))
    try:
        return Dataset(directory_name(path.stem) or "npz", train, validation, test, classes)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of `KEYS` that the file has."""
    arrays, key = {}, ""
    try:
        with path.open("rb") as stream, zipfile.ZipFile(stream) as archive:
            members, size = set(archive.namelist()), path.stat().st_size
            for key in KEYS:
                if f"{key}.npy" in members:
                    arrays[key] = _read_array(archive, archive.getinfo(f"{key}.npy"), size)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except Exception as error:  # damaged bytes make zipfile and NumPy raise whatever their parsers meet
        where = f"{path}: {key}" if key else f"{path}"
        reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
        raise InputError(f"{where}: cannot be read ({reason}); expected an .npz archive, as of np.savez") from error
    return arrays


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, size: int) -> np.ndarray:
    """One array. Allocates nothing before its header and the archive agree about its size."""
    with archive.open(member) as stream:
        shape, _, dtype = read_npy_header(stream)
        if dtype.hasobject:
            raise ValueError("it has Python objects, which are never loaded")
        declared, held = int(np.prod(shape, dtype=object)) * dtype.itemsize, member.file_size - stream.tell()
        if declared != held or member.file_size > DEFLATE * size:
            raise ValueError(f"its header declares {declared} bytes, the archive {held}, in a file of {size}")
    with archive.open(member) as stream:
        return npy.read_array(stream, allow_pickle=False)


def _split(path: Path, arrays: dict[str, np.ndarray], part: str) -> Split:
    images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
    static = images.ndim in (3, 4) and images.dtype == np.uint8
    if not static and not (images.ndim == 5 and images.dtype in (np.uint8, np.uint16)):
        raise InputError(
            f"{path}: x_{part}: expected uint8 [N, H, W, C] or [N, H, W], pixels from 0 to 255, or frames of events, "
            f"uint8 or uint16 [N, T, H, W, 2]; got {images.dtype} {list(images.shape)}"
        )
    if labels.dtype.kind not in "iu" or labels.shape not in ((len(images),), (len(images), 1)):
        raise InputError(
            f"{path}: y_{part}: expected integers [{len(images)}], one for each image of x_{part}; "
            f"got {labels.dtype} {list(labels.shape)}"
        )
    if labels.size and (labels.min() < 0 or labels.max() >= 2**31):
        raise InputError(f"{path}: y_{part}: expected labels from 0; got {labels.min()} to {labels.max()}")
    return Split(images[..., None] if images.ndim == 3 else images, labels.reshape(-1).astype(np.int32))


def _classes(path: Path, names: np.ndarray | None, labels: np.ndarray) -> tuple[str, ...]:
    """The names of the classes; without names, the numbers up to the largest training label."""
    if names is None:
        largest = int(labels.max(initial=0))
        if largest > len(labels):
            raise InputError(f"{path}: y_train: label {largest} of {len(labels)} examples; expected 0, 1, 2, …")
        if labels.size and (least := labels.min()) > 0:
            raise InputError(
                f"{path}: y_train: labels from {least} to {largest}; expected from 0: subtract {least}, or add the "
                "names of all classes as classes"
            )
        return tuple(map(str, range(largest + 1)))
    if names.ndim != 1 or names.dtype.kind != "U":
        raise InputError(f"{path}: classes: expected names, strings [C]; got {names.dtype} {list(names.shape)}")
    return tuple(map(str, names))
