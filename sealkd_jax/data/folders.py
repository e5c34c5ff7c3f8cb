"""Pictures in folders, as ImageNet's are: `DIR/train/CLASS/*.JPEG` and `DIR/val/CLASS/*.JPEG`.

Axis legend: N examples.
"""

import hashlib
import os
import stat
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from sealkd_jax.data._left_out import DEAD, HIDDEN, OTHER_KINDS, Tally, is_hidden
from sealkd_jax.data.datasets import (
    Dataset,
    OnDemand,
    Split,
    Statistics,
    directory_name,
    hold_out_for_validation,
)
from sealkd_jax.data.pictures import ENDINGS, Header, Pictures, read_header
from sealkd_jax.errors import InputError, reason

SPLITS = ("train", "val", "test")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's channels
MOST_HELD_OUT = 10_000
MOST_READ = 2**34  # bytes of all files up to which every file is read at the start
THREADS = 16


class Found(NamedTuple):
    """The pictures of a split in the order of their classes, with labels, sizes in bytes, and times of change in ns."""

    paths: list[Path]
    labels: list[int]
    sizes: list[int]
    times: list[int]


def load_folder(path: Path, size: int) -> Dataset:
    """Reads the folders `train`, `val` and `test`, each with one folder per class. Decodes pictures on demand.

    If there is `val` and no `test`, as in ImageNet, `val` is the test split, and a tenth of `train`, at most
    `MOST_HELD_OUT`, is held out for validation (`hold_out`). Classes are the folders of `train`, sorted; the pictures
    of their subfolders belong to them. Every picture is turned as its EXIF orientation says and becomes RGB; Pillow
    scales its shorter side to 256/224 of `size`, and its middle is cropped. Mean and deviation are ImageNet's. The data
    set has the directory's name.

    The fingerprint covers the names and contents of the training files. If all files together are larger than
    `MOST_READ`, it covers their names, sizes and times of change, because reading them would take an epoch's time.

    Warns of all that is left out, and of pictures whose pixels had to be changed.

    Raises:
        InputError: if a folder is missing or empty, a file is not a picture, or another split has a class that `train`
            does not have.
    """
    left_out = Tally()
    names = [name for name in SPLITS if name == "train" or (path / name).is_dir()]
    folders = {name: _folders(path / name, left_out) for name in names}
    classes = folders["train"]
    if len(classes) < 2:
        raise InputError(f"{path / 'train'}: {len(classes)} folders; expected at least two, one per class")
    if len(names) == 1:
        raise InputError(f"{path}: expected a folder val or test beside train")
    found = {name: _find(path / name, of_split, classes, left_out) for name, of_split in folders.items()}
    for other in sorted(set(_folders(path, Tally())) - set(SPLITS)):
        left_out.add("folders beside train, val and test", path / other)
    headers = _read_headers(found)
    train, *others = (Split(Pictures(of.paths, size), np.array(of.labels, np.int32)) for of in found.values())
    validation, test, chosen = others[0], others[-1], np.arange(len(train.labels))
    if validation is test:
        count = min(len(train.labels) // 10, MOST_HELD_OUT)
        chosen, held_out = hold_out_for_validation(train.labels, count, path / "train", "both val and test")
        validation, train = (Split(OnDemand(train.images, i), train.labels[i]) for i in (held_out, chosen))
    _warn(path, left_out, found, headers)
    fingerprint = _fingerprint(path / "train", found["train"], headers.get("train"), chosen, size)
    statistics = Statistics(np.array(MEAN), np.array(STD), fingerprint)
    return Dataset(directory_name(path.resolve().name) or "folder", train, validation, test, classes, statistics)


def _folders(path: Path, left_out: Tally) -> tuple[str, ...]:
    """The names of the folders in `path`."""
    try:
        entries = sorted(path.iterdir())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {reason(error)}; expected one folder per class in it") from error
    names = []
    for entry in entries:
        if entry.is_dir() and not _is_left_out(entry, left_out):
            if not entry.name.isprintable():
                raise InputError(f"{path}: a folder named {entry.name!r}; expected a name that can be printed")
            names.append(entry.name)
        elif not entry.is_dir() and not is_hidden(entry.name):
            left_out.add(DEAD if entry.is_symlink() else "files outside of a class's folder", entry)
    return tuple(names)


def _is_left_out(folder: Path, left_out: Tally) -> bool:
    """Whether a folder is hidden, or a link to a folder around it."""
    if is_hidden(folder.name):
        left_out.add(HIDDEN, folder)
    elif folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve()):
        left_out.add("circular links", folder)
    else:
        return False
    return True


