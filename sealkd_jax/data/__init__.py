"""Data sets as arrays, and the augmentation that the teacher and the student share."""

from sealkd_jax.data.augmentation import Augmentation, augment, compose, normalise, pad_and_crop
from sealkd_jax.data.datasets import Dataset, Split, hold_out, take
from sealkd_jax.data.loading import DATA_DIR, DATASETS, load
from sealkd_jax.data.streaming import OnDemand, stream

__all__ = [
    "DATASETS",
    "DATA_DIR",
    "Augmentation",
    "Dataset",
    "OnDemand",
    "Split",
    "augment",
    "compose",
    "hold_out",
    "load",
    "normalise",
    "pad_and_crop",
    "stream",
    "take",
]
