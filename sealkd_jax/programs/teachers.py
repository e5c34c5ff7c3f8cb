"""Teachers: trained, imported or found, and the logits that they give for a student's views."""

import hashlib
import json
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sealkd_jax.data import Dataset
from sealkd_jax.data.augmentation import random_key
from sealkd_jax.diagnostics import accuracy_by_timestep
from sealkd_jax.errors import InputError
from sealkd_jax.files import locked, read_json, write_json
from sealkd_jax.models import TEACHERS, Network, Variables
from sealkd_jax.parallel.processes import is_main_process, lock_across_processes, max_across_processes
from sealkd_jax.parallel.sharding import Parallel
from sealkd_jax.programs.cli import environment, warn, with_flag
from sealkd_jax.programs.command_line import as_kind
from sealkd_jax.programs.data import pick_augmentation, select_fields
from sealkd_jax.programs.options import (
    DataOptions,
    DistillOptions,
    Preset,
    TeacherOptions,
    TeacherProgramOptions,
    TrainingOptions,
    WatchOptions,
)
from sealkd_jax.programs.plans import like_of, plan_teacher, student_network, student_recipe, teacher_plan
from sealkd_jax.programs.progress import watch
from sealkd_jax.training import Plan, Recipe, compile_evaluation, train
from sealkd_jax.training.teacher_logits import TeacherLogits, write_teacher_logits
from sealkd_jax.weights.own import load_weights, params_digest, save_weights
from sealkd_jax.weights.torch_names import import_torch

