"""Pictures in folders, as ImageNet's are: `DIR/train/CLASS/*.JPEG` and `DIR/val/CLASS/*.JPEG`.

Axis legend: N examples, H height, W width, C channels.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from sealkd_jax.data.datasets import Dataset, OnDemand, Split, Statistics, directory_name, hold_out_for_validation
from sealkd_jax.errors import InputError

ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's channels
MOST_HELD_OUT = 10_000
MARGIN = 256 / 224  # the shorter side before the crop of the middle, relative to the size


def load_folder(path: Path, size: int) -> Dataset:
    """Reads the folders `train`, `val` and `test`, each with one folder per class. Decodes pictures on demand.

    If there is `val` and no `test`, as in ImageNet, `val` is the test split, and a tenth of `train`, at most
    `MOST_HELD_OUT`, is held out for validation (`hold_out`). Classes are the folders of `train`, sorted. Every picture
    becomes RGB; Pillow scales its shorter side to 256/224 of `size`, and its middle is cropped. Mean and deviation
    are ImageNet's. The data set has the directory's name.

    Raises:
        InputError: if a folder is missing or empty, or another split has a class that `train` does not have.
    """
    classes = _folders(path / "train")
    if len(classes) < 2:
        raise InputError(f"{path / 'train'}: {len(classes)} folders; expected at least two, one per class")
    train = _split(path / "train", classes, size)
    found = {name: _split(path / name, classes, size) for name in ("val", "test") if (path / name).is_dir()}
    if not found:
        raise InputError(f"{path}: expected a folder val or test beside train")
    test = found["test" if "test" in found else "val"]
    assert isinstance(train.images, Pictures)
    paths = train.images.paths
    if len(found) == 2:
        validation = found["val"]
    else:
        count = min(len(train.labels) // 10, MOST_HELD_OUT)
        rest, held_out = hold_out_for_validation(train.labels, count, path / "train", "both val and test")
        paths = [paths[index] for index in rest]
        train, validation = (Split(OnDemand(train.images, index), train.labels[index]) for index in (rest, held_out))
    statistics = Statistics(np.array(MEAN), np.array(STD), _fingerprint(paths, size))
    return Dataset(directory_name(path.resolve().name) or "folder", train, validation, test, classes, statistics)


class Pictures:
    """Files as `datasets.Images`, uint8 `[N, size, size, 3]`."""

    def __init__(self, paths: Sequence[Path], size: int):
        self.paths, self.dtype = paths, np.dtype(np.uint8)
        self.shape: tuple[int, ...] = (len(paths), size, size, 3)

    def read(self, index: np.ndarray) -> np.ndarray:
        """The pictures at `index`, decoded: uint8 `[K, size, size, 3]`."""
        return np.stack([_decode(self.paths[number], self.shape[1]) for number in index])


def _decode(path: Path, size: int) -> np.ndarray:
    try:
        with Image.open(path) as picture:
            return _middle(picture, size)
    except Exception as error:  # damaged bytes make Pillow's decoders raise errors of many kinds
        raise InputError(f"{path}: cannot be read as a picture ({' '.join(str(error).split())})") from error


def _middle(picture: Image.Image, size: int) -> np.ndarray:
    shorter = round(size * MARGIN)
    picture.draft(
        "RGB", (shorter, shorter)
    )  # decodes a JPEG at a half, a quarter or an eighth of its size if that is enough
    width, height = picture.size
    scale = shorter / min(width, height)
    sides = [max(size, round(side * scale)) for side in (width, height)]
    scaled = picture.convert("RGB").resize(sides, Image.Resampling.BILINEAR)
    left, top = ((side - size) // 2 for side in sides)
    return np.asarray(scaled.crop((left, top, left + size, top + size)))


def _folders(path: Path) -> tuple[str, ...]:
    try:
        return tuple(sorted(entry.name for entry in path.iterdir() if entry.is_dir()))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; expected one folder per class in it") from error


def _split(path: Path, classes: Sequence[str], size: int) -> Split:
    if unknown := [name for name in _folders(path) if name not in classes]:
        raise InputError(f"{path / unknown[0]}: a class that train does not have")
    paths, labels = [], []
    for label, name in enumerate(classes):
        folder = path / name
        of_class = sorted(p for p in folder.iterdir() if p.suffix.lower() in ENDINGS) if folder.is_dir() else []
        if not of_class and path.name == "train":
            raise InputError(f"{folder}: no pictures; expected files ending in {', '.join(sorted(ENDINGS))}")
        paths += of_class
        labels += [label] * len(of_class)
    if not paths:
        raise InputError(f"{path}: no pictures")
    return Split(Pictures(paths, size), np.array(labels, np.int32))


def _fingerprint(paths: Sequence[Path], size: int) -> str:
    """SHA-256 of the training files' names and sizes in bytes. Reading millions of pictures would take hours."""
    digest = hashlib.sha256(f"{size}".encode())
    for path in paths:
        digest.update(f"/{path.parent.name}/{path.name}:{path.stat().st_size}".encode())
    return digest.hexdigest()
