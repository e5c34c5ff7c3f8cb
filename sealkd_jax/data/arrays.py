"""A user's own arrays, from one `.npz` file.

Axis legend: N examples, H height, W width, C channels.
"""

import zipfile
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from sealkd_jax.data.datasets import Dataset, Split, hold_out
from sealkd_jax.errors import InputError

WANTED = ("x_train", "y_train", "x_test", "y_test")


def load_npz(path: Path) -> Dataset:
    """Reads `x_train`, `y_train`, `x_test`, `y_test`, and where they are there `x_val`, `y_val` and `classes`.

    Images are uint8 `[N, H, W, C]` or `[N, H, W]`, labels integers `[N]` or `[N, 1]` from 0, `classes` the names of
    the classes. Without `x_val`, a tenth of the training examples is held out, stratified (`hold_out`).

    Raises:
        InputError: if the file is missing or damaged, lacks an array, or one is not as it should be.
    """
    try:
        with path.open("rb") as stream, zipfile.ZipFile(stream) as archive:
            arrays = {name: _read(archive, name) for name in _names(archive)}
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (
        OSError,
        EOFError,
        ValueError,
        KeyError,
        NotImplementedError,
        zipfile.BadZipFile,
        zipfile.zlib.error,
    ) as error:
        raise InputError(f"{path}: cannot be read as an .npz archive of arrays: {error}") from error
    if missing := [name for name in WANTED if name not in arrays]:
        raise InputError(f"{path}: expected {', '.join(WANTED)}; lacks {', '.join(missing)}")
    if ("x_val" in arrays) != ("y_val" in arrays):
        raise InputError(f"{path}: expected x_val and y_val together, or neither")
    splits = {name: _split(path, arrays, name) for name in ("train", "val", "test") if f"x_{name}" in arrays}
    names = arrays.get("classes")
    if names is None:
        names = np.arange(int(splits["train"].labels.max(initial=0)) + 1)
    train, validation = splits["train"], splits.get("val")
    if validation is None:
        try:
            rest, held_out = hold_out(train.labels, len(train.labels) // 10)
        except ValueError as error:
            raise InputError(
                f"{path}: no tenth can be held out of x_train for validation: {error}; give x_val"
            ) from error
        train, validation = (Split(train.images[index], train.labels[index]) for index in (rest, held_out))
    return Dataset(path.stem, train, validation, splits["test"], tuple(map(str, names)))


def _names(archive: zipfile.ZipFile) -> list[str]:
    """Those of our arrays that are there; others may be, and are left alone."""
    ours = {*WANTED, "x_val", "y_val", "classes"}
    return [name.removesuffix(".npy") for name in archive.namelist() if name.removesuffix(".npy") in ours]


def _read(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """One array, once its header agrees with the archive about how large it is."""
    member = archive.getinfo(f"{name}.npy")
    with archive.open(member) as stream:
        read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(npy.read_magic(stream))
        if read_header is None:
            raise ValueError(f"{name}: unknown version of the .npy format")
        shape, _, dtype = read_header(stream)
        if dtype.hasobject:
            raise ValueError(f"{name}: Python objects, which are not read; expected numbers")
        declared = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if declared + stream.tell() != member.file_size or member.file_size > 1032 * max(1, member.compress_size):
            raise ValueError(f"{name}: declares {declared} bytes, the archive holds {member.file_size}")
    with archive.open(member) as stream:
        return npy.read_array(stream, allow_pickle=False)


def _split(path: Path, arrays: dict[str, np.ndarray], name: str) -> Split:
    images, labels = arrays[f"x_{name}"], arrays[f"y_{name}"]
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise InputError(
            f"{path}: x_{name}: expected uint8 [N, H, W, C] or [N, H, W], pixels 0 to 255; "
            f"got {images.dtype} {list(images.shape)}"
        )
    if labels.dtype.kind not in "iu" or labels.shape not in ((len(images),), (len(images), 1)):
        raise InputError(
            f"{path}: y_{name}: expected integers [{len(images)}], a label for each of x_{name}; "
            f"got {labels.dtype} {list(labels.shape)}"
        )
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < 2**31:
        raise InputError(f"{path}: y_{name}: expected labels from 0, got {labels.min()} to {labels.max()}")
    return Split(images if images.ndim == 4 else images[..., None], labels.reshape(-1).astype(np.int32))
