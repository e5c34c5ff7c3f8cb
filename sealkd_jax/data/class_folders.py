"""Files in folders by class: `DIR/train/CLASS/*`, `DIR/val/CLASS/*` and `DIR/test/CLASS/*`, or `DIR/CLASS/*`.

Axis legend: N examples.
"""

import os
import re
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from sealkd_jax.data._left_out import DEAD, HIDDEN, OTHER_KINDS, Tally, is_hidden
from sealkd_jax.data.datasets import hold_out_for_validation
from sealkd_jax.errors import InputError, reason
from sealkd_jax.typed import read_text

SPLITS = ("train", "val", "test")
MOST_HELD_OUT = 10_000
_OF_SPLITS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
ANNOTATIONS = "val_annotations.txt"  # of Tiny-ImageNet


class Kind(NamedTuple):
    """What is looked for: its name in messages, in the plural, and how the names of such files end."""

    name: str
    endings: frozenset[str]


class Found(NamedTuple):
    """Files in the order of their classes, with labels, sizes in bytes, and times of change in ns."""

    paths: list[Path]
    labels: list[int]
    sizes: list[int]
    times: list[int]

    def add(self, path: Path, label: int, stats: os.stat_result) -> None:
        """Adds one file."""
        self.paths.append(path)
        self.labels.append(label)
        self.sizes.append(stats.st_size)
        self.times.append(stats.st_mtime_ns)

    def part(self, index: np.ndarray) -> "Found":
        """The files at `index`, integers `[K]`."""
        return Found(*([column[number] for number in index] for column in self))


class ByClass(NamedTuple):
    """All files of a data set.

    Attributes:
        root: directory of the data set.
        classes: names of the classes; labels index into it.
        train, validation, test: the files of each split.
    """

    root: Path
    classes: tuple[str, ...]
    train: Found
    validation: Found
    test: Found


def find_by_class(path: Path, kind: Kind, left_out: Tally) -> ByClass:
    """The files of the folders `train`, `val` and `test`, each with one folder per class.

    Without `val` and `test`, or if the classes are in `path` itself, a fifth is held out for test and a tenth for
    validation. If there is `val` and no `test`, as in ImageNet, `val` is the test split, and a tenth of `train`, at
    most `MOST_HELD_OUT`, is held out. What is held out is a fixed, stratified choice. `train.X1`, `train.X2`, … and
    `val.X` are parts of `train` and `val`, as ImageNet-100 is published. If `val` has `val_annotations.txt`, as
    Tiny-ImageNet has, that says the classes of `val/images`, and `test`, which has no labels, is left out.

    Args:
        path: directory of the data set.
        kind: what is looked for.
        left_out: gets the files that are not read.

    Raises:
        InputError: if a folder is missing or empty, or another split has a class that `train` does not have.
    """
    table = path / "val" / ANNOTATIONS
    annotated = table.is_file()
    roots = {name: _roots(path, name) for name in SPLITS[: 2 if annotated else 3]}
    if not roots["train"]:
        _refuse_names_of_splits(path)
        roots["train"] = [path]
    folders = {
        root: _folders(root, left_out) for name in roots if not (name == "val" and annotated) for root in roots[name]
    }
    classes = tuple(sorted({name for root in roots["train"] for name in folders[root]}))
    if len(classes) < 2:
        raise InputError(f"{roots['train'][0]}: {len(classes)} folders; expected at least two, one per class")
    found = {
        name: _join([_find(root, folders[root], classes, kind, left_out) for root in of_split])
        for name, of_split in roots.items()
        if of_split and not (name == "val" and annotated)
    }
    if annotated:
        found["val"] = _find_annotated(table.parent, table, classes, left_out)
    _check(roots, found, classes, kind, left_out)
    if roots["train"] != [path]:
        read = {root.name for of_split in roots.values() for root in of_split}
        for other in sorted(set(_folders(path, Tally())) - read):
            left_out.add("folders beside train, val and test", path / other)
    return ByClass(path, classes, *_split(roots["train"][0], found))


def _roots(path: Path, split: str) -> list[Path]:
    """The folders of a split: one, or several parts."""
    if (path / split).is_dir():
        return [path / split]
    return sorted(part for part in path.glob(f"{split}.X*") if re.fullmatch(rf"{split}\.X\d*", part.name))


def _refuse_names_of_splits(path: Path) -> None:
    """Refuses to take `Train` or `valid` for a class."""
    names = [name for name in _folders(path, Tally()) if name.lower() in _OF_SPLITS]
    if names:
        raise InputError(
            f"{path / 'train'}: no such folder, but {', '.join(names)} beside it; expected train, val and test, or "
            "nothing but one folder per class"
        )


