"""Recordings of event cameras: their events, their files, and the checks on both.

Axis legend: E events of one recording, in the order of time.
"""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sealkd_jax.data._left_out import HIDDEN, OTHER_KINDS, Tally, is_hidden
from sealkd_jax.data.datasets import prepare_command
from sealkd_jax.errors import InputError
from sealkd_jax.files import open_file

Sensor = int | tuple[int, int]
"""Side of a square sensor, or width and height of another, in pixels."""
LONGEST = 3_600_000_000  # microseconds; recordings of these data sets last 0.3 to 20 s


@contextmanager
def optional_dependency() -> Iterator[None]:
    """Around an import: names the command that installs a missing package."""
    try:
        yield
    except ImportError as error:
        raise InputError(f'event data sets need {error.name}: pip install "sealkd-jax[events]"') from error


class BadRecording(InputError):
    """A recording that cannot be used. `Framing.on_bad_recording` decides whether it ends the reading."""


class Events(NamedTuple):
    """Column x, row y, polarity p (0 darker, 1 brighter) and time t in microseconds: int64 `[E]` each."""

    x: np.ndarray
    y: np.ndarray
    p: np.ndarray
    t: np.ndarray


class Recording(NamedTuple):
    """A recording on disk.

    Args:
        name: path inside the data set, the same on every machine.
        size: size in bytes.
        stamp: changes with the content: the time of the last change in nanoseconds, or a checksum.
        events: reads and checks the events; raises `BadRecording`.
        label: number of the class.
    """

    name: str
    size: int
    stamp: int
    events: Callable[[], Events]
    label: int


class File(NamedTuple):
    """A file of a data set: its path, its name inside the data set, and its size and stamp as in `Recording`."""

    path: Path
    name: str
    size: int
    stamp: int


def sides(sensor: Sensor) -> tuple[int, int]:
    """Width and height of a sensor."""
    return (sensor, sensor) if isinstance(sensor, int) else sensor


def checked(where: str, events: Events, sensor: Sensor, place: Callable[[int], str]) -> Events:
    """Returns the events if a camera with this sensor can have recorded them.

    Args:
        where: name of the recording in messages.
        events: events to check.
        sensor: its size.
        place: number of an event -> its place in the file, such as "byte 125".

    Raises:
        BadRecording: if there are none, one is outside the sensor, or times fall or span more than an hour.
    """
    x, y, p, t = events
    width, height = sides(sensor)
    if not len(t):
        raise BadRecording(f"{where}: no events")
    for name, values, bound in (("x", x, width), ("y", y, height), ("polarity", p, 2)):
        wrong = (values < 0) | (values >= bound)
        if wrong.any():
            first = int(wrong.argmax())
            raise BadRecording(
                f"{where}: {place(first)}: event {first} has {name} {values[first]}; expected 0 to {bound - 1}"
            )
    back = t[1:] < t[:-1]
    if back.any():
        first = int(back.argmax()) + 1
        raise BadRecording(
            f"{where}: {place(first)}: event {first} at {t[first]} µs comes after one at {t[first - 1]} µs; "
            "expected rising times (unsorted events, or a time counter that overflowed)"
        )
    if t[0] < 0 or t[-1] > LONGEST + t[0]:
        raise BadRecording(f"{where}: {place(len(t) - 1)}: times from {t[0]} to {t[-1]} µs; expected at most an hour")
    return events


def read_bytes(path: Path, bound: int) -> bytes:
    """The whole file. Refuses one of more than `bound` bytes."""
    if not path.is_file():  # the reader would wait at a pipe for ever
        raise BadRecording(f"{path}: expected a file, found a directory or something else")
    try:
        with open_file(path) as file:
            data = file.read(bound + 1)
    except OSError as error:
        raise BadRecording(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > bound:
        raise BadRecording(f"{path}: byte {bound}: too large; expected a recording of at most {bound} bytes")
    return data


def list_files(root: Path, suffix: str) -> list[File]:
    """The files `root/FOLDER/NAME.suffix`, sorted by name, without hidden files. Warns of what else is there.

    Raises:
        InputError: if a directory cannot be read, or has no such file.
    """
    files, left_out = [], Tally()
    try:
        for folder in sorted(path for path in root.iterdir() if path.is_dir()):
            if is_hidden(folder.name):
                left_out.add(HIDDEN, folder)
                continue
            with os.scandir(folder) as entries:
                for entry in entries:
                    if is_left_out(entry.name, suffix, entry.path, left_out):
                        continue
                    stat = entry.stat(follow_symlinks=os.path.exists(entry))  # reading names a dead link later
                    name = f"{root.name}/{folder.name}/{entry.name}"
                    files.append(File(folder / entry.name, name, stat.st_size, stat.st_mtime_ns))
    except OSError as error:
        raise InputError(f"{error.filename or root}: cannot be read: {error.strerror}") from error
    if not files:
        raise InputError(f"{root}: expected files FOLDER/NAME{suffix}, {_found(root)}; download the data set again")
    warn_of_left_out(root, left_out)
    return sorted(files, key=lambda file: file.name)


def is_left_out(name: str, suffix: str, where: str, left_out: Tally) -> bool:
    """Whether a file is no recording: hidden, or with another ending. Counts it unless it is a system's own."""
    if name.endswith(suffix) and not is_hidden(name):
        return False
    if name.endswith(suffix) or not is_hidden(name):
        left_out.add(HIDDEN if is_hidden(name) else OTHER_KINDS, where)
    return True


def warn_of_left_out(root: Path, left_out: Tally) -> None:
    """Warns if something was left out."""
    if text := str(left_out):
        warnings.warn(f"{root}: left out: {text}", stacklevel=3)


def find(name: str, data_dir: Path, *candidates: str) -> Path:
    """The first of `candidates`, relative to `data_dir`, that exists.

    Raises:
        InputError: if none exists, with the command that downloads the data set.
    """
    for candidate in candidates:
        if os.path.exists(data_dir / candidate):
            return data_dir / candidate
    raise InputError(
        f"data_dir {data_dir}: expected {' or '.join(candidates)} of {name}, {_found(data_dir)}; "
        f"get it: {prepare_command(name, data_dir)}"
    )


def _found(root: Path) -> str:
    """What is in a folder in place of what was expected."""
    names = sorted(path.name for path in root.glob("*") if not is_hidden(path.name))
    return f"found {', '.join(names[:4]) or 'none'}{', …' if len(names) > 4 else ''}"
