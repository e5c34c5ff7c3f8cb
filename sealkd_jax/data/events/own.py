"""A user's own recordings of any event camera, in files by class, and events from arrays.

Axis legend: E events of one recording, T timesteps, H height, W width, 2 polarities.
"""

import io
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from sealkd_jax.data._left_out import Tally
from sealkd_jax.data.class_folders import Found, Kind, find_by_class
from sealkd_jax.data.datasets import directory_name
from sealkd_jax.data.events import aedat4, nmnist
from sealkd_jax.data.events.cache import EventDataset, Recordings, load_frames
from sealkd_jax.data.events.columns import LARGEST_SENSOR, NAMES, events_of, named_columns
from sealkd_jax.data.events.framing import Framing, frames
from sealkd_jax.data.events.recordings import (
    BadRecording,
    Events,
    Recording,
    Sensor,
    checked,
    find,
    optional_dependency,
    read_bytes,
)
from sealkd_jax.errors import InputError, reason
from sealkd_jax.files import read_npy_header

LARGEST = 2**28  # bytes of a file, and of its arrays
USUAL_SIZE = 128  # pixels of the longer side of a frame


def frames_from_events(
    x: ArrayLike,
    y: ArrayLike,
    t: ArrayLike,
    p: ArrayLike,
    *,
    timesteps: int,
    sensor_size: tuple[int, int],
    frame_size: int | None = None,
    by: Literal["time", "count"] = "time",
) -> np.ndarray:
    """Frames of one recording: counts of its events, as `Dataset` wants them. Every event is counted once.

    Args:
        x: column of each event, `[E]`.
        y: row of each event, `[E]`.
        t: time of each event in any unit, `[E]`, never falling.
        p: polarity of each event, 0 or −1 darker and 1 brighter, `[E]`.
        timesteps: T.
        sensor_size: width and height of the sensor, in pixels.
        frame_size: longer side of the frames in pixels; that of the sensor if None.
        by: slices of equal duration, or with equally many events; see `framing.frames`.

    Returns:
        uint16 `[T, H, W, 2]`.

    Raises:
        InputError: if there are no events, one is outside of the sensor, or times fall.

    Example:
      >>> from sealkd_jax.data import frames_from_events
      >>> x, y, t, p = [0, 1, 3], [0, 0, 1], [0.1, 0.2, 0.9], [1, -1, 1]
      >>> frames = frames_from_events(x, y, t, p, timesteps=2, sensor_size=(4, 2))
      >>> frames.shape, frames.sum(axis=(1, 2, 3)).tolist()
      ((2, 2, 4, 2), [2, 1])
    """
    events = events_of("events", {"x": np.asarray(x), "y": np.asarray(y), "t": np.asarray(t), "p": np.asarray(p)})
    framing = Framing(timesteps, by, frame_size, sensor_size=sensor_size)
    checked("events", events, sensor_size, lambda event: f"row {event}")
    counts = frames(events, framing, sensor_size)
    if counts.max() > np.iinfo(np.uint16).max:
        raise InputError(f"events: {counts.max()} events of one pixel in one frame, above 65535; use more timesteps")
    return counts.astype(np.uint16)


def load_recordings(path: Path, framing: Framing, cache_dir: Path) -> EventDataset:
    """Recordings in folders by split and class (see `find_by_class`) as frames.

    The sensor's size is `framing.sensor_size`; if None, the largest coordinates of all recordings, with a warning that
    says so. Frames keep its proportions; their longer side is `framing.size`, at most the sensor's, and `USUAL_SIZE`
    if None.

    Raises:
        InputError: if a folder is missing or empty, or a recording is bad.
    """
    left_out = Tally()
    found = find_by_class(path, RECORDINGS, left_out)
    if text := str(left_out):
        warnings.warn(f"{path}: left out: {text}", stacklevel=3)
    sensor = framing.sensor_size or (LARGEST_SENSOR, LARGEST_SENSOR)
    train, validation, test = ([*_recordings(path, of, sensor)] for of in (found.train, found.validation, found.test))
    framing = replace(framing, size=framing.size or USUAL_SIZE)
    name = directory_name(path.resolve().name) or "events"
    return load_frames(
        name, Recordings(train, validation, test, ()), framing, framing.sensor_size, found.classes, cache_dir
    )


def load_ncaltech101(data_dir: Path, framing: Framing, cache_dir: Path) -> EventDataset:
    """N-Caltech101: Caltech101's photographs, each recorded by a moving event camera of at most 240x180 pixels.

    Orchard et al., "Converting static image datasets to spiking neuromorphic datasets using saccades", 2015. There is
    no official split; see `find_by_class`.

    Args:
        data_dir: has Caltech101/CLASS/NAME.bin as published, or NCALTECH101/ with it, as tonic downloads it.
        framing: how a recording becomes frames.
        cache_dir: directory in which frames are kept; see `cache`.

    Raises:
        InputError: if the data are missing or damaged.
    """
    root = find("n-caltech101", data_dir, "Caltech101", "NCALTECH101/Caltech101")
    return load_recordings(root, replace(framing, sensor_size=(240, 180)), cache_dir)


def _recordings(root: Path, found: Found, sensor: Sensor) -> Any:
    for file, label, size, time in zip(*found, strict=True):
        yield Recording(str(file.relative_to(root)), size, time, partial(read_recording, file, sensor), label)


