"""Frames of recordings on disk: made once, recording by recording, then memory-mapped.

The file `<name>-<fingerprint>.safetensors` holds frames and labels of the three splits. Its header has the fingerprint
of the recordings and settings, the recordings' names, those skipped with the reason, and a SHA-256.

Axis legend: N recordings, T timesteps, H height, W width, 2 polarities.
"""

import hashlib
import json
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from sealkd_jax.data.datasets import SPLITS, Dataset, Split
from sealkd_jax.data.events.framing import Framing, frames
from sealkd_jax.data.events.recordings import BadRecording, Recording, Sensor, sides
from sealkd_jax.errors import InputError
from sealkd_jax.files import locked, replacing

FORMAT = 2  # increment it when the same recordings would become other frames
_KEYS = tuple(f"{split}.{what}" for split in SPLITS for what in ("frames", "labels"))
_HOW = 'on_bad_recording="skip" leaves it out'
_DTYPES = {"U8": np.uint8, "U16": np.uint16, "I32": np.int32}


class Recordings(NamedTuple):
    """All recordings of a data set. `bad`: for each file that belongs to no split, the reason."""

    train: list[Recording]
    validation: list[Recording]
    test: list[Recording]
    bad: tuple[str, ...]


class EventDataset(Dataset):
    """A data set whose frames, uint8 or uint16 counts `[N, T, H, W, 2]`, are memory-mapped.

    Attributes:
        skipped: path and reason for each recording that was left out; empty if `on_bad_recording` is "fail".
        recordings: split -> names of its recordings, in the order of its frames.
        sensor: width and height of the sensor, in pixels.
        cache: file that holds the frames.
    """

    def __init__(
        self,
        name: str,
        splits: list[Split],
        classes: tuple[str, ...],
        cache: Path,
        recordings: dict,
        skipped: list[str],
        sensor: tuple[int, int],
    ):
        train, validation, test = splits
        super().__init__(name, train, validation, test, classes)
        self.cache, self.recordings, self.skipped = cache, recordings, tuple(skipped)
        self.sensor = sensor


def load_frames(
    name: str,
    recordings: Recordings,
    framing: Framing,
    sensor: Sensor | None,
    classes: tuple[str, ...],
    cache_dir: Path,
) -> EventDataset:
    """The frames of these recordings, from the cache or made now. One process makes them, others wait.

    If `sensor` is None, it is found from the largest coordinates of all recordings, and a warning says so.

    Counts are uint8 if none exceeds 255, else uint16. While they are made, the disk holds them twice.

    Raises:
        InputError: if a recording is bad (with "skip": more than half of them, or all of a split), a count exceeds
            65,535, the file of frames is damaged, or the disk is full.
    """
    fingerprint = _fingerprint(name, recordings, framing)
    path = cache_dir / f"{name}-{fingerprint[:12]}.safetensors"
    if not path.exists():
        with locked(cache_dir, wait=True):
            if not path.exists():
                _make(path, fingerprint, recordings, framing, sensor)
    arrays, metadata = _read(path)
    if metadata["fingerprint"] != fingerprint:
        raise InputError(f"{path}: has other recordings or settings; remove it, and it is made again")
    splits = [Split(arrays[f"{split}.frames"], np.array(arrays[f"{split}.labels"])) for split in SPLITS]
    return EventDataset(
        name, splits, classes, path, metadata["recordings"], metadata["skipped"], tuple(metadata["sensor"])
    )


def _fingerprint(name: str, recordings: Recordings, framing: Framing) -> str:
    files = [[(r.name, r.size, r.stamp, r.label) for r in getattr(recordings, split)] for split in SPLITS]
    origin = [FORMAT, name, asdict(framing), files, recordings.bad]
    return hashlib.sha256(json.dumps(origin).encode()).hexdigest()


def _make(path: Path, fingerprint: str, recordings: Recordings, framing: Framing, sensor: Sensor | None) -> None:
    if sensor is None:
        sensor = _find_sensor(recordings)
        found = f"sensor of {sensor[0]} x {sensor[1]} pixels, as the largest coordinates say"
        warnings.warn(f"{path.stem.rpartition('-')[0]}: {found}; give sensor_size if it is another", stacklevel=4)
    with _writing(path.parent), _Growing(path.parent) as growing:
        kept, skipped = _convert(recordings, framing, sensor, growing)
        counts = [len(kept[split]) for split in SPLITS]
        if len(skipped) > sum(counts):
            total = len(skipped) + sum(counts)
            raise InputError(f"{len(skipped)} of {total} recordings are bad, more than half; the first: {skipped[0]}")
        if not all(counts):
            raise InputError(f"expected good recordings in each of {', '.join(SPLITS)}; got {counts}")
        arrays = {}
        for split, images in zip(SPLITS, np.split(growing.frames(), np.cumsum(counts)[:-1]), strict=True):
            arrays[f"{split}.frames"] = images
            arrays[f"{split}.labels"] = np.array([recording.label for recording in kept[split]], np.int32)
        names = {split: [recording.name for recording in kept[split]] for split in SPLITS}
        settings: dict[str, Any] = {"fingerprint": fingerprint, "framing": asdict(framing), "sensor": sides(sensor)}
        settings |= {"recordings": names, "skipped": skipped}
        text = json.dumps(settings)
        with replacing(path) as partial:
            save_file(arrays, partial, metadata={"facts": text, "sha256": _digest(text, arrays)})


