"""The logits that a student learns from: a teacher's, computed once, or the user's own file."""

from pathlib import Path

from sealkd_jax.data import Dataset
from sealkd_jax.errors import InputError
from sealkd_jax.files import fingerprint
from sealkd_jax.parallel.processes import is_main_process, lock_across_processes, max_across_processes
from sealkd_jax.parallel.sharding import Parallel
from sealkd_jax.programs.environment import warn
from sealkd_jax.programs.options import DistillOptions
from sealkd_jax.programs.plans import student_spec
from sealkd_jax.programs.progress import emit
from sealkd_jax.programs.ready_teacher import OUTSIDE, Teacher, is_chance
from sealkd_jax.training.teacher_logits import TeacherLogits, view_fingerprints, write_teacher_logits

UNVERIFIED = "unverified"
"""Logits of a user's file: no fingerprint says that they are of these images, in this order and these views."""


def obtain_logits(options: DistillOptions, teacher: Teacher, dataset: Dataset, parallel: Parallel) -> TeacherLogits:
    """The teacher's logits for the student's views: found where an earlier run left them, or computed now.

    Raises:
        InputError: for a spiking teacher with another number of timesteps, or a file that is damaged.
    """
    if teacher.timesteps not in (1, options.timesteps):
        raise InputError(
            f"--timesteps {options.timesteps}: the teacher {teacher.directory} has {teacher.timesteps} timesteps; "
            "expected as many, or an ANN"
        )
    fingerprints = _view_fingerprints(options, dataset) | {"teacher": teacher.digest}
    path = teacher.directory / f"logits-{fingerprint(fingerprints, options.views)}.safetensors"
    with lock_across_processes(teacher.directory, wait=True):
        if max_across_processes(is_main_process() and not path.exists()):
            spec = student_spec(options, dataset)
            with teacher.viewer(options, dataset, spec, parallel) as view:
                write_teacher_logits(path, view, options.views, fingerprints)
    found = _open(path, options, dataset, fingerprints)
    if found.own:
        raise InputError(f"{path}: damaged (its header has no fingerprints); remove it, and it is computed again")
    if not teacher.ours:
        _say_how_good(found, options, dataset, OUTSIDE)
    return found


def own_logits(path: Path, options: DistillOptions, dataset: Dataset) -> TeacherLogits:
    """The user's own file. One that we wrote must have the same data and views; its teacher may be any."""
    logits = _open(path, options, dataset, _view_fingerprints(options, dataset))
    _say_how_good(logits, options, dataset)
    return logits


def _say_how_good(logits: TeacherLogits, options: DistillOptions, dataset: Dataset, remedy: str = "") -> None:
    """Shows the accuracy on the training labels; warns if it is no better than chance."""
    path, accuracy = logits.path, logits.accuracy(dataset.train.labels)
    said = f"{path}: {logits.views} views, {accuracy:.2%} right on the training labels"
    if logits.own:
        said = f"{said}; {UNVERIFIED}: no fingerprint says of which images and views they are"
    found = {"path": str(path), "views": logits.views, "train_accuracy": accuracy, UNVERIFIED: logits.own}
    emit(options, "logits", found, said)
    if is_chance(accuracy, dataset, len(dataset.train.labels)):
        expected = remedy or "the logits of the training split in its order, with the classes in the data's order"
        warn(f"{path}: {accuracy:.2%} right on the training labels, no better than chance; expected {expected}")


def source_of(logits: TeacherLogits) -> str | None:
    """What `config.json` says of the user's own file: the digest of its logits, and whether it is verified."""
    return f"{UNVERIFIED} {logits.digest}" if logits.own else logits.digest


def teacher_name(teacher: Teacher | None, logits: TeacherLogits | None) -> str | None:
    """The name of the teacher's directory, or of the file of logits; None without a teacher."""
    if teacher is not None:
        return teacher.directory.name
    if logits is None:
        return None
    return f"{logits.path.name} ({UNVERIFIED})" if logits.own else logits.path.name


def _view_fingerprints(options: DistillOptions, dataset: Dataset) -> dict[str, str]:
    return view_fingerprints(dataset, options.augment, options.view_seed)


def _open(path: Path, options: DistillOptions, dataset: Dataset, fingerprints: dict[str, str]) -> TeacherLogits:
    return TeacherLogits(
        path,
        examples=len(dataset.train.labels),
        classes=len(dataset.classes),
        timesteps=options.timesteps,
        views=options.views,
        fingerprints=fingerprints,
    )
