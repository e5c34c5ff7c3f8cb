"""DVS128 Gesture: 11 hand gestures of 29 people in several lights, from an event camera of 128x128 pixels.

Amir et al., "A low power, fully event-based gesture recognition system", 2017. Read as its authors publish it, a
file in AEDAT 3.1 per user and light with a table of labels, or as tonic does, a `.npy` per gesture: `[E, 4]` with
columns x, y, p and time in milliseconds.

Axis legend: E events of one recording.
"""

import io
import re
from functools import lru_cache, partial
from itertools import compress
from pathlib import Path

import numpy as np

from sealkd_jax.data.events import aedat
from sealkd_jax.data.events.cache import EventDataset, Recordings, load_frames
from sealkd_jax.data.events.framing import Framing
from sealkd_jax.data.events.recordings import BadRecording, Events, Recording, checked, find, list_files, read_bytes
from sealkd_jax.data.events.splits import last_users
from sealkd_jax.errors import InputError
from sealkd_jax.files import read_npy_header
from sealkd_jax.typed import read_text

NAME, SENSOR = "dvs-gesture", 128
FIRST_OF_TEST = 24  # number of the first user of the official test set
LABELS = "class,startTime_usec,endTime_usec"
LARGEST_ORIGINAL = 2**28  # bytes of a published file
LARGEST = 2**27  # bytes of one recording: four million events of 4 x 8 bytes
CLASSES = (
    "hand clapping",
    "right hand wave",
    "left hand wave",
    "right arm clockwise",
    "right arm counter-clockwise",
    "left arm clockwise",
    "left arm counter-clockwise",
    "arm roll",
    "air drums",
    "air guitar",
    "other gestures",
)


def load_dvs_gesture(data_dir: Path, framing: Framing, cache_dir: Path) -> EventDataset:
    """DVS128 Gesture as frames: the official train and test users; the last train users are for validation.

    With all 23 train users these are the users 22 and 23.

    Args:
        data_dir: has ibmGestureTrain/ and ibmGestureTest/ with USER_LIGHT/LABEL.npy, or DVSGesture/ with these, as
            tonic downloads them; or else DvsGesture/ with USER_LIGHT.aedat and USER_LIGHT_labels.csv, as published.
        framing: how a recording becomes frames.
        cache_dir: directory in which frames are kept; see `cache`.

    Raises:
        InputError: if the data are missing or damaged.
    """
    framing = framing.for_sensor(NAME, SENSOR, SENSOR)
    if (original := data_dir / "DvsGesture").is_dir() and not (data_dir / "ibmGestureTrain").is_dir():
        everything, of_users, bad_train = _find_original(original)
        bad_test: list[str] = []
        training = [user < FIRST_OF_TEST for user in of_users]
        train, users = list(compress(everything, training)), list(compress(of_users, training))
        test = [one for one, is_training in zip(everything, training, strict=True) if not is_training]
    else:
        train, users, bad_train = _find(data_dir, "ibmGestureTrain")
        test, _, bad_test = _find(data_dir, "ibmGestureTest")
    train, validation = last_users(NAME, train, users)
    recordings = Recordings(train, validation, test, (*bad_train, *bad_test))
    return load_frames(NAME, recordings, framing, SENSOR, CLASSES, cache_dir)


def parse(where: str, data: bytes) -> Events:
    """The events of one recording, whole numbers of any dtype; no pickle.

    Raises:
        BadRecording: if it is not such an array; see also `recordings.checked`.
    """
    stream = io.BytesIO(data)
    try:
        shape, column_first, dtype = read_npy_header(stream)
    except Exception as error:  # damaged text makes NumPy raise whatever tokenize and ast do
        raise BadRecording(f"{where}: byte 0: not a .npy array: {error}") from error
    start = stream.tell()
    if dtype.kind not in "iuf" or len(shape) != 2 or shape[1] != 4:
        raise BadRecording(f"{where}: byte 0: expected numbers [E, 4], got {dtype} {list(shape)}")
    expected = start + shape[0] * 4 * dtype.itemsize
    if len(data) != expected:
        raise BadRecording(f"{where}: byte {min(len(data), expected)}: expected {expected} bytes, got {len(data)}")
    array = np.frombuffer(data, dtype, offset=start).reshape(shape, order="F" if column_first else "C")
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity become integers that differ from them
        x, y, p, t = (array * [1, 1, 1, 1000]).astype(np.int64).T
        whole = (
            (array[:, 0] == x) & (array[:, 1] == y) & (array[:, 2] == p) & (array[:, 3] >= 0) & (array[:, 3] < 2**40)
        )

    def place(event: int) -> str:
        return f"byte {start + event * array.strides[0]}"

    if not whole.all():
        first = int(whole.argmin())
        raise BadRecording(
            f"{where}: {place(first)}: event {first} is {array[first].tolist()}; expected whole x, y, p and times"
        )
    return checked(where, Events(x, y, p, t), SENSOR, place)


