"""Data sets by name."""

import math
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sealkd_jax.data.archives import convert_archive
from sealkd_jax.data.arrays import load_npz
from sealkd_jax.data.datasets import SPLITS, Dataset, Split
from sealkd_jax.data.events import (
    EventDataset,
    Framing,
    download,
    load_cifar10_dvs,
    load_dvs_gesture,
    load_ncaltech101,
    load_nmnist,
    load_recordings,
    load_shd,
)
from sealkd_jax.data.events.originals import unpack
from sealkd_jax.data.folders import load_folder
from sealkd_jax.data.tfds import load_tfds, prepare_tfds
from sealkd_jax.errors import InputError, did_you_mean, reason

DATA_DIR = Path("~/tensorflow_datasets")
"""Directory of the data sets if `load` and `prepare` are given none."""
MOST_IN_MEMORY = 2**34  # bytes of all images


class Request(NamedTuple):
    """The arguments of `load`, from which a loader takes what it needs."""

    name: str
    directory: str | Path
    framing: Framing | None
    cache_dir: Path
    image_size: int
    split: str

    @property
    def data_dir(self) -> Path:
        """The directory of the data sets. It need not exist for those that are elsewhere."""
        return _path(self.directory)


Convert = Callable[[str, Path, Path], Path]


class Source(NamedTuple):
    """How a data set is read, and how it is downloaded.

    Attributes:
        load: reads it.
        prepare: downloads it: (name, data_dir, manual_dir) -> its directory. None if there is nothing to download.
        convert: makes it of the official archive: (name, archive, data_dir) -> what is read. None if it cannot.
        events: whether it has recordings of events, which need a framing.
    """

    load: Callable[[Request], Dataset]
    prepare: Callable[[str, Path, Path | None], Path] | None = None
    convert: Convert | None = None
    events: bool = False


def _images(name: str) -> Source:
    """A data set as `convert_archive` wrote it, or else as TFDS prepared it."""

    def load(request: Request) -> Dataset:
        converted = request.data_dir / f"{name}.npz"
        return load_npz(converted) if converted.exists() else load_tfds(name, request.data_dir)

    return Source(load, prepare_tfds, convert_archive)


def _events(read: Callable[[Path, Framing, Path], EventDataset], unpack: Convert | None = None) -> Source:
    return Source(lambda request: _frames(read, request.data_dir, request), download, unpack, events=True)


def _frames(read: Callable[[Path, Framing, Path], EventDataset], path: Path, request: Request) -> EventDataset:
    if request.framing is None:
        raise InputError(f"framing None: {request.name} needs one, such as Framing(timesteps=4)")
    dataset = read(path, request.framing, request.cache_dir)
    if dataset.skipped:
        examples = "; ".join(dataset.skipped[:3])
        warnings.warn(f"{request.name}: {len(dataset.skipped)} recordings left out: {examples}", stacklevel=3)
    return dataset


DATASETS: dict[str, Source] = {
    "digits": Source(lambda request: _load_digits()),
    "cifar10": _images("cifar10"),
    "cifar100": _images("cifar100"),
    "fashion-mnist": _images("fashion-mnist"),
    "imagenet": Source(lambda request: load_folder(request.data_dir / "imagenet", request.image_size)),
    "imagenet100": Source(lambda request: load_folder(request.data_dir / "imagenet100", request.image_size)),
    "tiny-imagenet": Source(lambda request: load_folder(request.data_dir / "tiny-imagenet-200", request.image_size)),
    "nmnist": _events(load_nmnist),
    "dvs-gesture": _events(load_dvs_gesture, unpack),
    "cifar10-dvs": Source(
        lambda request: _frames(partial(load_cifar10_dvs, split=request.split), request.data_dir, request),
        download,
        unpack,
        events=True,
    ),
    "n-caltech101": _events(load_ncaltech101),
    "shd": _events(load_shd),
}
"""The data sets of `load`, by name."""

_FILES: dict[str, Callable[[Path, Request], Dataset]] = {
    "npz": lambda path, request: load_npz(path),
    "folder": lambda path, request: load_folder(path, request.image_size),
    "events": lambda path, request: _frames(load_recordings, path, request),
}


def has_events(name: str) -> bool:
    """Whether a data set of this name has recordings of events, so that `load` needs a framing."""
    return name.startswith("events:") or (name in DATASETS and DATASETS[name].events)


