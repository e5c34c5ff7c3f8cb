"""The data set and the augmentation that the options name."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from sealkd_jax.data import Augmentation, Dataset, Framing, load, parse_augmentation
from sealkd_jax.data.events import EventDataset
from sealkd_jax.data.loading import has_events
from sealkd_jax.errors import InputError
from sealkd_jax.programs.environment import warn
from sealkd_jax.programs.options import DataOptions, DistillOptions, TrainingOptions

FRAMES_DIR = Path("runs/frames")
Options = TypeVar("Options", bound=TrainingOptions)


def load_dataset(options: DataOptions, cache_dir: Path = FRAMES_DIR) -> Dataset:
    """Reads the data set; for recordings of events, the frames that an earlier run made."""
    framing = None
    if has_events(options.dataset):
        framing = Framing(
            options.timesteps, options.frame_by, options.frame_size, options.on_bad_recording, sensor_of(options)
        )
    with shown_warnings():
        return load(
            options.dataset,
            data_dir=options.data_dir,
            framing=framing,
            cache_dir=cache_dir,
            stream=options.stream,
            image_size=options.image_size,
            split=options.split,
        )


def sensor_of(options: DataOptions) -> tuple[int, int] | None:
    """Width and height of the sensor, if the options give it."""
    match options.sensor_size:
        case ():
            return None
        case (width, height):
            return width, height
    raise InputError(f"--sensor-size {' '.join(map(str, options.sensor_size))}: expected width and height")


@contextmanager
def shown_warnings() -> Iterator[None]:
    """Shows the library's warnings of the block as a program's, one line each, when it has ended."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for warning in caught:
        warn(" ".join(str(warning.message).split()))


def completed(options: Options, dataset: Dataset) -> Options:
    """The options with what follows from the data: a batch size in place of 0, and the size of a sensor that was found.

    The batch is the power of two next below a sixteenth of the training examples, from 8 to 128.
    """
    sixteenth = max(1, len(dataset.train.labels) // 16)
    batch_size = options.batch_size or min(max(2 ** (sixteenth.bit_length() - 1), 8), 128)
    if isinstance(dataset, EventDataset) and options.dataset.startswith("events:"):
        return replace(options, batch_size=batch_size, sensor_size=dataset.sensor)
    return replace(options, batch_size=batch_size)


def of_the_student(dataset: Dataset, options: DistillOptions) -> Dataset:
    """The data with only those training examples that the student learns from."""
    if options.train_examples is None:
        return dataset
    try:
        return dataset.with_fewer(options.train_examples)
    except InputError as error:
        raise InputError(f"--train-examples: {error}") from error


def pick_augmentation(options: TrainingOptions, dataset: Dataset) -> Augmentation:
    """The augmentation that makes views of this data set's training examples.

    Raises:
        InputError: for an unknown step, or one that does not fit these examples.
    """
    return parse_augmentation(options.augment, dataset.train.images.shape[1:])


def select_fields(kind: type, options: Any) -> dict[str, Any]:
    """The values of those options that are fields of `kind`, such as `DataOptions`."""
    return {field.name: getattr(options, field.name) for field in fields(kind)}
