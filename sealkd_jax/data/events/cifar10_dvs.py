"""CIFAR10-DVS: 10,000 images of CIFAR-10, moved on a screen in front of an event camera of 128x128 pixels.

Li et al., "CIFAR10-DVS: an event-stream dataset for object classification", 2017. Read as its authors publish it, AEDAT
2, or as tonic does, AEDAT 4. There is no official split; see `SPLITS`.
"""

import re
from functools import partial
from pathlib import Path

from sealkd_jax.data.events import aedat, aedat4
from sealkd_jax.data.events.cache import EventDataset, Recordings, load_frames
from sealkd_jax.data.events.framing import Framing
from sealkd_jax.data.events.recordings import Events, Recording, checked, find, list_files, read_bytes
from sealkd_jax.data.events.splits import published
from sealkd_jax.errors import InputError, did_you_mean

NAME, SENSOR, USUAL_SIZE = "cifar10-dvs", 128, 48
LARGEST = 2**25  # bytes of one recording; real ones have some 3 million uncompressed, at 16 bytes per event
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SPLITS = {"ours": "cifar10_dvs_split.json", "seal": "cifar10_dvs_seal.json", "tet": "cifar10_dvs_tet.json"}
"""Splits by name, as lists of recordings. Of each class's training recordings, a tenth is for validation.

- ours: drawn by `splits.draw`, 8,000, 1,000 and 1,000.
- seal: that of the authors of SeAl-KD, who draw 1,000 of 10,000 for test without regard to the class: `random_split` of
  PyTorch with seed 42 of SpikingJelly's files in the order of their names.
- tet: that of the code of Deng et al. (TET, ICLR 2022): 0 to 699 of each class for train, 700 to 999 for test.
"""


def load_cifar10_dvs(data_dir: Path, framing: Framing, cache_dir: Path, split: str = "ours") -> EventDataset:
    """CIFAR10-DVS as frames.

    Args:
        data_dir: has CIFAR10DVS/CLASS/cifar10_CLASS_NUMBER.aedat4, as tonic downloads it, or .aedat, as published.
        framing: how a recording becomes frames.
        cache_dir: directory in which frames are kept; see `cache`.
        split: one of `SPLITS`.

    Raises:
        InputError: if the data are missing or damaged.
    """
    framing = framing.for_sensor(NAME, SENSOR, USUAL_SIZE)
    if split not in SPLITS:
        raise InputError(f"split {split}: unknown; expected one of {', '.join(SPLITS)}{did_you_mean(split, SPLITS)}")
    root = find(NAME, data_dir, "CIFAR10DVS")
    ending = ".aedat4" if next(root.glob("*/*.aedat4"), None) else ".aedat"
    split_of = {
        (name, number): part
        for name, parts in published(SPLITS[split]).items()
        for part, numbers in parts.items()
        for number in numbers
    }
    recordings: dict[str, list[Recording]] = {"train": [], "validation": [], "test": []}
    bad = []
    for path, name, size, stamp in list_files(root, ending):
        match = re.fullmatch(r"CIFAR10DVS/([a-z]+)/cifar10_([a-z]+)_([0-9]{1,3})\.aedat4?", name)
        if match and match[1] == match[2] and (match[1], int(match[3])) in split_of:
            recording = Recording(name, size, stamp, partial(read, path), CLASSES.index(match[1]))
            recordings[split_of[match[1], int(match[3])]].append(recording)
        else:
            bad.append(f"{path}: expected CLASS/cifar10_CLASS_NUMBER{ending}, of {', '.join(CLASSES)}, and 0 to 999")
    return load_frames(NAME, Recordings(**recordings, bad=tuple(bad)), framing, SENSOR, CLASSES, cache_dir)


def read(path: Path) -> Events:
    """The events of a recording, in AEDAT 4 or 2."""
    data = read_bytes(path, LARGEST)
    if path.suffix == ".aedat4":
        return aedat4.parse(str(path), data, SENSOR)
    return checked(str(path), aedat.parse(str(path), data), SENSOR, lambda event: f"event {event}")
