"""Precomputes a teacher's logits for K views: `python -m train.precompute [PRESET] [--option value …]`.

They are kept beside the teacher, in a file named by all that decides what they are, and shared by all runs.
"""

import time
from dataclasses import fields, replace
from pathlib import Path

import jax
import numpy as np

from sealkd_jax.data import Dataset
from sealkd_jax.errors import InputError
from sealkd_jax.files import read_sealed
from sealkd_jax.keys import random_key
from sealkd_jax.models import TEACHERS, Network, create_student
from sealkd_jax.processes import first, largest, locked_by_first
from sealkd_jax.sharding import Parallel, pick_devices
from sealkd_jax.teacher_logits import TeacherLogits, write_teacher_logits
from sealkd_jax.training import Recipe, compile_evaluation
from sealkd_jax.weights import load_weights
from train.cluster import join
from train.data import facts_of, load_dataset, of_the_student, pick_augmentation
from train.options import (
    AugmentationOptions,
    DataOptions,
    DistillOptions,
    DistillProgramOptions,
    Preset,
    WatchOptions,
    parse,
)
from train.program import run
from train.teacher import Teacher, examine, fingerprint, like_of, load_teacher, obtain_teacher, plan_teacher
from train.watching import say, watch


def student_recipe(options: DistillOptions, dataset: Dataset) -> Recipe:
    """Batches, views and epochs of the student."""
    augmentation = pick_augmentation(options, dataset)
    return Recipe(augmentation, options.view_seed, options.views, options.batch_size, options.epochs)


def student_network(options: DistillOptions, dataset: Dataset) -> Network:
    """The student, untrained."""
    return create_student(
        options.student,
        len(dataset.classes),
        width=options.width,
        neuron=options.neuron,
        decay=options.decay,
        precision=options.precision,
        remat=options.remat,
    )


