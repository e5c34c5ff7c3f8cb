"""New examples for a finished run, from pictures, arrays and recordings of events.

Axis legend: N examples, T timesteps, H height, W width, C channels.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sealkd_jax.data import Framing
from sealkd_jax.data.events import read_frames
from sealkd_jax.data.pictures import ENDINGS, MARGIN, read_picture
from sealkd_jax.errors import InputError, reason
from sealkd_jax.files import open_file, read_npy_header, read_npz
from sealkd_jax.programs.data import sensor_of
from sealkd_jax.programs.options import DistillOptions

KEYS = ("x", "x_test", "images")
"""The keys of an `.npz` file that hold examples; the first that is there is read."""


class Example(NamedTuple):
    """An example that is not yet normalised: uint8 `[H, W, C]`, or frames of events `[T, H, W, 2]`; and its name."""

    name: str
    image: np.ndarray


@dataclass(frozen=True)
class Format:
    """What the examples of a run look like.

    Attributes:
        shape: `[H, W, C]` of an image, or `[T, H, W, 2]` of a recording's frames.
        dataset: name of the data set, whose kind of recordings is read.
        framing: how a recording becomes frames; None for images.
        margin: the shorter side of a picture before its middle is cut out, relative to the image.
    """

    shape: tuple[int, ...]
    dataset: str
    framing: Framing | None
    margin: float

    @classmethod
    def of_run(cls, card: dict[str, Any], options: DistillOptions) -> "Format":
        """The format of a run's examples, from the entry `input` of its model card and its options."""
        shape, frames = (card["height"], card["width"], card["channels"]), card["frames"]
        from_pictures = options.dataset.startswith("folder:") or options.dataset == "imagenet"
        if frames is None:
            return cls(shape, options.dataset, None, MARGIN if from_pictures else 1.0)
        framing = Framing(frames, options.frame_by, options.frame_size, sensor_size=sensor_of(options))
        return cls((frames, *shape), options.dataset, framing, 1.0)

    def check(self, where: str, images: np.ndarray) -> None:
        """Raises an `InputError` unless these are examples of the run, `[N, …]`."""
        dtypes = ("uint8",) if self.framing is None else ("uint8", "uint16")
        if images.dtype.name not in dtypes or images.shape[1:] != self.shape or not len(images):
            raise InputError(
                f"{where}: expected {' or '.join(dtypes)} [N, {', '.join(map(str, self.shape))}], not normalised; "
                f"got {images.dtype} {list(images.shape)}"
            )


def read_examples(paths: Iterable[Path], format: Format) -> Iterator[Example]:
    """The examples in files, one after the other.

    Raises:
        InputError: for a file that is missing, damaged, or of another kind than the run's data.
    """
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such file")
        of_columns = format.dataset.startswith("events:")
        if (path.suffix == ".npz" and not of_columns) or (
            path.suffix == ".npy" and _is_array_of_examples(path, format)
        ):
            images = _arrays(path, format)
            yield from (Example(f"{path}[{place}]", image) for place, image in enumerate(images))
        elif format.framing is not None:
            yield Example(str(path), read_frames(format.dataset, path, format.framing))
        elif path.suffix.lower() in ENDINGS:
            yield Example(str(path), read_picture(path, format.shape, format.margin))
        else:
            raise InputError(f"{path}: expected a picture ({', '.join(sorted(ENDINGS))}), .npz or .npy")


def _is_array_of_examples(path: Path, format: Format) -> bool:
    """Whether a `.npy` file holds examples; that of a run on events may hold one recording's events instead."""
    return format.framing is None or len(_read_npy(path, header_only=True)) == len(format.shape) + 1


def _arrays(path: Path, format: Format) -> np.ndarray:
    """All examples of a file of arrays, `[N, …]`. A grey image may lack its channel axis."""
    images, where = (_read_npz(path), path) if path.suffix == ".npz" else (_read_npy(path), path)
    if format.framing is None and format.shape[-1] == 1 and images.ndim == 3:
        images = images[..., None]
    format.check(str(where), images)
    return images


def _read_npz(path: Path) -> np.ndarray:
    found: list[str] = []
    arrays = read_npz(path, KEYS, found.extend)
    for key in KEYS:
        if key in arrays:
            return arrays[key]
    raise InputError(f"{path}: expected one of the keys {', '.join(KEYS)}; found {', '.join(found[:9]) or 'none'}")


def _read_npy(path: Path, *, header_only: bool = False) -> Any:
    """The array of a `.npy` file, or its shape alone."""
    try:
        with open_file(path) as file:
            shape, _, dtype = read_npy_header(file)
            declared = int(np.prod(shape, dtype=object)) * dtype.itemsize
            if header_only:
                return shape
            if dtype.hasobject or declared != os.fstat(file.fileno()).st_size - file.tell():
                raise ValueError(f"its header declares {dtype} {list(shape)}")
            file.seek(0)
            return np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # damaged text makes NumPy raise whatever tokenize and ast do
        raise InputError(f"{path}: cannot be read ({reason(error)}); expected an array, as of np.save") from error
