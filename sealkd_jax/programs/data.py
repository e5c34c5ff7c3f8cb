"""The data set that the options name, and the augmentation that they ask for."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from sealkd_jax.data import (
    Augmentation,
    Dataset,
    Framing,
    auto_augment,
    compose,
    cutout,
    event_cutout,
    event_drop,
    event_flip,
    flip,
    load,
    nda,
    pad_and_crop,
    resized_crop,
    roll,
    time_shift,
)
from sealkd_jax.data.loading import EVENTS
from sealkd_jax.errors import InputError
from sealkd_jax.programs.options import AugmentationOptions, DataOptions, DistillOptions

FRAMES_DIR = Path("runs/frames")


def load_dataset(options: DataOptions, cache_dir: Path = FRAMES_DIR) -> Dataset:
    """Reads it, or for recordings of events the frames that an earlier run made of them."""
    framing = None
    if options.dataset in EVENTS:
        framing = Framing(options.timesteps, options.frame_by, options.frame_size, options.on_bad_recording)
    return load(
        options.dataset,
        data_dir=options.data_dir,
        framing=framing,
        cache_dir=cache_dir,
        on_demand=options.stream,
        image_size=options.image_size,
    )


def of_the_student(dataset: Dataset, options: DistillOptions) -> Dataset:
    """The data with only those training examples that the student learns from."""
    if options.train_examples is None:
        return dataset
    try:
        return dataset.with_fewer(options.train_examples)
    except InputError as error:
        raise InputError(f"--train-examples: {error}") from error


def pick_augmentation(options: AugmentationOptions, dataset: Dataset) -> Augmentation:
    """What makes a view of one of this data set's training examples.

    Raises:
        InputError: for what the data set's kind, or the size of its images, does not admit.
    """
    policy = options.auto_augment if options.auto_augment != "none" else ""
    images_only = {"crop": options.crop, "resized_crop": options.resized_crop, "auto_augment": policy}
    events_only = {name: getattr(options, name) for name in ("roll", "nda", "time_shift", "event_drop")}
    refused, kind = (images_only, "images") if dataset.frames else (events_only, "recordings of events")
    for name, value in refused.items():
        if value:
            raise InputError(f"--{name.replace('_', '-')} {value}: for {kind}, which {dataset.name} has not")
    height, width, channels = dataset.train.images.shape[-3:]
    if options.cutout > (side := min(height, width)):  # it could leave nothing
        raise InputError(f"--cutout {options.cutout}: larger than the images, of {side} pixels; half of that is usual")
    if policy and channels != 3:
        raise InputError(f"--auto-augment: for RGB images; those of {dataset.name} have {channels} channels")
    if dataset.frames:
        chosen = (
            (options.flip, lambda: event_flip()),
            (options.roll, lambda: roll(options.roll)),
            (options.nda, lambda: nda(options.nda)),
            (options.cutout, lambda: event_cutout(options.cutout)),
            (options.time_shift, lambda: time_shift(options.time_shift)),
            (options.event_drop, lambda: event_drop(options.event_drop)),
        )
    else:
        chosen = (
            (options.crop, lambda: pad_and_crop(options.crop)),
            (options.resized_crop, lambda: resized_crop(options.resized_crop)),
            (options.flip, lambda: flip()),
            (policy, lambda: auto_augment(policy)),
            (options.cutout, lambda: cutout(options.cutout)),
        )
    return compose(*(make() for strength, make in chosen if strength))


def facts_of(kind: type, options: Any) -> dict[str, Any]:
    """The values of the options that belong to `kind`, such as `AugmentationOptions`."""
    return {field.name: getattr(options, field.name) for field in fields(kind)}
