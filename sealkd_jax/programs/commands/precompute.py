"""Compute a teacher's logits for K augmented views of the training images.

They are kept beside the teacher, in a file named after everything that they follow from, and shared by all runs.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sealkd_jax.errors import InputError
from sealkd_jax.parallel.sharding import Parallel, pick_devices
from sealkd_jax.programs.cluster import join
from sealkd_jax.programs.command_line import choose, parse
from sealkd_jax.programs.data import completed, load_dataset, of_the_student
from sealkd_jax.programs.environment import computing, warn_of_unused_gpu
from sealkd_jax.programs.logits import obtain_logits
from sealkd_jax.programs.options import PrecomputeOptions
from sealkd_jax.programs.presets import DEFAULT
from sealkd_jax.programs.progress import emit
from sealkd_jax.programs.teachers import pick_teacher


@dataclass(frozen=True)
class Precomputed:
    """A file of teacher logits.

    Attributes:
        path: of the safetensors file.
        views: K, of each training image.
        accuracy: share of the training labels that the logits of view 0, which is not augmented, get right.
    """

    path: Path
    views: int
    accuracy: float


def precompute(preset: str = DEFAULT, **options: Any) -> Precomputed:
    """Compute or find the logits that `distill` with the same options would use.

    `options` are those of `sealkd precompute --help`, with underscores.
    Raises an `InputError` for what does not exist, does not fit, or is taken.
    """
    return _precompute(preset, choose(PrecomputeOptions, preset, options))


def main(argv: list[str] | None = None) -> None:
    """Print where the logits are, and their accuracy."""
    description = "Compute a teacher's logits for a student; the options are those of the student's run."
    preset, options = parse(PrecomputeOptions, description, argv, "precompute")
    found = _precompute(preset, options)
    facts = {"path": str(found.path), "views": found.views, "train_accuracy": found.accuracy}
    words = f"{found.path}: {found.views} views, accuracy {found.accuracy:.2%} on the training labels"
    emit(options, "result", facts, words)


def _precompute(preset: str, options: PrecomputeOptions) -> Precomputed:
    if options.teacher_logits is not None:
        raise InputError(f"--teacher-logits {options.teacher_logits}: these are logits already; give a --teacher")
    join(options)
    with computing(options.precision):
        warn_of_unused_gpu()
        whole = load_dataset(options)
        options = completed(options, whole)
        parallel = Parallel(options.parallel, pick_devices(options.devices, options.batch_size))
        dataset = of_the_student(whole, options)
        logits = obtain_logits(options, pick_teacher(options, preset, whole, parallel), dataset, parallel)
    return Precomputed(logits.path, logits.views, logits.accuracy(dataset.train.labels))
