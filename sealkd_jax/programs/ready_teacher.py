"""A teacher that is ready to teach, whatever it is made of."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sealkd_jax.data import Dataset
from sealkd_jax.diagnostics import standard_error
from sealkd_jax.errors import InputError
from sealkd_jax.parallel.sharding import Parallel
from sealkd_jax.programs.environment import warn
from sealkd_jax.programs.options import DistillOptions
from sealkd_jax.training import EpochSpec
from sealkd_jax.training.teacher_logits import Outputs

TEACHERS_DIR = Path("runs/teachers")
OUTSIDE = "images scaled as in its training, and classes in the data's order or CLASSES in its file"
"""What a network from elsewhere must have."""
Viewer = Callable[[DistillOptions, Dataset, EpochSpec, Parallel], AbstractContextManager[Callable[[int], Outputs]]]
"""Shows the views of a training split to a teacher, with progress: opens a function from k to its `Outputs` for view k.
The student's options, its data, and its batches and views."""


@dataclass(frozen=True)
class Teacher:
    """A teacher: a trained network, a student of an earlier run, or a function of any library.

    Attributes:
        directory: where it is kept, with its logits.
        digest: of everything that its logits follow from.
        timesteps: T of its logits; 1 for an ANN.
        test_logits: float32 `[N, C]` for the test split, the mean over timesteps if it has several.
        test_accuracy: on the test split.
        viewer: see there.
        ours: whether we trained it; how good others are is said before they teach.
    """

    directory: Path
    digest: str
    timesteps: int
    test_logits: np.ndarray
    test_accuracy: float
    viewer: Viewer
    ours: bool = True


def is_chance(accuracy: float, dataset: Dataset, examples: int) -> bool:
    """Whether that many examples cannot tell an accuracy from guessing."""
    chance = 1 / len(dataset.classes)
    return accuracy <= chance + 2 * float(standard_error(chance, examples))


def check_test_logits(directory: Path, logits: np.ndarray) -> None:
    """Refuses a teacher with NaN, and warns of one that says the same of every image; logits `[T, N, C]`."""
    if not np.isfinite(logits).all():
        raise InputError(f"{directory}: the teacher's logits for the test split are not finite; give another teacher")
    spread = np.ptp(logits, axis=1).max()  # the same images in another place of a batch may differ by rounding
    if logits.shape[1] > 1 and spread <= 1e-5 * abs(logits).max():
        warn(
            f"{directory}: the teacher says the same of every image, and a student learns nothing from it; check its "
            "weights and how its images are scaled"
        )