TEACHERS_DIR = Path("runs/teachers")
# Mean and deviation of the channels with which PyTorch's networks are usually trained, on CIFAR too.
SCALES = {"imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))}


@dataclass(frozen=True)
class Teacher:
    """A trained teacher.

    Attributes:
        directory: where it is kept, and its logits beside it.
        digest: of its variables and all else that what it says follows from.
        timesteps: T of a spiking teacher, 1 of an ANN.
        scale: what its images are normalised with, a key of `SCALES`; None: the data set's own mean and deviation.
        test_logits: float32 `[N, C]` of the test split, the mean over timesteps where it has several.
    """

    network: Network
    batch_size: int
    float64: bool
    timesteps: int
    scale: str | None
    variables: Variables
    directory: Path
    digest: str
    test_logits: np.ndarray
    test_accuracy: float

    def sees(self, dataset: Dataset) -> Dataset:
        """The data as they are normalised for this teacher."""
        return rescaled(dataset, self.scale)


def rescaled(dataset: Dataset, scale: str | None) -> Dataset:
    """The data normalised with one of `SCALES`.

    Raises:
        InputError: if the images are not RGB.
    """
    if scale is None:
        return dataset
    if dataset.train.images.shape[-1] != 3:
        raise InputError(f"--scale {scale}: for RGB images, which {dataset.name} has not; give --scale dataset")
    return dataset.rescaled(*SCALES[scale])


def fingerprint(*parts: Any) -> str:
    """Twelve hexadecimal digits that follow from JSON facts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def obtain_teacher(options: TeacherOptions, plan: Plan, dataset: Dataset, parallel: Parallel) -> Teacher:
    """The teacher of these options, by their `plan_teacher`: trained now, or found where an earlier run left it."""
    elsewhere = {"parallel", "devices", *select_fields(WatchOptions, options)}
    elsewhere |= select_fields(DataOptions, options).keys()  # the data's fingerprint stands for the data
    recipe = {name: value for name, value in asdict(options).items() if name not in elsewhere}
    name = f"{dataset.name}-{options.teacher}-{fingerprint(recipe, dataset.fingerprint)}"
    directory = TEACHERS_DIR / name
    parallel = parallel.for_batch_size(options.batch_size)
    with jax.enable_x64(options.precision == "float64"), lock_across_processes(directory, wait=True):
        if max_across_processes(is_main_process() and not (directory / "teacher.json").exists()):
            _make_teacher(directory, options, plan, dataset, parallel)
    return load_teacher(directory, dataset, parallel)


def _make_teacher(directory: Path, options: TeacherOptions, plan: Plan, dataset: Dataset, parallel: Parallel) -> None:
    """Trains and keeps it."""
    with watch("teacher", options.epochs, options, directory) as show:
        trained = train(plan, dataset, directory, parallel, on_epoch=show, on_piece=show, on_damage=warn)
    if is_main_process():
        save_weights(directory / "weights.safetensors", trained.variables, {"teacher": options.teacher})
        made = {"options": asdict(options), "data": dataset.fingerprint, "seconds": trained.seconds}
        write_json(directory / "teacher.json", made | environment())


def load_teacher(directory: Path, dataset: Dataset, parallel: Parallel) -> Teacher:
    """A finished teacher from its directory, and how it does on the test split.

    Raises:
        InputError: if there is none, it is damaged, or it was trained on other data.
    """
    try:
        made = read_json(directory / "teacher.json")
        options, data, scale = TeacherOptions(**made["options"]), made["data"], made.get("scale")
        if scale not in (None, *SCALES):
            raise ValueError(f"scale {scale!r}")
    except OSError as error:
        raise InputError(
            f"{directory}: no teacher there (teacher.json: {error.strerror}) and no finished student (summary.json); "
            f"make one with train.teacher, or finish one with train.distill --resume --out {directory}"
        ) from error
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{directory}/teacher.json: damaged ({error}); remove {directory}, and make it again"
        ) from error
    if data != dataset.fingerprint:
        raise InputError(f"{directory}: a teacher of other data ({options.dataset}); make one with train.teacher")
    network = teacher_plan(options, dataset).network
    with jax.enable_x64(options.precision == "float64"):
        variables = load_weights(directory / "weights.safetensors", like_of(network, dataset))
    return examine(directory, network, variables, options, 1, scale, dataset, parallel)


def import_teacher(options: TeacherProgramOptions, dataset: Dataset, parallel: Parallel) -> Teacher:
    """A teacher from PyTorch weights, kept beside those that were trained here unless only evaluated.

    Raises:
        InputError: if the file is not of this network, or the images do not suit it.
    """
    plain, scale = as_kind(TeacherOptions, options), None if options.scale == "dataset" else "imagenet"
    with jax.enable_x64(options.precision == "float64"):
        network = teacher_plan(plain, dataset).network
        variables = import_torch(options.weights, network, like_of(network, dataset))
    digest, kept = params_digest(variables), (options.teacher_sees, options.precision)
    directory = (
        TEACHERS_DIR / f"{dataset.name}-{options.teacher}-{fingerprint(digest, scale, kept, dataset.fingerprint)}"
    )
    teacher = examine(directory, network, variables, plain, 1, scale, dataset, parallel)
    if is_main_process() and not options.evaluate:
        with locked(directory, wait=True):
            save_weights(directory / "weights.safetensors", variables, {"teacher": options.teacher})
            made = {"options": asdict(plain), "data": dataset.fingerprint, "scale": scale, "imported": options.weights}
            write_json(directory / "teacher.json", made | environment())
    return teacher


def examine(
    directory: Path,
    network: Network,
    variables: Variables,
    options: TrainingOptions,
    timesteps: int,
    scale: str | None,
    dataset: Dataset,
    parallel: Parallel,
) -> Teacher:
    """The network as a teacher, with what it says to the test split."""
    parallel, float64 = parallel.for_batch_size(options.batch_size), options.precision == "float64"
    recipe = Recipe(pick_augmentation(options, dataset), 0, 1, options.batch_size, 1)
    with jax.enable_x64(float64):
        variables, seen = parallel.put(variables), rescaled(dataset, scale)
        logits = compile_evaluation(network, recipe, timesteps, parallel, seen, seen.test)(variables).logits
    return Teacher(
        network,
        options.batch_size,
        float64,
        timesteps,
        scale,
        variables,
        directory,
        fingerprint(params_digest(variables), scale, timesteps, options.precision, options.teacher_sees),
        np.asarray(logits, np.float32).mean(0),  # not in bfloat16
        float(accuracy_by_timestep(logits, dataset.test.labels)[-1]),
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
    shared = select_fields(DataOptions, student) | select_fields(WatchOptions, student)
    recipe = replace(preset.teacher, **shared, **network)
    try:
        plan = plan_teacher(recipe, dataset)
    except InputError as error:
        remedy = "make it with train.teacher and give its directory as --teacher"
        raise InputError(f"the teacher's {with_flag(str(error))}; {remedy}") from error
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
        config = read_json(directory / "config.json")
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
    with lock_across_processes(teacher.directory, wait=True), jax.enable_x64(teacher.float64):
        if max_across_processes(is_main_process() and not path.exists()):
            parallel = parallel.for_batch_size(teacher.batch_size)
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
        "augmentation": fingerprint(options.augment),
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