def read_recording(path: Path, sensor: Sensor = LARGEST_SENSOR) -> Events:
    """The events of a file of any format that is read.

    Raises:
        BadRecording: if it is damaged, of another format, or an event is outside of the sensor.
    """
    data, where = read_bytes(path, LARGEST), str(path)
    try:
        events = _READERS[path.suffix.lower()](where, data)
        return checked(where, events, sensor, lambda event: f"event {event}")
    except InputError:
        raise
    except Exception as error:  # damaged bytes make NumPy, zipfile and h5py raise errors of many kinds
        raise BadRecording(f"{where}: cannot be read: {reason(error)}") from error


def _from_npy(where: str, data: bytes) -> Events:
    return events_of(where, _columns_of(where, _array(data)))


def _array(data: bytes) -> np.ndarray:
    """The array in the bytes of a `.npy`; no pickle."""
    stream = io.BytesIO(data)
    shape, column_first, dtype = read_npy_header(stream)
    if dtype.hasobject or not dtype.itemsize:
        raise ValueError(f"expected numbers, got {dtype}")
    expected = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if len(data) - stream.tell() != expected:
        raise ValueError(f"its header declares {expected} bytes, {len(data) - stream.tell()} follow")
    return np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape, order="F" if column_first else "C")


def _columns_of(where: str, array: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of a structured array `[E]`, or of numbers `[E, 4]`."""
    if array.dtype.names is not None:
        return {name: array[name].reshape(-1) for name in array.dtype.names}
    return named_columns(where, array)


def _from_npz(where: str, data: bytes) -> Events:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(info.file_size for info in archive.infolist()) > LARGEST:
            raise ValueError(f"more than {LARGEST >> 20} MiB, unpacked")
        arrays = {info.filename.removesuffix(".npy"): _array(archive.read(info)) for info in archive.infolist()}
    columns = _columns_of(where, *arrays.values()) if len(arrays) == 1 else arrays
    return events_of(where, {name: np.squeeze(column) for name, column in columns.items()})


def _from_text(where: str, data: bytes) -> Events:
    """Lines of numbers between commas, semicolons, tabs or spaces; the first may have the names."""
    lines = [line for line in data[:4096].decode().splitlines() if line.strip() and line[0] not in "#%"]
    if not lines:
        raise BadRecording(f"{where}: no events")
    delimiter = next((mark for mark in ",;\t" if mark in lines[0]), None)
    words = [word.strip().strip('"') for word in lines[0].split(delimiter)]
    named = not all(_is_number(word) for word in words)
    skipped = data.decode().splitlines().index(lines[0]) + named
    if not data[sum(map(len, data.splitlines(True)[:skipped])) :].strip():
        raise BadRecording(f"{where}: no events")
    table = np.loadtxt(io.BytesIO(data), delimiter=delimiter, skiprows=skipped, comments=["#", "%"], ndmin=2)
    if named and table.shape[1:] != (len(words),):
        raise ValueError(f"{len(words)} names for {table.shape[1:]} columns")
    return events_of(where, dict(zip(words, table.T, strict=True)) if named else named_columns(where, table))


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _from_hdf5(where: str, data: bytes) -> Events:
    """The first group with the columns, or the first table that has them as fields or is `[E, 4]`."""
    with optional_dependency():
        import h5py

    def array(dataset: Any) -> np.ndarray:
        if dataset.external or dataset.is_virtual or dataset.dtype.hasobject:
            raise ValueError(f"{dataset.name}: expected numbers in the file itself")
        if dataset.size * dataset.dtype.itemsize > LARGEST:
            raise ValueError(f"{dataset.name}: more than {LARGEST >> 20} MiB, unpacked")
        return dataset[()]

    with h5py.File(io.BytesIO(data), "r") as file:
        names: list[str] = []
        file.visit(names.append)  # without soft and external links
        datasets = {name: file[name] for name in names if isinstance(file[name], h5py.Dataset)}
        for name in ["", *names]:
            inside = {each.rpartition("/")[2]: of for each, of in datasets.items() if each.rpartition("/")[0] == name}
            columns = {each: of for each, of in inside.items() if of.ndim == 1 and of.dtype.names is None}
            if all(any(each.lower() in known for each in columns) for kind, known in NAMES.items() if kind != "t"):
                return events_of(where, {each: array(of) for each, of in columns.items()})
        tables = [of for of in datasets.values() if of.dtype.names is not None or (of.ndim == 2 and 4 in of.shape)]
        if len(tables) != 1:
            raise ValueError(f"no group with x, y, t, p among {', '.join(names[:9]) or 'none'}")
        return events_of(where, _columns_of(where, array(tables[0])))


_READERS: dict[str, Callable[[str, bytes], Events]] = {
    ".npy": _from_npy,
    ".npz": _from_npz,
    ".csv": _from_text,
    ".txt": _from_text,
    ".h5": _from_hdf5,
    ".hdf5": _from_hdf5,
    ".aedat4": lambda where, data: aedat4.parse(where, data, LARGEST_SENSOR),
    ".bin": lambda where, data: nmnist.parse(where, data, LARGEST_SENSOR),
}
RECORDINGS = Kind("recordings", frozenset(_READERS))
