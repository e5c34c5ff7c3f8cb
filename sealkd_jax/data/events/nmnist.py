"""N-MNIST: MNIST's digits, each recorded by a moving event camera of 34x34 pixels for 0.3 s.

Orchard et al., "Converting static image datasets to spiking neuromorphic datasets using saccades", 2015. A recording is
a file with 5 bytes per event: x, y, and in 24 bits the polarity and a time in microseconds.

Axis legend: E events of one recording.
"""

import io
import re
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from sealkd_jax.data._left_out import HIDDEN, Tally, is_hidden
from sealkd_jax.data.datasets import prepare_command
from sealkd_jax.data.events.cache import EventDataset, Recordings, load_frames
from sealkd_jax.data.events.framing import Framing
from sealkd_jax.data.events.recordings import (
    BadRecording,
    Events,
    Recording,
    Sensor,
    checked,
    find,
    is_left_out,
    list_files,
    optional_dependency,
    read_bytes,
    warn_of_left_out,
)
from sealkd_jax.data.events.splits import tenth
from sealkd_jax.errors import InputError, reason

NAME, SENSOR = "nmnist", 34
LARGEST = 2**20  # bytes of one recording; the largest of a thousand real ones has 35,760
OVERFLOW = 240  # this y marks an overflow of the time counter, not an event
_EVENT = np.dtype([("x", np.int64), ("y", np.int64), ("t", np.int64), ("p", np.int64)])


def load_nmnist(data_dir: Path, framing: Framing, cache_dir: Path) -> EventDataset:
    """N-MNIST as frames: the official train and test; a stratified tenth of train is held out for validation.

    Args:
        data_dir: has Train.zip and Test.zip as published, which are not extracted, or the folders Train and Test; or
            NMNIST/ with these, as tonic downloads them.
        framing: how a recording becomes frames.
        cache_dir: directory in which frames are kept; see `cache`.

    Raises:
        InputError: if the data are missing or damaged.
    """
    framing = framing.for_sensor(NAME, SENSOR, SENSOR)
    with ExitStack() as open_files:
        train, bad_train = _find(data_dir, "Train", open_files)
        test, bad_test = _find(data_dir, "Test", open_files)
        train, validation = tenth(NAME, train)
        recordings = Recordings(train, validation, test, (*bad_train, *bad_test))
        return load_frames(NAME, recordings, framing, SENSOR, tuple("0123456789"), cache_dir)


def parse(where: str, data: bytes, sensor: Sensor = SENSOR) -> Events:
    """The events of one recording in its 40-bit format.

    Raises:
        BadRecording: if it is truncated; see also `recordings.checked`.
    """
    if len(data) % 5:
        raise BadRecording(f"{where}: byte {len(data) - len(data) % 5}: truncated; expected 5 bytes per event")
    with optional_dependency():
        from tonic.io import read_mnist_file
    events = read_mnist_file(io.BytesIO(data), _EVENT, is_stream=True)
    place = np.flatnonzero(np.frombuffer(data, np.uint8)[1::5] != OVERFLOW) * 5
    return checked(where, Events(*(events[name] for name in "xypt")), sensor, lambda event: f"byte {place[event]}")


def _find(data_dir: Path, part: str, open_files: ExitStack) -> tuple[list[Recording], list[str]]:
    """The recordings of Train or Test, sorted by name, and the errors in the names of other files."""
    names = (f"{part}.zip", f"{part.lower()}.zip", part)
    path = find(NAME, data_dir, *names, *(f"NMNIST/{name}" for name in names))
    found = _in_zip(path, open_files) if path.suffix == ".zip" else _in_folder(path)
    good, bad = [], []
    for where, name, size, stamp, read in found:
        match = re.fullmatch(rf"{part}/([0-9])/[^/]+", name)
        if match:
            good.append(Recording(name, size, stamp, partial(_parsed, where, read), int(match[1])))
        else:
            bad.append(f"{where}: expected {part}/DIGIT/NAME.bin, with a digit from 0 to 9")
    return good, bad


def _parsed(where: str, read: Callable[[], bytes]) -> Events:
    return parse(where, read())


Found = tuple[str, str, int, int, Callable[[], bytes]]


def _in_folder(root: Path) -> list[Found]:
    return [
        (str(path), name, size, stamp, partial(read_bytes, path, LARGEST))
        for path, name, size, stamp in list_files(root, ".bin")
    ]


def _in_zip(path: Path, open_files: ExitStack) -> list[Found]:
    """Extracts nothing. A recording's stamp is its checksum in the archive."""
    try:
        archive = open_files.enter_context(zipfile.ZipFile(path))
        members = sorted((info for info in archive.infolist() if not info.is_dir()), key=lambda info: info.filename)
    except Exception as error:  # damaged bytes make zipfile raise errors of many kinds
        raise InputError(
            f"{path}: cannot be read: {reason(error)}; download it again: {prepare_command(NAME, path.parent)}"
        ) from error
    for info in members:
        name = info.filename
        if name.startswith("/") or ".." in name.split("/") or not name.isprintable():
            raise InputError(f"{path}: {name!r}: not a name inside the folder; expected the published archive")
    left_out = Tally()
    recordings = [info for info in members if not _is_left_out(info.filename, left_out)]
    warn_of_left_out(path, left_out)
    return [
        (f"{path}: {info.filename}", info.filename, info.file_size, info.CRC, partial(_member, path, archive, info))
        for info in recordings
    ]


def _is_left_out(name: str, left_out: Tally) -> bool:
    """As `recordings.is_left_out`, for a name with its folders."""
    *folders, file = name.split("/")
    if any(map(is_hidden, folders)):
        left_out.add(HIDDEN, name)
        return True
    return is_left_out(file, ".bin", name, left_out)


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    where = f"{path}: {info.filename}"
    if info.file_size > LARGEST:
        raise BadRecording(f"{where}: {info.file_size} bytes; expected a recording of at most {LARGEST}")
    try:
        with archive.open(info) as member:
            return member.read(info.file_size + 1)  # bounds the decompression; at the end zipfile compares the checksum
    except Exception as error:  # as above
        raise BadRecording(
            f"{where}: byte {info.header_offset} of the archive: cannot be read: {reason(error)}"
        ) from error