def _join(parts: Sequence[Found]) -> Found:
    """All files, in the order of their classes."""
    whole = Found(*([value for column in columns for value in column] for columns in zip(*parts, strict=True)))
    return whole if len(parts) == 1 else whole.part(np.argsort(whole.labels, kind="stable"))


def _check(
    roots: dict[str, list[Path]], found: dict[str, Found], classes: Sequence[str], kind: Kind, left_out: Tally
) -> None:
    """Refuses a class of which `train` has no file, and a split without files."""
    for label in sorted(set(range(len(classes))) - set(found["train"].labels)):
        reasons, endings = f" ({left_out})" if str(left_out) else "", ", ".join(sorted(kind.endings))
        where = roots["train"][0] / classes[label]
        raise InputError(f"{where}: no {kind.name}{reasons}; expected files ending in {endings}; or remove it")
    for name, of_split in found.items():
        if not of_split.paths:
            raise InputError(f"{roots[name][0]}: no {kind.name}")


def _split(root: Path, found: dict[str, Found]) -> tuple[Found, Found, Found]:
    """Train, validation and test, some of them held out."""
    train, validation, test = found["train"], found.get("val"), found.get("test")
    tenth = min(len(train.labels) // 10, MOST_HELD_OUT)
    if test is None and validation is None:
        train, test = _held_out(root, train, min(2 * tenth, MOST_HELD_OUT), "a folder val or test beside train")
    elif test is None:
        validation, test = None, validation
    if validation is None:
        train, validation = _held_out(root, train, tenth, "both val and test")
    assert test is not None
    return train, validation, test


def _held_out(root: Path, train: Found, count: int, instead: str) -> tuple[Found, Found]:
    """Train without some files, and those: at least one of each class."""
    labels = np.array(train.labels)
    if np.bincount(labels).min() < 2:
        alone = train.paths[int(np.isin(labels, np.flatnonzero(np.bincount(labels) < 2)).argmax())]
        raise InputError(f"{alone}: the only one of its class that is left to learn from; add more, or give {instead}")
    rest, held_out = hold_out_for_validation(labels, max(count, len(set(train.labels))), root, instead)
    return train.part(rest), train.part(held_out)


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


def _find(path: Path, folders: Sequence[str], classes: Sequence[str], kind: Kind, left_out: Tally) -> Found:
    """The files of a split with these folders."""
    if unknown := [name for name in folders if name not in classes]:
        raise InputError(f"{path / unknown[0]}: a class that train does not have")
    found, seen = Found([], [], [], []), {_identity((path / name).stat()) for name in folders}
    for label, name in enumerate(classes):
        if name in folders:
            for file, stats in _walk(path / name, kind, seen, left_out):
                found.add(file, label, stats)
    return found


def _find_annotated(path: Path, table: Path, classes: Sequence[str], left_out: Tally) -> Found:
    """The files of a split whose classes are in a table, with a line for each file: its name, its class, and more."""
    found, images = Found([], [], [], []), path / "images"
    for number, line in enumerate(read_text(table).splitlines(), 1):
        name, kind, *_ = *line.split("\t"), "", ""
        if kind not in classes or Path(name).name != name:
            raise InputError(f"{table}: line {number}: {line[:60]!r}: expected the name of a file and a class of train")
        try:
            found.add(images / name, classes.index(kind), (images / name).stat())
        except OSError as error:
            raise InputError(f"{images / name}: {reason(error)}, but {table.name} has it") from error
    for other in sorted({entry.name for entry in images.iterdir()} - {file.name for file in found.paths}):
        left_out.add(f"files that {table.name} does not have", images / other)
    return found


def _walk(
    folder: Path, kind: Kind, seen: set[tuple[int, int]], left_out: Tally
) -> Iterable[tuple[Path, os.stat_result]]:
    """The files of this kind in a folder and its subfolders, sorted. `seen`: what is read already."""

    def refuse(error: OSError) -> NoReturn:
        raise InputError(f"{error.filename}: {error.strerror}") from error

    for where, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        if Path(where) != folder and not _is_first(Path(where), os.stat(where), seen, left_out):
            folders.clear()
            continue
        folders[:] = [name for name in sorted(folders) if not _is_left_out(Path(where, name), left_out)]
        for name in sorted(names):
            path = Path(where, name)
            if (stats := _stat(path, kind, left_out)) and _is_first(path, stats, seen, left_out):
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


def _stat(path: Path, kind: Kind, left_out: Tally) -> os.stat_result | None:
    """What `os.stat` says of a file of this kind; None for another, which is counted unless it is a system's own."""
    if path.suffix.lower() not in kind.endings:
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
