"""Download and prepare a data set.

TensorFlow Datasets prepares images, and tonic downloads event recordings; training needs neither downloader.
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
    """Directory for data sets."""
    manual_dir: Path | None = None
    """Images: a directory with the official archives, under their own names, to use instead of a download."""


def prepare(name: str, data_dir: str | Path = DATA_DIR, manual_dir: str | Path | None = None) -> Path:
    """Prepare a data set, and return the directory that it is in.

    Args:
        name: of the data set.
        data_dir: directory for data sets.
        manual_dir: for images, a directory with the official archives to use instead of a download.

    Raises:
        InputError: for an unknown name, or if the data set cannot be downloaded or prepared.
    """
    place = Path(data_dir).expanduser()
    if name in IMAGES:
        from sealkd_jax.data.tfds import prepare

        return prepare(name, place, Path(manual_dir).expanduser() if manual_dir else None)
    if name not in EVENTS:
        raise InputError(f"{name}: nothing to prepare; expected one of {', '.join((*IMAGES, *EVENTS))}")
    if manual_dir is not None:
        raise InputError(f"--manual-dir: for images; put the archives of {name} into --data-dir")
    from sealkd_jax.data.events import download

    download(name, place)
    return place


def main(argv: list[str] | None = None) -> None:
    """Print where the data set is."""
    description = f"Download and prepare a data set: one of {', '.join((*IMAGES, *EVENTS))}."
    options = read_options(PrepareOptions, description, argv, "prepare")
    print(f"{options.name}: {prepare(options.name, options.data_dir, options.manual_dir)}")
