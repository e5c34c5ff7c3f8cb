"""Teachers: train, import or find one, and compute its logits for a student's views."""

import hashlib
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypedDict

import jax
import numpy as np

from sealkd_jax.data import Dataset
from sealkd_jax.data.augmentation import random_key
from sealkd_jax.diagnostics import accuracy_by_timestep, standard_error
from sealkd_jax.errors import InputError, did_you_mean
from sealkd_jax.files import locked, write_json
from sealkd_jax.models import TEACHERS, Network, Variables
from sealkd_jax.parallel.processes import is_main_process, lock_across_processes, max_across_processes
from sealkd_jax.parallel.sharding import Parallel
from sealkd_jax.programs.command_line import as_kind, options_from_json, with_flag
from sealkd_jax.programs.commands import command
from sealkd_jax.programs.data import pick_augmentation, select_fields
from sealkd_jax.programs.environment import environment, warn
from sealkd_jax.programs.options import (
    DataOptions,
    DistillOptions,
    TeacherOptions,
    TeacherProgramOptions,
    WatchOptions,
)
from sealkd_jax.programs.plans import abstract_variables, plan_teacher, student_network, student_spec, teacher_plan
from sealkd_jax.programs.presets import PRESETS
from sealkd_jax.programs.progress import progress
from sealkd_jax.programs.runs import read_run_options
from sealkd_jax.run_files import read_summary
from sealkd_jax.training import EpochSpec, Plan, compile_evaluation, train
from sealkd_jax.training.teacher_logits import TeacherLogits, write_teacher_logits
from sealkd_jax.typed import read_json
from sealkd_jax.weights.own import load_weights, params_digest, save_weights
from sealkd_jax.weights.torch_names import import_torch