def _find_sensor(recordings: Recordings) -> tuple[int, int]:
    """Width and height that hold every event of the good recordings."""
    width = height = 1
    for recording in (*recordings.train, *recordings.validation, *recordings.test):
        with suppress(BadRecording):  # named when it is converted
            events = recording.events()
            width, height = max(width, int(events.x.max()) + 1), max(height, int(events.y.max()) + 1)
    return width, height


def _convert(
    recordings: Recordings, framing: Framing, sensor: Sensor, growing: "_Growing"
) -> tuple[dict[str, list[Recording]], list[str]]:
    """Appends the frames of every recording, one in memory at a time; split -> recordings kept, reasons of the rest."""
    skip, skipped = framing.on_bad_recording == "skip", list(recordings.bad)
    if skipped and not skip:
        raise InputError(f"{skipped[0]}; {_HOW}")
    kept: dict[str, list[Recording]] = {split: [] for split in SPLITS}
    for split in SPLITS:
        for recording in getattr(recordings, split):
            try:
                counts = frames(recording.events(), framing, sensor)
            except BadRecording as error:
                if not skip:
                    raise InputError(f"{error}; {_HOW}") from error
                skipped.append(str(error))
                continue
            growing.append(recording.name, counts)
            kept[split].append(recording)
    return kept, skipped


class _Growing:
    """Frames in a temporary file that grows: uint8 until a count exceeds 255, then uint16."""

    def __init__(self, directory: Path):
        self._directory = directory
        self._dtype: np.dtype = np.dtype(np.uint8)
        self._shape: tuple[int, ...] = ()
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115

    def __enter__(self) -> "_Growing":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, name: str, counts: np.ndarray) -> None:
        highest = counts.max()
        if highest > np.iinfo(np.uint16).max:
            raise InputError(f"{name}: {highest} events of one pixel in one frame, above 65535; use more timesteps")
        if highest > np.iinfo(self._dtype).max:
            self._widen()
        self._shape = counts.shape
        self._file.write(counts.astype(self._dtype))

    def _widen(self) -> None:
        with self._file as narrow:
            self._file, self._dtype = tempfile.TemporaryFile(dir=self._directory), np.dtype(np.uint16)  # noqa: SIM115
            narrow.seek(0)
            while block := narrow.read(2**22):
                self._file.write(np.frombuffer(block, np.uint8).astype(np.uint16))

    def frames(self) -> np.ndarray:
        self._file.flush()
        return np.memmap(self._file, self._dtype, "r").reshape(-1, *self._shape)


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict]:
    """The arrays, memory-mapped, and the header's metadata. Reads every byte once, for the SHA-256."""
    try:
        data: np.ndarray = np.memmap(path, np.uint8, "r")
        size = int.from_bytes(data[:8].tobytes(), "little")
        if size > 100_000_000:  # the format's limit
            raise ValueError("its header is truncated")
        header, data = json.loads(data[8 : 8 + size].tobytes()), data[8 + size :]
        arrays = {key: _array(data, **header[key]) for key in _KEYS}
        metadata = header["__metadata__"]
        if metadata["sha256"] != _digest(metadata["facts"], arrays):
            raise ValueError("its SHA-256 differs")
        return arrays, json.loads(metadata["facts"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: damaged, {error}; remove it, and it is made again") from error


def _array(data: np.ndarray, dtype: str, shape: list[int], data_offsets: list[int]) -> np.ndarray:
    return data[data_offsets[0] : data_offsets[1]].view(_DTYPES[dtype]).reshape(shape)


def _digest(text: str, arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(text.encode())
    for key in _KEYS:
        digest.update(f"{key}{arrays[key].dtype.str}{arrays[key].shape}".encode())
        digest.update(arrays[key])
    return digest.hexdigest()


@contextmanager
def _writing(directory: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise InputError(f"{directory}: frames cannot be written: {error}") from error
