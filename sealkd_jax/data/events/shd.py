"""Spiking Heidelberg Digits (SHD): spoken digits as spikes of 700 channels of a cochlea model, for dense networks.

Cramer et al., "The Heidelberg spiking data sets for the systematic evaluation of spiking neural networks", 2020. A file
in HDF5 per split: times in seconds and channels of each recording, and labels. A spike becomes an event with the
channel as x, y 0 and polarity 1, so frames are `[T, 1, W, 2]`.

Axis legend: E events of one recording.
"""

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sealkd_jax.data.events.cache import EventDataset, Recordings, load_frames
from sealkd_jax.data.events.framing import Framing
from sealkd_jax.data.events.recordings import BadRecording, Events, Recording, checked, find, optional_dependency
from sealkd_jax.data.events.splits import tenth
from sealkd_jax.errors import InputError, reason

NAME, SENSOR, USUAL_SIZE = "shd", (700, 1), 140
LARGEST = 2**20  # spikes of a recording; real ones have some 10,000
CLASSES = 20  # the digits in English and German


def load_shd(data_dir: Path, framing: Framing, cache_dir: Path) -> EventDataset:
    """SHD as frames: the official train and test; a stratified tenth of train is held out for validation.

    Args:
        data_dir: has shd_train.h5 and shd_test.h5, or SHD/ with these, as tonic downloads them.
        framing: how a recording becomes frames.
        cache_dir: directory in which frames are kept; see `cache`.

    Raises:
        InputError: if the data are missing or damaged.
    """
    framing = framing.for_sensor(NAME, SENSOR[0], USUAL_SIZE)
    with ExitStack() as open_files:
        (train, classes), (test, _) = (_find(data_dir, part, open_files) for part in ("train", "test"))
        train, validation = tenth(NAME, train)
        return load_frames(NAME, Recordings(train, validation, test, ()), framing, SENSOR, classes, cache_dir)


def _find(data_dir: Path, part: str, open_files: ExitStack) -> tuple[list[Recording], tuple[str, ...]]:
    """The recordings of a split, and the names of the classes."""
    path = find(NAME, data_dir, f"shd_{part}.h5", f"SHD/shd_{part}.h5")
    with optional_dependency():
        import h5py
    try:
        stat, file = path.stat(), open_files.enter_context(h5py.File(path, "r"))
        times, units, labels = file["spikes/times"], file["spikes/units"], np.asarray(file["labels"])
        if not times.shape == units.shape == labels.shape or labels.dtype.kind not in "iu" or labels.ndim != 1:
            raise ValueError(f"{times.shape} times, {units.shape} units, {labels.shape} labels")
        if any(of.external or of.is_virtual for of in (times, units)):
            raise ValueError("expected the numbers in the file itself")
        classes = tuple(np.asarray(file["extra/keys"]).astype(str).tolist())
        if len(set(classes)) != CLASSES or not all(map(str.isprintable, classes)):
            raise ValueError(f"{len(set(classes))} names of classes in extra/keys; expected {CLASSES}")
        if labels.min() < 0 or labels.max() >= CLASSES:
            raise ValueError(f"labels from {labels.min()} to {labels.max()}; expected 0 to {CLASSES - 1}")
    except Exception as error:  # damaged bytes make h5py raise errors of many kinds
        raise InputError(f"{path}: cannot be read: {reason(error)}; expected the published {path.name}") from error
    recordings = []
    for number, label in enumerate(labels):
        read = partial(_read, path, times, units, number)
        name = f"{path.name}/{number:05}"
        recordings.append(Recording(name, stat.st_size, stat.st_mtime_ns, read, int(label)))
    return recordings, classes


def _read(path: Path, times: Any, units: Any, number: int) -> Events:
    where = f"{path}: recording {number}"
    try:
        time, unit = np.asarray(times[number], np.float64), np.asarray(units[number], np.int64)
        if time.shape != unit.shape or time.ndim != 1 or len(time) > LARGEST or not np.isfinite(time).all():
            raise ValueError(f"{time.shape} times, {unit.shape} units")
    except Exception as error:  # as above
        raise BadRecording(f"{where}: cannot be read: {reason(error)}") from error
    order = np.argsort(time, kind="stable")
    zeros = np.zeros(len(time), np.int64)
    events = Events(unit[order], zeros, zeros + 1, np.floor(time[order] * 1e6).astype(np.int64))
    return checked(where, events, SENSOR, lambda event: f"event {event}")