TEACHERS_DIR = Path("runs/teachers")
# Mean and standard deviation of the channels with which PyTorch's networks are usually trained, on CIFAR too.
SCALES = {"imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))}


@dataclass(frozen=True)
class Teacher:
    """A trained teacher.

    Attributes:
        directory: where it is kept, with its logits.
        digest: of its variables, and of everything else that its logits follow from.
        timesteps: T of a spiking teacher, 1 of an ANN.
        scale: how its images are normalised, a key of `SCALES`; None: by the data set's own mean and deviation.
        test_logits: float32 `[N, C]` for the test split, the mean over timesteps if it has several.
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


class TeacherFile(TypedDict):
    """`teacher.json`: the options of a teacher, digests of its training split and its weights, a key of `SCALES`."""

    options: dict[str, Any]
    data: str
    params_digest: str
    scale: Literal["imagenet"] | None


def rescale(dataset: Dataset, scale: str | None) -> Dataset:
    """The data normalised by one of `SCALES`.

    Raises:
        InputError: if the images are not RGB.
    """
    if scale is None:
        return dataset
    if dataset.train.images.shape[-1] != 3:
        raise InputError(f"--scale {scale}: expected RGB images, which those of {dataset.name} are not; use dataset")
    return dataset.rescaled(*SCALES[scale])


def fingerprint(*parts: Any) -> str:
    """Twelve hexadecimal digits that follow from JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def obtain_teacher(options: TeacherOptions, plan: Plan, dataset: Dataset, parallel: Parallel) -> Teacher:
    """The teacher of these options and their plan: found where an earlier run left it, or trained now."""
    elsewhere = {"parallel", "devices", *select_fields(WatchOptions, options)}
    elsewhere |= select_fields(DataOptions, options).keys()  # the data's fingerprint stands for the data
    recipe = {name: value for name, value in asdict(options).items() if name not in elsewhere}
    directory = TEACHERS_DIR / f"{dataset.name}-{options.teacher}-{fingerprint(recipe, dataset.fingerprint)}"
    parallel = parallel.for_batch_size(options.batch_size)
    with jax.enable_x64(options.precision == "float64"), lock_across_processes(directory, wait=True):
        if max_across_processes(is_main_process() and not (directory / "teacher.json").exists()):
            _train_teacher(directory, options, plan, dataset, parallel)
    return load_teacher(directory, dataset, parallel)


def _train_teacher(directory: Path, options: TeacherOptions, plan: Plan, dataset: Dataset, parallel: Parallel) -> None:
    with progress("teacher", options.epochs, options, directory) as show:
        trained = train(plan, dataset, directory, parallel, on_epoch=show, on_chunk=show, on_damage=warn)
    if is_main_process():
        _save_teacher(directory, options, trained.variables, dataset, scale=None, seconds=trained.seconds)


def _save_teacher(
    directory: Path, options: TeacherOptions, variables: Variables, dataset: Dataset, **facts: Any
) -> None:
    save_weights(directory / "weights.safetensors", variables, {"teacher": options.teacher})
    made = {"options": asdict(options), "data": dataset.fingerprint, "params_digest": params_digest(variables)}
    write_json(directory / "teacher.json", {**made, **facts, **environment()})


def load_teacher(directory: Path, dataset: Dataset, parallel: Parallel) -> Teacher:
    """A finished teacher from its directory, evaluated on the test split.

    Raises:
        InputError: if there is none, it is damaged, or it was trained on other data.
    """
    path = directory / "teacher.json"
    if not path.exists():
        raise InputError(
            f"{directory}: no teacher there (no teacher.json) and no finished student (no summary.json); "
            f"make one with {command('teacher')}, or finish one with {command('distill')} --resume --out {directory}"
        )
    made = read_json(path, TeacherFile)
    try:
        options = options_from_json(TeacherOptions, made["options"])
    except ValueError as error:
        raise InputError(f"{path}: damaged: {error}; remove {directory}, and make it again") from error
    if made["data"] != dataset.fingerprint:
        raise InputError(
            f"{directory}: a teacher of other data ({options.dataset}); make one with {command('teacher')}"
        )
    network = teacher_plan(options, dataset).network
    with jax.enable_x64(options.precision == "float64"):
        variables = load_weights(directory / "weights.safetensors", abstract_variables(network, dataset))
    _check_digest(directory, variables, made["params_digest"])
    return evaluate_teacher(directory, network, variables, options, 1, made["scale"], dataset, parallel)


def import_teacher(weights: Path, options: TeacherProgramOptions, dataset: Dataset, parallel: Parallel) -> Teacher:
    """A teacher from PyTorch weights, kept beside those that were trained here unless only evaluated.

    Raises:
        InputError: if the file holds another network, or the images do not suit it.
    """
    assert options.weights is not None
    plain, scale = as_kind(TeacherOptions, options), None if options.scale == "dataset" else "imagenet"
    with jax.enable_x64(options.precision == "float64"):
        network = teacher_plan(plain, dataset).network
        variables = import_torch(weights, network, abstract_variables(network, dataset))
    made_of = fingerprint(
        params_digest(variables), scale, (options.teacher_sees, options.precision), dataset.fingerprint
    )
    directory = TEACHERS_DIR / f"{dataset.name}-{options.teacher}-{made_of}"
    teacher = evaluate_teacher(directory, network, variables, plain, 1, scale, dataset, parallel)
    if is_main_process() and not options.evaluate:
        with locked(directory, wait=True):
            _save_teacher(directory, plain, variables, dataset, scale=scale, imported=weights)
    return teacher


def evaluate_teacher(
    directory: Path,
    network: Network,
    variables: Variables,
    options: TeacherOptions | DistillOptions,
    timesteps: int,
    scale: str | None,
    dataset: Dataset,
    parallel: Parallel,
) -> Teacher:
    """The network as a teacher, with its logits for the test split."""
    parallel, float64 = parallel.for_batch_size(options.batch_size), options.precision == "float64"
    seen = rescale(dataset, scale)
    spec = EpochSpec(pick_augmentation(options, dataset), 0, 1, options.batch_size, 1, seen.mean, seen.std)
    with jax.enable_x64(float64):
        variables = parallel.put(variables)
        logits = compile_evaluation(network, spec, timesteps, parallel, dataset.test)(variables).logits
    check_test_logits(directory, logits)
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


def pick_teacher(options: DistillOptions, preset: str, dataset: Dataset, parallel: Parallel) -> Teacher:
    """The teacher that the options name: a directory, or a network trained by the preset's recipe.

    Raises:
        InputError: if the name is neither, or the recipe does not fit the data.
    """
    if (teacher := named_teacher(options.teacher, dataset, parallel)) is not None:
        return teacher
    network = {name: getattr(options, name) for name in ("teacher", "teacher_width", "teacher_sees")}
    shared = select_fields(DataOptions, options) | select_fields(WatchOptions, options)
    recipe = replace(PRESETS[preset].teacher, **shared, **network)
    recipe = replace(recipe, epochs=options.teacher_epochs or recipe.epochs)
    try:
        plan = plan_teacher(recipe, dataset)
    except InputError as error:
        remedy = f"make it with {command('teacher')} and give its directory as --teacher"
        raise InputError(f"the teacher's {with_flag(str(error))}; {remedy}") from error
    return obtain_teacher(recipe, plan, dataset, parallel)


def named_teacher(name: str, dataset: Dataset, parallel: Parallel) -> Teacher | None:
    """The teacher or student in that directory; None for the name of a network, which may have to be trained.

    Raises:
        InputError: if the name is neither.
    """
    if name in TEACHERS:
        return None
    if (Path(name) / "summary.json").exists():
        return load_student(Path(name), dataset, parallel)
    if Path(name).is_dir():
        return load_teacher(Path(name), dataset, parallel)
    raise InputError(
        f"--teacher {name}: expected one of {', '.join(TEACHERS)}, or the directory of a teacher or a student"
        f"{did_you_mean(name, TEACHERS)}"
    )


def load_student(directory: Path, dataset: Dataset, parallel: Parallel) -> Teacher:
    """A finished student as a teacher, which has logits at each of its timesteps.

    Raises:
        InputError: if the run is damaged, or has other data.
    """
    options, config = read_run_options(directory)
    if config["data"] != dataset.fingerprint:
        raise InputError(f"{directory}: a student of other data ({options.dataset}); expected one of {dataset.name}")
    with jax.enable_x64(options.precision == "float64"):
        network = student_network(options, dataset)
        variables = load_weights(directory / "weights.safetensors", abstract_variables(network, dataset))
    _check_digest(directory, variables, read_summary(directory)["params_digest"])
    return evaluate_teacher(directory, network, variables, options, options.timesteps, None, dataset, parallel)


def _check_digest(directory: Path, variables: Variables, expected: str) -> None:
    if params_digest(variables) != expected:
        raise InputError(f"{directory}/weights.safetensors: others than this directory was made with; make it again")


def obtain_logits(options: DistillOptions, teacher: Teacher, dataset: Dataset, parallel: Parallel) -> TeacherLogits:
    """The teacher's logits for the student's views: found where an earlier run left them, or computed now.

    Batches and precision are the teacher's, so that nothing else of the student changes them, to the bit.

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
    with lock_across_processes(teacher.directory, wait=True), jax.enable_x64(teacher.float64):
        if max_across_processes(is_main_process() and not path.exists()):
            _compute_logits(path, options, teacher, dataset, parallel, fingerprints)
    found = _open(path, options, dataset, fingerprints)
    if found.own:
        raise InputError(f"{path}: damaged (its header has no fingerprints); remove it, and it is computed again")
    return found


def _compute_logits(
    path: Path,
    options: DistillOptions,
    teacher: Teacher,
    dataset: Dataset,
    parallel: Parallel,
    fingerprints: dict[str, str],
) -> None:
    parallel = parallel.for_batch_size(teacher.batch_size)
    spec = student_spec(options, rescale(dataset, teacher.scale))._replace(batch_size=teacher.batch_size)
    evaluate = compile_evaluation(teacher.network, spec, teacher.timesteps, parallel, dataset.train)
    with progress("views", options.views, options) as show:

        def view(k: int) -> np.ndarray:
            start = time.perf_counter()
            logits = evaluate(teacher.variables, np.int32(k)).logits
            show({"epoch": k + 1, "examples_per_second": logits.shape[1] / (time.perf_counter() - start)})
            return logits[0] if len(logits) == 1 else np.swapaxes(logits, 0, 1)

        write_teacher_logits(path, view, options.views, fingerprints)


def own_logits(path: Path, options: DistillOptions, dataset: Dataset) -> TeacherLogits:
    """The user's own file. One that a program wrote must have the same data and views; its teacher may be any."""
    logits = _open(path, options, dataset, _view_fingerprints(options, dataset))
    accuracy, chance = logits.accuracy(dataset.train.labels), 1 / len(dataset.classes)
    if accuracy <= chance + 2 * standard_error(chance, len(dataset.train.labels)):
        warn(
            f"{path}: {accuracy:.2%} right on the training labels, no better than chance; expected the logits of the "
            "training split in its order, with the classes in the data's order"
        )
    return logits


def _view_fingerprints(options: DistillOptions, dataset: Dataset) -> dict[str, str]:
    """What the views follow from: the data, their augmentation, the seed, and JAX's random generator as it is set."""
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
