"""Gets a data set: `python -m train.prepare NAME [--data-dir DIR] [--manual-dir DIR]`.

Images are downloaded and prepared by TensorFlow Datasets (`pip install -e ".[prepare]"`), recordings of events
downloaded by tonic (`pip install -e ".[events]"`). Training needs neither's downloader.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from sealkd_jax.data import DATA_DIR
from sealkd_jax.data.loading import EVENTS, IMAGES
from sealkd_jax.errors import InputError
from sealkd_jax.programs.command_line import read_options
from sealkd_jax.programs.option import POSITIONAL


@dataclass(frozen=True)
class PrepareOptions:
    """Which data set, and where it goes."""

    name: Annotated[str, POSITIONAL]
    """Name of the data set."""
    data_dir: Path = DATA_DIR
    """Where data sets are."""
    manual_dir: Path | None = None
    """Images: a directory with the official archives, under their own names, in place of a download."""


def main(argv: list[str] | None = None) -> None:
    """Prints where the data set is."""
    about = f"Gets a data set: one of {', '.join((*IMAGES, *EVENTS))}."
    options = read_options(PrepareOptions, about, argv, "prepare")
    name, data_dir = options.name, options.data_dir.expanduser()
    if name in IMAGES:
        from sealkd_jax.data.tfds import prepare

        manual_dir = options.manual_dir and options.manual_dir.expanduser()
        print(f"{name}: {prepare(name, data_dir, manual_dir)}")
    elif name in EVENTS:
        if options.manual_dir is not None:
            raise InputError(f"--manual-dir: for images; put the archives of {name} into --data-dir")
        from sealkd_jax.data.events import download

        download(name, data_dir)
        print(f"{name}: {data_dir}")
    else:
        raise InputError(f"{name}: nothing to prepare; expected one of {', '.join((*IMAGES, *EVENTS))}")
