"""One recording as frames, in the format of a data set's recordings."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sealkd_jax.data.events import aedat4, cifar10_dvs, dvs_gesture, nmnist, own
from sealkd_jax.data.events.framing import Framing, frames
from sealkd_jax.data.events.recordings import Events, read_bytes
from sealkd_jax.errors import InputError


class Kind(NamedTuple):
    """The recordings of a data set.

    Attributes:
        ending: of their files.
        largest: number of bytes that one may have.
        sensor: side of the sensor, in pixels.
        usual_size: side of the frames if a framing has none.
        parse: reads the bytes of the file of that name.
    """

    ending: str
    largest: int
    sensor: int
    usual_size: int
    parse: Callable[[str, bytes], Events]


KINDS = {
    nmnist.NAME: Kind(".bin", nmnist.LARGEST, nmnist.SENSOR, nmnist.SENSOR, nmnist.parse),
    dvs_gesture.NAME: Kind(".npy", dvs_gesture.LARGEST, dvs_gesture.SENSOR, dvs_gesture.SENSOR, dvs_gesture.parse),
    cifar10_dvs.NAME: Kind(
        ".aedat4",
        cifar10_dvs.LARGEST,
        cifar10_dvs.SENSOR,
        cifar10_dvs.USUAL_SIZE,
        lambda where, data: aedat4.parse(where, data, cifar10_dvs.SENSOR),
    ),
}
"""The recordings of each data set, by its name."""


def read_frames(dataset: str, path: Path, framing: Framing) -> np.ndarray:
    """The frames of one recording, uint16 `[T, H, W, 2]`, as the data set of that name has them.

    Raises:
        InputError: if the data set has no recordings, or the file is damaged or of another format.
    """
    if dataset.startswith("events:") and framing.sensor_size is not None:
        sensor = framing.sensor_size
        if path.suffix.lower() not in own.RECORDINGS.endings:
            raise InputError(f"{path}: expected a recording ({', '.join(sorted(own.RECORDINGS.endings))})")
        events = own.read_recording(path, sensor)
        return _as_uint16(path, frames(events, replace(framing, size=framing.size or own.USUAL_SIZE), sensor))
    if dataset not in KINDS:
        raise InputError(f"{path}: {dataset} has no files of recordings; expected frames as .npz or .npy")
    kind = KINDS[dataset]
    if path.suffix != kind.ending:
        raise InputError(f"{path}: expected a recording as those of {dataset} ({kind.ending}), .npz or .npy")
    framing = framing.for_sensor(dataset, kind.sensor, kind.usual_size)
    counts = frames(kind.parse(str(path), read_bytes(path, kind.largest)), framing, kind.sensor)
    return _as_uint16(path, counts)


def _as_uint16(path: Path, counts: np.ndarray) -> np.ndarray:
    if counts.max() > np.iinfo(np.uint16).max:
        raise InputError(f"{path}: {counts.max()} events of one pixel in one frame, above 65535")
    return counts.astype(np.uint16)
