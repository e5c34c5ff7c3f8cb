"""Pictures in folders, as ImageNet's are: `DIR/train/CLASS/*.JPEG` and `DIR/val/CLASS/*.JPEG`, or `DIR/CLASS/*.JPEG`.

Axis legend: N examples.
"""

import hashlib
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path

import numpy as np

from sealkd_jax.data._left_out import Tally
from sealkd_jax.data.class_folders import ByClass, Found, Kind, find_by_class
from sealkd_jax.data.datasets import Dataset, Split, Statistics, directory_name
from sealkd_jax.data.pictures import ENDINGS, Header, Pictures, read_header

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's channels
MOST_READ = 2**34  # bytes of all files up to which every file is read at the start
THREADS = 16
PICTURES = Kind("pictures", frozenset(ENDINGS))


def load_folder(path: Path, size: int) -> Dataset:
    """Reads pictures in folders by split and class; see `find_by_class`. Decodes them on demand.

    Every picture is turned as its EXIF orientation says and becomes RGB; Pillow scales its shorter side to 256/224 of
    `size`, and its middle is cropped. A picture of `size` x `size` stays as it is. Mean and deviation are ImageNet's.
    The data set has the directory's name.

    The fingerprint covers the names and contents of the training files. If all files together are larger than
    `MOST_READ`, it covers their names, sizes and times of change, because reading them would take an epoch's time.

    Warns of all that is left out, and of pictures whose pixels had to be changed.

    Raises:
        InputError: if a folder is missing or empty, a file is not a picture, or another split has a class that `train`
            does not have.
    """
    left_out = Tally()
    found = find_by_class(path, PICTURES, left_out)
    headers = _read_headers(found)
    _warn(path, left_out, found, headers)
    train, validation, test = (
        Split(Pictures(of.paths, size), np.array(of.labels, np.int32)) for of in _splits(found).values()
    )
    fingerprint = _fingerprint(found, headers.get("train"), size)
    statistics = Statistics(np.array(MEAN), np.array(STD), fingerprint)
    return Dataset(directory_name(path.resolve().name) or "folder", train, validation, test, found.classes, statistics)


def _splits(found: ByClass) -> dict[str, Found]:
    return {"train": found.train, "validation": found.validation, "test": found.test}


def _read_headers(found: ByClass) -> dict[str, list[Header]]:
    """The header of every picture by split; nothing if the files are too large to be read now."""
    splits = _splits(found)
    if sum(sum(of.sizes) for of in splits.values()) > MOST_READ:
        return {}
    with ThreadPoolExecutor(THREADS) as pool:
        return {name: list(pool.map(read_header, of.paths)) for name, of in splits.items()}


def _warn(path: Path, left_out: Tally, found: ByClass, headers: dict[str, list[Header]]) -> None:
    """Warns of what is left out, of what is changed, and of pictures that are in two splits."""
    if text := str(left_out):
        warnings.warn(f"{path}: left out: {text}", stacklevel=3)
    notes, splits = Tally(), _splits(found)
    for name, of_split in headers.items():
        for file, header in zip(splits[name].paths, of_split, strict=True):
            for note in header.notes:
                notes.add(f"pictures {note}", file)
    if text := str(notes):
        warnings.warn(f"{path}: {text}", stacklevel=3)
    for one, other in combinations(headers, 2):
        known = {header.digest for header in headers[one]}
        pairs = zip(splits[other].paths, headers[other], strict=True)
        both = [file for file, header in pairs if header.digest in known]
        if both:
            warnings.warn(f"{path}: {len(both)} pictures of {other} are in {one} too, such as {both[0]}", stacklevel=3)


def _fingerprint(found: ByClass, headers: list[Header] | None, size: int) -> str:
    """SHA-256 of the size asked for, and of the names and contents of the training pictures."""
    digest, root, train = hashlib.sha256(f"{size}".encode()), found.root, found.train
    for number, path in enumerate(train.paths):
        content = headers[number].digest if headers else f"{train.sizes[number]}:{train.times[number]}".encode()
        digest.update(b"/%b\0%b" % (os.fsencode(path.relative_to(root)), content))
    return digest.hexdigest()