def _find(path: Path, folders: Sequence[str], classes: Sequence[str], left_out: Tally) -> Found:
    """The pictures of a split with these folders."""
    if unknown := [name for name in folders if name not in classes]:
        raise InputError(f"{path / unknown[0]}: a class that train does not have")
    found, seen = Found([], [], [], []), {_identity((path / name).stat()) for name in folders}
    for label, name in enumerate(classes):
        of_class = list(_walk(path / name, seen, left_out)) if name in folders else []
        if not of_class and path.name == "train":
            reasons = f" ({left_out})" if str(left_out) else ""
            endings = ", ".join(sorted(ENDINGS))
            raise InputError(f"{path / name}: no pictures{reasons}; expected files ending in {endings}; or remove it")
        for file, stats in of_class:
            found.paths.append(file)
            found.labels.append(label)
            found.sizes.append(stats.st_size)
            found.times.append(stats.st_mtime_ns)
    if not found.paths:
        raise InputError(f"{path}: no pictures")
    return found


def _walk(folder: Path, seen: set[tuple[int, int]], left_out: Tally) -> Iterable[tuple[Path, os.stat_result]]:
    """The pictures in a folder and its subfolders, sorted. `seen`: what is read already."""

    def refuse(error: OSError) -> NoReturn:
        raise InputError(f"{error.filename}: {error.strerror}") from error

    for where, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        if Path(where) != folder and not _is_first(Path(where), os.stat(where), seen, left_out):
            folders.clear()
            continue
        folders[:] = [name for name in sorted(folders) if not _is_left_out(Path(where, name), left_out)]
        for name in sorted(names):
            path = Path(where, name)
            if (stats := _stat_of_picture(path, left_out)) and _is_first(path, stats, seen, left_out):
                yield path, stats


def _identity(stats: os.stat_result) -> tuple[int, int]:
    return stats.st_dev, stats.st_ino


def _is_first(path: Path, stats: os.stat_result, seen: set[tuple[int, int]], left_out: Tally) -> bool:
    """Whether a file or folder is met for the first time, not once more by a link."""
    if _identity(stats) in seen:
        left_out.add("links to what is read already", path)
        return False
    seen.add(_identity(stats))
    return True


def _stat_of_picture(path: Path, left_out: Tally) -> os.stat_result | None:
    """What `os.stat` says of a picture; None for another file, which is counted unless it is a system's own."""
    if path.suffix.lower() not in ENDINGS:
        if not is_hidden(path.name):
            left_out.add(OTHER_KINDS, path)
        return None
    if is_hidden(path.name):
        left_out.add(HIDDEN, path)
        return None
    try:
        stats = path.stat()
    except OSError:
        left_out.add(DEAD, path)
        return None
    if not stat.S_ISREG(stats.st_mode):
        left_out.add("pipes, sockets or devices", path)
        return None
    return stats


def _read_headers(found: dict[str, Found]) -> dict[str, list[Header]]:
    """The header of every picture by split; nothing if the files are too large to be read now."""
    if sum(sum(of.sizes) for of in found.values()) > MOST_READ:
        return {}
    with ThreadPoolExecutor(THREADS) as pool:
        return {name: list(pool.map(read_header, of.paths)) for name, of in found.items()}


def _warn(path: Path, left_out: Tally, found: dict[str, Found], headers: dict[str, list[Header]]) -> None:
    """Warns of what is left out, of what is changed, and of pictures that are in two splits."""
    if text := str(left_out):
        warnings.warn(f"{path}: left out: {text}", stacklevel=3)
    notes = Tally()
    for name, of_split in headers.items():
        for file, header in zip(found[name].paths, of_split, strict=True):
            for note in header.notes:
                notes.add(f"pictures {note}", file)
    if text := str(notes):
        warnings.warn(f"{path}: {text}", stacklevel=3)
    for one, other in combinations(headers, 2):
        known = {header.digest for header in headers[one]}
        both = [file for file, header in zip(found[other].paths, headers[other], strict=True) if header.digest in known]
        if both:
            warnings.warn(f"{path}: {len(both)} pictures of {other} are in {one} too, such as {both[0]}", stacklevel=3)


def _fingerprint(root: Path, found: Found, headers: list[Header] | None, chosen: np.ndarray, size: int) -> str:
    """SHA-256 of the size asked for, and of the names and contents of the pictures that are `chosen`."""
    digest = hashlib.sha256(f"{size}".encode())
    for number in chosen:
        content = headers[number].digest if headers else f"{found.sizes[number]}:{found.times[number]}".encode()
        digest.update(b"/%b\0%b" % (os.fsencode(found.paths[number].relative_to(root)), content))
    return digest.hexdigest()