def pick_teacher(preset: Preset, dataset: Dataset, parallel: Parallel) -> Teacher:
    """The teacher that the options name: a directory, or a network trained by the preset's recipe.

    Raises:
        InputError: if it is neither, or these data are not for that recipe.
    """
    student = preset.distill
    if (teacher := named_teacher(student.teacher, dataset, parallel)) is not None:
        return teacher
    network = {name: getattr(student, name) for name in ("teacher", "teacher_width", "teacher_sees")}
    # The preset's square may be larger than these images are.
    network["cutout"] = min(preset.teacher.cutout, min(dataset.train.images.shape[-3:-1]) // 2)
    recipe = replace(preset.teacher, **facts_of(DataOptions, student), **facts_of(WatchOptions, student), **network)
    try:
        plan = plan_teacher(recipe, dataset)
    except InputError as error:
        remedy = "make it with train.teacher and give its directory as --teacher"
        raise InputError(f"the teacher's {error}; {remedy}") from error
    return obtain_teacher(recipe, plan, dataset, parallel)


def named_teacher(name: str, dataset: Dataset, parallel: Parallel) -> Teacher | None:
    """The teacher, or student, in that directory; None where it is a network's name, which may have to be trained.

    Raises:
        InputError: if it is neither.
    """
    if name in TEACHERS:
        return None
    if (Path(name) / "summary.json").exists():
        return load_student(Path(name), dataset, parallel)
    if Path(name).is_dir():
        return load_teacher(Path(name), dataset, parallel)
    raise InputError(
        f"--teacher {name}: expected one of {', '.join(TEACHERS)}, or the directory of one or of a student"
    )


def load_student(directory: Path, dataset: Dataset, parallel: Parallel) -> Teacher:
    """A finished student as a teacher, which has logits at each of its timesteps.

    Raises:
        InputError: if the run is damaged, or of other data.
    """
    try:
        config = read_sealed(directory / "config.json")
        chosen, data = config["options"], config.get("data", dataset.fingerprint)  # an earlier version had no data
        known = {field.name for field in fields(DistillOptions)} & chosen.keys()  # an earlier version had fewer
        options = DistillOptions(**{name: chosen[name] for name in known})
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{directory}: damaged (config.json: {error})") from error
    if data != dataset.fingerprint:
        raise InputError(f"{directory}: a student of other data ({options.dataset}); expected one of these")
    with jax.enable_x64(options.precision == "float64"):
        network = student_network(options, dataset)
        variables = load_weights(directory / "weights.safetensors", like_of(network, dataset))
    return examine(directory, network, variables, options, options.timesteps, None, dataset, parallel)


def obtain_logits(options: DistillOptions, teacher: Teacher, dataset: Dataset, parallel: Parallel) -> TeacherLogits:
    """The teacher's logits for the student's views: computed now, or found where an earlier run left them.

    They depend on nothing else of the student, to the bit: batches and precision are the teacher's.

    Raises:
        InputError: for a spiking teacher of another number of timesteps.
    """
    if teacher.timesteps not in (1, options.timesteps):
        raise InputError(
            f"--timesteps {options.timesteps}: the teacher {teacher.directory} has {teacher.timesteps} timesteps; "
            "expected as many, or an ANN"
        )
    fingerprints = _view_fingerprints(options, dataset) | {"teacher": teacher.digest}
    path = teacher.directory / f"logits-{fingerprint(fingerprints, options.views)}.safetensors"
    with locked_by_first(teacher.directory, wait=True), jax.enable_x64(teacher.float64):
        if largest(first() and not path.exists()):
            parallel = parallel.dividing(teacher.batch_size)
            recipe = student_recipe(options, dataset)._replace(batch_size=teacher.batch_size)
            seen = teacher.sees(dataset)
            evaluate = compile_evaluation(teacher.network, recipe, teacher.timesteps, parallel, seen, seen.train)
            with watch("views", options.views, options) as show:

                def view(k: int) -> np.ndarray:
                    start = time.perf_counter()
                    logits = evaluate(teacher.variables, np.int32(k)).logits
                    show({"epoch": k + 1, "examples_per_second": logits.shape[1] / (time.perf_counter() - start)})
                    return logits[0] if len(logits) == 1 else np.swapaxes(logits, 0, 1)

                write_teacher_logits(path, view, options.views, fingerprints)
    return _open(path, options, dataset, fingerprints)


def own_logits(path: Path, options: DistillOptions, dataset: Dataset) -> TeacherLogits:
    """The user's file; where it is one of ours, it must be of the same data and views, whoever the teacher."""
    return _open(path, options, dataset, _view_fingerprints(options, dataset))


def _view_fingerprints(options: DistillOptions, dataset: Dataset) -> dict[str, str]:
    """What the views are views of: the data, how it is augmented, the seed, and what JAX draws, as it is set."""
    return {
        "data": dataset.fingerprint,
        "augmentation": fingerprint(facts_of(AugmentationOptions, options)),
        "view seed": str(options.view_seed),
        "random generator": fingerprint(jax.random.bits(random_key(0), (4,), "uint32").tolist()),
    }


def _open(path: Path, options: DistillOptions, dataset: Dataset, fingerprints: dict[str, str]) -> TeacherLogits:
    return TeacherLogits(
        path,
        examples=len(dataset.train.labels),
        classes=len(dataset.classes),
        timesteps=options.timesteps,
        views=options.views,
        fingerprints=fingerprints,
    )


def main(argv: list[str] | None = None) -> None:
    """Prints where the logits are and how accurate."""
    told = "Precomputes what a teacher says to a student: the options are those of the student's train.distill."
    _, preset = parse("distill", told, argv, program="precompute", kind=DistillProgramOptions)
    options = preset.distill
    if options.teacher_logits is not None:
        raise InputError(f"--teacher-logits {options.teacher_logits}: these are logits already; give a --teacher")
    join(options)
    with jax.enable_x64(options.precision == "float64"):
        parallel = Parallel(options.parallel, pick_devices(options.devices, options.batch_size))
        whole = load_dataset(options)
        dataset = of_the_student(whole, options)
        logits = obtain_logits(options, pick_teacher(preset, whole, parallel), dataset, parallel)
    accuracy = logits.accuracy(dataset.train.labels)
    found = {"path": str(logits.path), "views": logits.views, "train_accuracy": accuracy}
    words = f"{logits.path}: {logits.views} views, accuracy {accuracy:.2%} on the training labels"
    say(options, "result", found, words)


if __name__ == "__main__":
    run(main)
