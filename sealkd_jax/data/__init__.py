"""Data sets as arrays, and the augmentation that the teacher and the student share."""

from sealkd_jax.data.augmentation import (
    Augmentation,
    augment,
    compose,
    cutout,
    flip,
    normalise,
    pad_and_crop,
    resized_crop,
)
from sealkd_jax.data.auto_augmentation import auto_augment
from sealkd_jax.data.datasets import Dataset, OnDemand, Split, hold_out, take
from sealkd_jax.data.event_augmentation import event_cutout, event_drop, event_flip, nda, roll, rotate, time_shift
from sealkd_jax.data.events import Framing
from sealkd_jax.data.loading import DATA_DIR, DATASETS, load
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
    "auto_augment",
    "compose",
    "cutout",
    "event_cutout",
    "event_drop",
    "event_flip",
    "flip",
    "hold_out",
    "load",
    "nda",
    "normalise",
    "pad_and_crop",
    "resized_crop",
    "roll",
    "rotate",
    "stream",
    "take",
    "time_shift",
]