def _find(data_dir: Path, part: str) -> tuple[list[Recording], list[int], list[str]]:
    """The recordings of one part, sorted by name, the user of each, and the errors in the names of other files."""
    good, users, bad = [], [], []
    for path, name, size, stamp in list_files(find(NAME, data_dir, part, f"DVSGesture/{part}"), ".npy"):
        match = re.fullmatch(rf"{part}/user([0-9]+)_[^/]+/([0-9]|10)\.npy", name)
        if match:
            users.append(int(match[1]))
            good.append(Recording(name, size, stamp, partial(_read, path), int(match[2])))
        else:
            bad.append(f"{path}: expected userNUMBER_LIGHT/LABEL.npy, with a label from 0 to 10")
    return good, users, bad


def _read(path: Path) -> Events:
    return parse(str(path), read_bytes(path, LARGEST))


def _find_original(root: Path) -> tuple[list[Recording], list[int], list[str]]:
    """The gestures of the published files, sorted by name, the user of each, and the errors in tables of labels."""
    good, users, bad = [], [], []
    for path in sorted(root.glob("*.aedat")):
        table, match = path.with_name(f"{path.stem}_labels.csv"), re.fullmatch(r"user([0-9]+)_.+", path.stem)
        try:
            if match is None:
                raise BadRecording(f"{path}: expected userNUMBER_LIGHT.aedat")
            stat = path.stat()
            for label, start, end in _labels(table):
                name = f"{root.name}/{path.name} {start}-{end}"
                events = partial(_read_gesture, path, start, end)
                good.append(Recording(name, stat.st_size, stat.st_mtime_ns, events, label))
                users.append(int(match[1]))
        except InputError as error:
            bad.append(str(error))
    if not good and not bad:
        raise InputError(f"{root}: expected userNUMBER_LIGHT.aedat and userNUMBER_LIGHT_labels.csv")
    return good, users, bad


def _labels(table: Path) -> list[tuple[int, int, int]]:
    """Label from 0, start and end in microseconds of each gesture."""
    lines = read_text(table).split()
    if lines[:1] != [LABELS]:
        raise BadRecording(f"{table}: line 1: expected {LABELS}")
    found = []
    for number, line in enumerate(lines[1:], 2):
        match = re.fullmatch(r"([0-9]{1,2}),([0-9]{1,18}),([0-9]{1,18})", line)
        if match is None or not 1 <= int(match[1]) <= len(CLASSES) or int(match[2]) >= int(match[3]):
            raise BadRecording(f"{table}: line {number}: {line[:60]!r}; expected a class from 1 to 11, a start, an end")
        found.append((int(match[1]) - 1, int(match[2]), int(match[3])))
    return found


def _read_gesture(path: Path, start: int, end: int) -> Events:
    """The events of a published file from `start` on and before `end`."""
    events = _read_original(path, path.stat().st_mtime_ns) if path.is_file() else Events(*np.empty((4, 0), np.int64))
    inside = (events.t >= start) & (events.t < end)
    where = f"{path}: {start} to {end} µs"
    return checked(where, Events(*(column[inside] for column in events)), SENSOR, lambda event: f"event {event}")


@lru_cache(maxsize=1)  # the gestures of a file are read one after another
def _read_original(path: Path, changed: int) -> Events:
    return aedat.parse(str(path), read_bytes(path, LARGEST_ORIGINAL))
