"""Data sets as arrays, and the augmentation that the teacher and the student share."""

from sealkd_jax.data.augmentation import Augmentation, augment, compose, normalise, pad_and_crop
from sealkd_jax.data.datasets import DATASETS, Dataset, Split, load

__all__ = [
    "DATASETS",
    "Augmentation",
    "Dataset",
    "Split",
    "augment",
    "compose",
    "load",
    "normalise",
    "pad_and_crop",
]
