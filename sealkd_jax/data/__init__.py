"""Data sets as arrays, and the augmentation that the teacher and the student share."""

from sealkd_jax.data.augmentation import (
    Augmentation,
    augment,
    augmentation_step,
    compose,
    normalise,
    parse_augmentation,
)
from sealkd_jax.data.auto_augmentation import autoaugment
from sealkd_jax.data.datasets import Dataset, OnDemand, Split, hold_out, take
from sealkd_jax.data.event_augmentation import event_drop, nda, roll, rotate, time_shift
from sealkd_jax.data.events import Framing, frames_from_events
from sealkd_jax.data.image_augmentation import crop, cutout, flip, resized_crop
from sealkd_jax.data.loading import DATA_DIR, DATASETS, load, prepare
from sealkd_jax.data.streaming import stream

__all__ = [
    "DATASETS",
    "DATA_DIR",
    "Augmentation",
    "Dataset",
    "Framing",
    "OnDemand",
    "Split",
    "augment",
    "augmentation_step",
    "autoaugment",
    "compose",
    "crop",
    "cutout",
    "event_drop",
    "flip",
    "frames_from_events",
    "hold_out",
    "load",
    "nda",
    "normalise",
    "parse_augmentation",
    "prepare",
    "resized_crop",
    "roll",
    "rotate",
    "stream",
    "take",
    "time_shift",
]
