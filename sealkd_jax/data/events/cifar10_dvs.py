"""CIFAR10-DVS: 10,000 images of CIFAR-10, moved on a screen in front of an event camera of 128x128 pixels.

Li et al., "CIFAR10-DVS: an event-stream dataset for object classification", 2017. Read as tonic publishes it, AEDAT 4.
There is no official split; ours is `cifar10_dvs_split.json`, drawn by `splits.draw`.
"""

import re
from functools import partial
from pathlib import Path

from sealkd_jax.data.events import aedat4
from sealkd_jax.data.events.cache import EventDataset, Recordings, load_frames
from sealkd_jax.data.events.framing import Framing
from sealkd_jax.data.events.recordings import Events, Recording, find, list_files, read_bytes
from sealkd_jax.data.events.splits import published

NAME, SENSOR, USUAL_SIZE = "cifar10-dvs", 128, 48
LARGEST = 2**25  # bytes of one recording; real ones have some 3 million uncompressed, at 16 bytes per event
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SPLIT = "cifar10_dvs_split.json"


def load_cifar10_dvs(data_dir: Path, framing: Framing, cache_dir: Path) -> EventDataset:
    """CIFAR10-DVS as frames: 800 recordings of each class for train, 100 for validation, 100 for test.

    Args:
        data_dir: has CIFAR10DVS/CLASS/cifar10_CLASS_NUMBER.aedat4, as tonic downloads it.
        framing: how a recording becomes frames.
        cache_dir: directory in which frames are kept; see `cache`.

    Raises:
        InputError: if the data are missing or damaged.
    """
    framing = framing.for_sensor(NAME, SENSOR, USUAL_SIZE)
    root = find(NAME, data_dir, "CIFAR10DVS")
    split_of = {
        (name, number): split
        for name, splits in published(SPLIT).items()
        for split, numbers in splits.items()
        for number in numbers
    }
    recordings: dict[str, list[Recording]] = {"train": [], "validation": [], "test": []}
    bad = []
    for path, name, size, stamp in list_files(root, ".aedat4"):
        match = re.fullmatch(r"CIFAR10DVS/([a-z]+)/cifar10_([a-z]+)_([0-9]{1,3})\.aedat4", name)
        if match and match[1] == match[2] and (match[1], int(match[3])) in split_of:
            recording = Recording(name, size, stamp, partial(_read, path), CLASSES.index(match[1]))
            recordings[split_of[match[1], int(match[3])]].append(recording)
        else:
            bad.append(f"{path}: expected CLASS/cifar10_CLASS_NUMBER.aedat4, of {', '.join(CLASSES)}, and 0 to 999")
    return load_frames(NAME, Recordings(**recordings, bad=tuple(bad)), framing, SENSOR, CLASSES, cache_dir)


def _read(path: Path) -> Events:
    return aedat4.parse(str(path), read_bytes(path, LARGEST), SENSOR)
