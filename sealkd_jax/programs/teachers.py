"""Teachers that are networks of ours: train, import or find one."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypedDict

import jax
import numpy as np

from sealkd_jax.data import Dataset
from sealkd_jax.data.scales import mean_and_std
from sealkd_jax.diagnostics import accuracy_by_timestep
from sealkd_jax.errors import InputError, did_you_mean
from sealkd_jax.files import fingerprint, locked, write_json
from sealkd_jax.models import PUBLISHED, TEACHERS, Network, Variables
from sealkd_jax.parallel.processes import is_main_process, lock_across_processes, max_across_processes
from sealkd_jax.parallel.sharding import Parallel
from sealkd_jax.programs.command_line import as_kind, options_from_json, with_flag
from sealkd_jax.programs.commands import command
from sealkd_jax.programs.data import completed, pick_augmentation, select_fields
from sealkd_jax.programs.environment import environment, warn
from sealkd_jax.programs.options import (
    DataOptions,
    DistillOptions,
    TeacherOptions,
    TeacherProgramOptions,
    WatchOptions,
)
from sealkd_jax.programs.outside_teachers import FORMS, Options, outside_teacher
from sealkd_jax.programs.plans import abstract_variables, plan_teacher, student_network, teacher_plan
from sealkd_jax.programs.presets import PRESETS
from sealkd_jax.programs.progress import progress, say
from sealkd_jax.programs.ready_teacher import TEACHERS_DIR, Teacher, check_test_logits
from sealkd_jax.programs.runs import read_run_options
from sealkd_jax.run_files import read_summary
from sealkd_jax.training import EpochSpec, Plan, compile_evaluation, train
from sealkd_jax.training.teacher_logits import Outputs
from sealkd_jax.typed import read_json
from sealkd_jax.weights.architectures import find_architecture, with_stem_of
from sealkd_jax.weights.own import load_weights, params_digest, save_weights
from sealkd_jax.weights.torch_names import import_torch, read_shapes


class TeacherFile(TypedDict):
    """`teacher.json`: the options of a teacher, digests of its training split and its weights, a key of `SCALES`."""

    options: dict[str, Any]
    data: str
    params_digest: str
    scale: Literal["imagenet", "unit", "symmetric", "pixels"] | None


def rescale(dataset: Dataset, scale: str | None) -> Dataset:
    """The data normalised by a name of `SCALES`; None: by their own mean and deviation.

    Raises:
        InputError: if the images are not RGB.
    """
    return dataset if scale is None else dataset.rescaled(*mean_and_std(dataset, scale, dataset.train.images.shape[-1]))


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
    options = replace(options, teacher=_architecture(weights, options, dataset))
    plain, scale = as_kind(TeacherOptions, options), None if options.scale == "dataset" else options.scale or "imagenet"
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


def _architecture(weights: Path, options: TeacherProgramOptions, dataset: Dataset) -> str:
    """The network of a file of weights: the one of --arch with the file's stem, or else the one that it looks like."""
    shapes = read_shapes(weights)
    if options.arch is None:
        if found := find_architecture(shapes):
            say(options, f"{weights}: {found}, by its names and shapes")
        return found or options.teacher
    name = with_stem_of(options.arch, shapes, min(dataset.train.images.shape[-3:-1]))
    if name != options.arch:
        say(options, f"{weights}: {name}; images of this size would give {options.arch} another stem than the file has")
    return name


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
        directory,
        fingerprint(params_digest(variables), scale, timesteps, options.precision, options.teacher_sees),
        timesteps,
        np.asarray(logits, np.float32).mean(0),  # not in bfloat16
        float(accuracy_by_timestep(logits, dataset.test.labels)[-1]),
        partial(_network_viewer, network, variables, timesteps, spec, float64),
    )


@contextmanager
def _network_viewer(
    network: Network,
    variables: Variables,
    timesteps: int,
    own: EpochSpec,
    float64: bool,
    options: DistillOptions,
    dataset: Dataset,
    spec: EpochSpec,
    parallel: Parallel,
) -> Iterator[Callable[[int], Outputs]]:
    """See `Viewer`. Each view is one compiled program.

    Batches, normalisation and precision are the teacher's, so that nothing else of the student changes its logits, to
    the bit.
    """
    parallel = parallel.for_batch_size(own.batch_size)
    spec = spec._replace(batch_size=own.batch_size, mean=own.mean, std=own.std)
    with jax.enable_x64(float64), progress("views", spec.views, options) as show:
        evaluate = compile_evaluation(network, spec, timesteps, parallel, dataset.train)

        def view(k: int) -> Outputs:
            start = time.perf_counter()
            logits = evaluate(variables, np.int32(k)).logits
            show({"epoch": k + 1, "examples_per_second": logits.shape[1] / (time.perf_counter() - start)})
            return Outputs(logits[0] if len(logits) == 1 else np.swapaxes(logits, 0, 1))

        yield view


def pick_teacher(options: DistillOptions, preset: str, dataset: Dataset, parallel: Parallel) -> Teacher:
    """The teacher that the options name: a directory, or a network trained by the preset's recipe.

    Raises:
        InputError: if the name is neither, or the recipe does not fit the data.
    """
    if (teacher := named_teacher(options, dataset, parallel)) is not None:
        return teacher
    network = {name: getattr(options, name) for name in ("teacher", "teacher_width", "teacher_sees")}
    shared = select_fields(DataOptions, options) | select_fields(WatchOptions, options)
    recipe = replace(PRESETS[preset].teacher, **shared, **network)
    recipe = completed(replace(recipe, epochs=options.teacher_epochs or recipe.epochs), dataset)
    try:
        plan = plan_teacher(recipe, dataset)
    except InputError as error:
        remedy = f"make it with {command('teacher')} and give its directory as --teacher"
        raise InputError(f"the teacher's {with_flag(str(error))}; {remedy}") from error
    return obtain_teacher(recipe, plan, dataset, parallel)


def named_teacher(options: Options, dataset: Dataset, parallel: Parallel) -> Teacher | None:
    """The teacher that is there under that name, of whatever kind; None for a network, which may have to be trained.

    Raises:
        InputError: if the name is of no kind, or the teacher does not fit the data.
    """
    name = options.teacher
    if (teacher := outside_teacher(options, dataset)) is not None:
        return teacher
    if options.scale is not None:
        raise InputError(f"--scale {options.scale}: for --teacher onnx:FILE; others have a scale of their own")
    if name in TEACHERS or name in PUBLISHED:
        return None
    if (Path(name) / "summary.json").exists():
        return load_student(Path(name), dataset, parallel)
    if Path(name).is_dir():
        return load_teacher(Path(name), dataset, parallel)
    remedy = did_you_mean(name, TEACHERS)
    if (suffix := Path(name).suffix) in (".py", ".onnx"):
        remedy = f"; write {name}:FUNCTION" if suffix == ".py" else f"; write onnx:{name}"
    raise InputError(
        f"--teacher {name}: expected one of {', '.join(TEACHERS)}, the directory of a teacher or a student, {FORMS}"
        f"{remedy}"
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
