"""Train an ANN teacher, find it, or import it from PyTorch.

A teacher is made once and kept under `runs/teachers/`, in a directory named after everything that it follows from.
"""

from typing import Any

from sealkd_jax.errors import InputError, did_you_mean
from sealkd_jax.models import PUBLISHED, TEACHERS
from sealkd_jax.parallel.sharding import Parallel, pick_devices
from sealkd_jax.programs.cluster import join
from sealkd_jax.programs.command_line import as_kind, choose, parse
from sealkd_jax.programs.data import completed, load_dataset
from sealkd_jax.programs.environment import computing, warn, warn_of_unused_gpu
from sealkd_jax.programs.options import TeacherOptions, TeacherProgramOptions
from sealkd_jax.programs.plans import plan_teacher
from sealkd_jax.programs.presets import DEFAULT
from sealkd_jax.programs.progress import emit
from sealkd_jax.programs.ready_teacher import OUTSIDE, Teacher, is_chance
from sealkd_jax.programs.teachers import import_teacher, named_teacher, obtain_teacher


def teacher(preset: str = DEFAULT, **options: Any) -> Teacher:
    """Train, find or import a teacher, as in `teacher("digits", epochs=10)`.

    `options` are those of `sealkd teacher --help`, with underscores; `weights` stands for `--import`.
    Raises an `InputError` for what does not exist, does not fit, or is taken.
    """
    return _teacher(choose(TeacherProgramOptions, preset, options))


def main(argv: list[str] | None = None) -> None:
    """Print where the teacher is, and its accuracy."""
    description = "Train an ANN teacher, find it, or import it."
    _, options = parse(TeacherProgramOptions, description, argv, "teacher")
    found = _teacher(options)
    where = (options.weights or options.teacher) if options.evaluate else found.directory
    n_test = len(found.test_logits)
    facts = {"path": str(where), "test_accuracy": found.test_accuracy, "n_test": n_test}
    emit(options, "result", facts, f"{where}: test accuracy {found.test_accuracy:.2%} (n = {n_test})")


def _teacher(options: TeacherProgramOptions) -> Teacher:
    join(options)
    ours = TEACHERS | PUBLISHED
    if options.arch is not None and options.weights is None:
        raise InputError(f"--arch {options.arch}: expected --import FILE beside it; a network to train is a --teacher")
    if options.evaluate and options.weights is None and options.teacher in ours:
        raise InputError(
            "--evaluate: expected --import FILE beside it, or a --teacher that is there; one that is trained here is "
            "always evaluated"
        )
    if not options.evaluate and options.weights is None and options.teacher not in ours:
        raise InputError(
            f"--teacher {options.teacher}: unknown; expected one of {', '.join(TEACHERS)}, to train it"
            f"{did_you_mean(options.teacher, TEACHERS)}; a teacher that is there takes --evaluate"
        )
    if options.scale is not None and options.weights is None and options.teacher in ours:
        raise InputError(f"--scale {options.scale}: expected --import FILE beside it; others have the data set's own")
    with computing(options.precision):
        warn_of_unused_gpu()
        dataset = load_dataset(options)
        options = completed(options, dataset)
        parallel = Parallel(options.parallel, pick_devices(options.devices, options.batch_size))
        if options.weights is not None:
            return import_teacher(options.weights, options, dataset, parallel)
        if (found := named_teacher(options, dataset, parallel)) is not None:
            if is_chance(found.test_accuracy, dataset, len(dataset.test.labels)):
                said = f"{found.test_accuracy:.2%} right on the test labels, no better than chance"
                warn(f"{options.teacher}: {said}; expected {OUTSIDE}")
            return found
        plain = as_kind(TeacherOptions, options)
        return obtain_teacher(plain, plan_teacher(plain, dataset), dataset, parallel)
