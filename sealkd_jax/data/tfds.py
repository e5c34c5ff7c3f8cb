"""Images that TensorFlow Datasets (TFDS) has prepared, read without TensorFlow.

Axis legend: N examples, H height, W width, C channels.
"""

import logging
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sealkd_jax.data.datasets import Dataset, OnDemand, Split, hold_out, take
from sealkd_jax.errors import InputError

BUILDERS = {"cifar10": "cifar10", "cifar100": "cifar100", "fashion-mnist": "fashion_mnist"}
FILE_FORMAT = "array_record"  # TFDS' format that is read in any order, and without TensorFlow
CHUNK = 1000  # records asked for at once: nearly three times as fast as one by one

# TFDS advises to install OpenCV, which our decoding does not need.
logging.getLogger("absl").addFilter(lambda line: not str(line.msg).startswith("OpenCV is not installed"))


def load_tfds(name: str, data_dir: Path, *, on_demand: bool = False) -> Dataset:
    """Reads one of `BUILDERS`. A tenth of the official training split is held out for validation (`hold_out`).

    Args:
        name: of the data set.
        data_dir: where TFDS prepared it.
        on_demand: images are read when they are needed; otherwise all of them now.

    Raises:
        InputError: if it is not there, in another file format, or damaged.
    """
    builder = _prepared(name, data_dir)
    train, test = (_read_split(builder, split, on_demand, _command(name, data_dir)) for split in ("train", "test"))
    train, validation = (
        Split(OnDemand(train.images, index) if on_demand else take(train.images, index), train.labels[index])
        for index in hold_out(train.labels, len(train.labels) // 10)
    )
    return Dataset(name, train, validation, test, tuple(builder.info.features["label"].names))


class Records:
    """The images of a prepared split, in TFDS' order; see `datasets.Images`."""

    def __init__(self, builder: Any, split: str):
        self._source = builder.as_data_source(split)
        self.shape = (len(self._source), *builder.info.features["image"].shape)
        self.dtype = np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._source[int(index)]["image"]

    def read(self) -> np.ndarray:
        """All of them, `[N, H, W, C]`."""
        images = np.empty(self.shape, self.dtype)
        for image, record in zip(images, _in_order(self._source), strict=True):
            image[...] = record["image"]
        return images


def _in_order(source: Any) -> Iterator[dict[str, Any]]:
    for first in range(0, len(source), CHUNK):
        yield from source.__getitems__(list(range(first, min(first + CHUNK, len(source)))))


def _read_split(builder: Any, split: str, on_demand: bool, remedy: str) -> Split:
    """Labels int32 `[N]`, and images. Every record is read for its label, so damage shows at once."""
    import tensorflow_datasets as tfds

    try:
        images = Records(builder, split)
        encoded = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
        labels = np.fromiter((record["label"] for record in _in_order(encoded)), np.int32, len(encoded))
        return Split(images if on_demand else images.read(), labels)
    except Exception as error:  # those of TFDS, array_record, protobuf and Pillow have no class in common
        files = ", ".join(map(str, builder.info.splits[split].filepaths))
        raise InputError(
            f"{files}: cannot be read ({_line(error)}); "
            f"if damaged, remove {builder.data_path} and prepare it anew: {remedy}"
        ) from error


def _prepared(name: str, data_dir: Path) -> Any:
    """The TFDS builder of a data set that is prepared."""
    builder = _builder(name, data_dir)
    if not builder.is_prepared():
        raise InputError(f"--data-dir {data_dir}: no {name} there; get it: {_command(name, data_dir)}")
    formats = {file_format.value for file_format in builder.info.available_file_formats()}
    if FILE_FORMAT not in formats:
        raise InputError(
            f"{builder.data_path}: prepared as {', '.join(formats)}, which takes TensorFlow to read; expected "
            f"{FILE_FORMAT}: prepare it once more, elsewhere: {_command(name, data_dir / FILE_FORMAT)}"
        )
    return builder


def _builder(name: str, data_dir: Path) -> Any:
    """The TFDS builder, with what it knows of the data set if that is prepared."""
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(BUILDERS[name], data_dir=data_dir)
    except Exception as error:  # protobuf's, json's, or TFDS' own
        raise InputError(
            f"{data_dir / BUILDERS[name]}: cannot be read ({_line(error)}); "
            f"if damaged, remove it and prepare it anew: {_command(name, data_dir)}"
        ) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _command(name: str, data_dir: Path) -> str:
    """What prepares the data set, from a checkout of this project."""
    return f'pip install -e ".[prepare]" && python -m train.prepare {name} --data-dir {shlex.quote(str(data_dir))}'


def prepare(name: str, data_dir: Path, manual_dir: Path | None = None) -> Path:
    """Downloads and prepares a data set with TFDS, which needs TensorFlow for it. One that is there is left as it is.

    Args:
        name: one of `BUILDERS`.
        data_dir: where it goes.
        manual_dir: a directory with the official archives, under their own names, in place of a download.

    Returns:
        its directory.

    Raises:
        InputError: if TensorFlow is missing, or an archive cannot be had or is not the official one.
    """
    builder = _builder(name, data_dir)
    if builder.is_prepared():
        return Path(_prepared(name, data_dir).data_path)
    if manual_dir is not None and not manual_dir.is_dir():
        raise InputError(f"--manual-dir {manual_dir}: no such directory")
    try:
        import tensorflow  # noqa: F401
    except ImportError as error:
        raise InputError(f'preparing {name} takes TensorFlow: pip install -e ".[prepare]"') from error
    import tensorflow_datasets as tfds

    config = tfds.download.DownloadConfig(manual_dir=manual_dir)
    try:
        builder.download_and_prepare(download_config=config, file_format=FILE_FORMAT)
    except Exception as error:  # TFDS passes on what its downloader, extractor or builder raised
        request = getattr(error, "request", None)
        where = f"{request.url}: " if request else ""
        archives = ", ".join(info.filename for info in builder.url_infos.values())
        raise InputError(
            f"{where}{name} could not be prepared ({_line(error)}); archives that you have already, unchanged and "
            f"under their own names ({archives}), go into a directory: --manual-dir DIR"
        ) from error
    return Path(builder.data_path)
