"""Images that TensorFlow Datasets (TFDS) has prepared, read without TensorFlow.

Axis legend: N examples, H height, W width, C channels.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sealkd_jax.data.datasets import Dataset, OnDemand, Split, hold_out, prepare_command
from sealkd_jax.errors import InputError, reason

FILE_FORMAT = "array_record"  # the only format of TFDS with random access and without TensorFlow
CHUNK = 1000  # records per request: nearly three times as fast as one by one

# TFDS advises to install OpenCV, which our decoding does not need.
logging.getLogger("absl").addFilter(lambda line: not str(line.msg).startswith("OpenCV is not installed"))


def load_tfds(name: str, data_dir: Path) -> Dataset:
    """Reads a data set of labelled images. A tenth of the official training split is held out (`hold_out`).

    Labels are read now, images on demand.

    Args:
        name: name of the TFDS builder, with hyphens for underscores.
        data_dir: directory in which TFDS prepared it.

    Raises:
        InputError: if it is not there, in another file format, or damaged.
    """
    builder = _prepared(name, data_dir)
    train, test = (_read_split(builder, split, prepare_command(name, data_dir)) for split in ("train", "test"))
    train, validation = (
        Split(OnDemand(train.images, index), train.labels[index])
        for index in hold_out(train.labels, len(train.labels) // 10)
    )
    return Dataset(name, train, validation, test, tuple(builder.info.features["label"].names))


class Records:
    """A feature of a prepared split's records, in TFDS' order: images are `datasets.Images`."""

    def __init__(self, builder: Any, split: str, feature: str, remedy: str, **how: Any):
        self._feature, self._remedy, self._builder = feature, remedy, builder
        self._files = ", ".join(map(str, builder.info.splits[split].filepaths))
        with self._named_errors():
            self._source = builder.as_data_source(split, **how)
        self.shape = (len(self._source), *builder.info.features[feature].shape)
        self.dtype = np.dtype(builder.info.features[feature].np_dtype)

    def read(self, index: np.ndarray) -> np.ndarray:
        """The feature of the records at `index`, `[K, ...]`."""
        values = np.empty((len(index), *self.shape[1:]), self.dtype)
        with self._named_errors():
            for first in range(0, len(index), CHUNK):
                records = self._source.__getitems__([int(number) for number in index[first : first + CHUNK]])
                for place, record in enumerate(records, first):
                    values[place] = record[self._feature]
        return values

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # those of TFDS, array_record, protobuf and Pillow have no class in common
            raise InputError(
                f"{self._files}: cannot be read ({reason(error)}); "
                f"if damaged, remove {self._builder.data_path} and prepare it again: {self._remedy}"
            ) from error


def _read_split(builder: Any, split: str, remedy: str) -> Split:
    """Images on demand and labels int32 `[N]`. Every record is read for its label, so damage shows at once."""
    import tensorflow_datasets as tfds

    labels = Records(builder, split, "label", remedy, decoders={"image": tfds.decode.SkipDecoding()})
    values = labels.read(np.arange(labels.shape[0])).astype(np.int32)
    return Split(Records(builder, split, "image", remedy), values)


def _prepared(name: str, data_dir: Path) -> Any:
    """The TFDS builder of a data set that is prepared."""
    builder = _builder(name, data_dir)
    if not builder.is_prepared():
        raise InputError(f"data_dir {data_dir}: no {name} there; get it: {prepare_command(name, data_dir)}")
    formats = {file_format.value for file_format in builder.info.available_file_formats()}
    if FILE_FORMAT not in formats:
        raise InputError(
            f"{builder.data_path}: prepared as {', '.join(formats)}, which needs TensorFlow to read; expected "
            f"{FILE_FORMAT}; prepare it in another directory: {prepare_command(name, data_dir / FILE_FORMAT)}"
        )
    return builder


def _builder(name: str, data_dir: Path) -> Any:
    """The TFDS builder, with the description of the data set if that is prepared."""
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name.replace("-", "_"), data_dir=data_dir)
    except Exception as error:  # protobuf's, json's, or TFDS' own
        raise InputError(
            f"{data_dir / name.replace('-', '_')}: cannot be read ({reason(error)}); "
            f"if damaged, remove it and prepare it again: {prepare_command(name, data_dir)}"
        ) from error


def prepare_tfds(name: str, data_dir: Path, manual_dir: Path | None = None) -> Path:
    """Downloads and prepares a data set with TFDS, which needs TensorFlow for this. Leaves a prepared one as it is.

    Args:
        name: as in `load_tfds`.
        data_dir: directory of the data sets.
        manual_dir: directory with the official archives, under their own names, in place of a download.

    Returns:
        The directory of the data set.

    Raises:
        InputError: if TensorFlow is missing, or an archive cannot be downloaded or is not the official one.
    """
    builder = _builder(name, data_dir)
    if builder.is_prepared():
        return Path(_prepared(name, data_dir).data_path)
    if manual_dir is not None and not manual_dir.is_dir():
        raise InputError(f"manual_dir {manual_dir}: no such directory")
    try:
        import tensorflow  # noqa: F401
    except ImportError as error:
        raise InputError(f'preparing {name} needs TensorFlow: pip install "sealkd-jax[prepare]"') from error
    import tensorflow_datasets as tfds

    config = tfds.download.DownloadConfig(manual_dir=manual_dir)
    try:
        builder.download_and_prepare(download_config=config, file_format=FILE_FORMAT)
    except Exception as error:  # TFDS raises whatever its downloader, extractor or builder did
        request = getattr(error, "request", None)
        where = f"{request.url}: " if request else ""
        archives = ", ".join(info.filename for info in builder.url_infos.values())
        raise InputError(
            f"{where}{name} could not be prepared ({reason(error)}); if you have the archives already, give their "
            f"directory as manual_dir, with each under its own name ({archives})"
        ) from error
    return Path(builder.data_path)