def load(
    name: str,
    *,
    data_dir: str | Path | None = None,
    framing: Framing | None = None,
    cache_dir: str | Path = "runs/frames",
    stream: bool = False,
    image_size: int = 224,
    split: str = "ours",
) -> Dataset:
    """Loads a data set.

    Args:
        name: one of `DATASETS`, `npz:FILE` for your own arrays, `folder:DIR` for your own pictures, or `events:DIR` for
            your own recordings of events.
        data_dir: directory of the data sets; `DATA_DIR` if None.
        framing: how a recording of events becomes frames.
        cache_dir: directory in which frames of recordings are kept.
        stream: read images when they are needed, not all now.
        image_size: height and width of pictures from folders, in pixels.
        split: for cifar10-dvs, "ours" or one that others have published; see `cifar10_dvs.SPLITS`.

    Warns of what is left out or changed on reading, and of classes of which a split has no example.

    Raises:
        InputError: if the name is unknown, or the data are missing, damaged or too large for memory.
    """
    request = Request(name, data_dir or DATA_DIR, framing, Path(cache_dir), image_size, split)
    if split != "ours" and name != "cifar10-dvs":
        raise InputError(f"split {split}: of cifar10-dvs alone; {name} has one")
    kind, colon, path = name.partition(":")
    if colon and kind in _FILES:
        dataset = _FILES[kind](_path(path), request)
    elif name in DATASETS:
        dataset = DATASETS[name].load(request)
    else:
        known = f"{', '.join(DATASETS)}, npz:FILE, folder:DIR or events:DIR"
        raise InputError(f"dataset {name}: unknown; expected one of {known}{did_you_mean(name, DATASETS)}")
    _warn_of_absent_classes(dataset)
    if stream:
        return dataset.on_demand()
    size = sum(math.prod(getattr(dataset, split).images.shape) for split in SPLITS)
    if size > MOST_IN_MEMORY and not isinstance(dataset.train.images, np.ndarray):
        raise InputError(f"stream False: the images of {name} are too large for memory, {size / 2**30:.0f} GiB")
    return dataset.in_memory()


def prepare(
    name: str,
    data_dir: str | Path | None = None,
    manual_dir: str | Path | None = None,
    archive: str | Path | None = None,
) -> Path:
    """Downloads a data set to where `load` finds it, unless it is there already, or makes it of an archive.

    Args:
        name: one of `DATASETS` that can be downloaded.
        data_dir: directory of the data sets; `DATA_DIR` if None.
        manual_dir: for images, a directory with the official archives in place of a download by TFDS.
        archive: the official archive, or a directory with its files, from which the data set is made at once.

    Returns:
        The directory or the file of the data set.

    Raises:
        InputError: if there is nothing to download for this name, the download fails, or it is another archive.
    """
    source = DATASETS.get(name)
    if source is None or source.prepare is None:
        names = [known for known, source in DATASETS.items() if source.prepare is not None]
        nearest = did_you_mean(name, names)
        raise InputError(f"{name}: nothing to prepare; expected one of {', '.join(names)}{nearest}")
    if archive is not None:
        if source.convert is None:
            names = [known for known, source in DATASETS.items() if source.convert is not None]
            raise InputError(f"archive {archive}: of {name} none is read; expected one of {', '.join(names)}")
        return source.convert(name, _path(archive), _path(data_dir or DATA_DIR))
    return source.prepare(name, _path(data_dir or DATA_DIR), _path(manual_dir) if manual_dir else None)


def _path(text: str | Path) -> Path:
    """The path with `~` and `~user` replaced."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise InputError(f"{text}: {reason(error)}; write the directory itself") from error


def _warn_of_absent_classes(dataset: Dataset) -> None:
    for name in SPLITS:
        found = set(np.unique(getattr(dataset, name).labels).tolist())
        if absent := [kind for label, kind in enumerate(dataset.classes) if label not in found]:
            warnings.warn(
                f"{dataset.name}: no {name} example of {len(absent)} of the {len(dataset.classes)} classes, such as "
                f"{absent[0]}",
                stacklevel=3,
            )


def _load_digits() -> Dataset:
    """scikit-learn's handwritten digits, 8x8, 1,797 images; nothing is downloaded.

    The split is fixed and stratified: 1,257 train, 180 validation, 360 test.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]  # 0..16 -> 0..255, invertible
    labels = digits.target.astype(np.int32)
    rest, last = train_test_split(np.arange(len(labels)), test_size=360, stratify=labels, random_state=0)
    most, some = train_test_split(rest, test_size=180, stratify=labels[rest], random_state=0)
    train, validation, test = (Split(images[part], labels[part]) for part in (most, some, last))
    return Dataset("digits", train, validation, test, tuple("0123456789"))
