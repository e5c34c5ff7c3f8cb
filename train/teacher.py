"""Trains an ANN teacher, or finds it: `python -m train.teacher [PRESET] [--option value …]`.

A teacher is made once and kept under `runs/teachers/`, in a directory named by all that decides what it is.
`--import FILE` makes one of the weights of a network that was trained elsewhere, with PyTorch.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
import tyro

from sealkd_jax.data import Dataset
from sealkd_jax.diagnostics import accuracy_by_timestep
from sealkd_jax.errors import InputError
from sealkd_jax.files import locked, read_sealed, write_sealed
from sealkd_jax.losses import METHODS
from sealkd_jax.models import Network, Variables, create_teacher
from sealkd_jax.models.torch_weights import import_torch
from sealkd_jax.processes import first, largest, locked_by_first
from sealkd_jax.sharding import Parallel, pick_devices
from sealkd_jax.training import Plan, Recipe, compile_evaluation, params_digest, steps_per_epoch, train
from sealkd_jax.weights import load_weights, save_weights
from train.cluster import join
from train.data import facts_of, load_dataset, pick_augmentation
from train.options import DataOptions, ProcessOptions, TeacherOptions, TrainingOptions, WatchOptions, as_kind, parse
from train.program import facts, run, warn
from train.watching import say, watch

TEACHERS_DIR = Path("runs/teachers")
# Mean and deviation of the channels with which PyTorch's networks are usually trained, on CIFAR too.
SCALES = {"imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))}


@dataclass(frozen=True, kw_only=True)
class TeacherProgramOptions(TeacherOptions, ProcessOptions):
    """A teacher to train, or to import."""

    teacher: Annotated[str, tyro.conf.arg(aliases=["--arch"])]
    """Name of the network."""
    weights: Annotated[Path | None, tyro.conf.arg(name="import")] = None
    """A PyTorch state dict (.safetensors, .npz, .pth) of that network, in place of training it."""
    scale: Literal["imagenet", "dataset"] | None = None
    """What the imported network's images are normalised with: the mean and deviation of ImageNet, as they are where not
    given, or of the data set."""
    evaluate: bool = False
    """Only look at the imported network's accuracy; nothing is kept."""


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
    elsewhere = {"parallel", "devices", *facts_of(WatchOptions, options)}
    elsewhere |= facts_of(DataOptions, options).keys()  # the data's fingerprint stands for the data
    recipe = {name: value for name, value in asdict(options).items() if name not in elsewhere}
    name = f"{dataset.name}-{options.teacher}-{fingerprint(recipe, dataset.fingerprint)}"
    directory = TEACHERS_DIR / name
    parallel = parallel.dividing(options.batch_size)
    with jax.enable_x64(options.precision == "float64"), locked_by_first(directory, wait=True):
        if largest(first() and not (directory / "teacher.json").exists()):
            _make_teacher(directory, options, plan, dataset, parallel)
    return load_teacher(directory, dataset, parallel)


def _make_teacher(directory: Path, options: TeacherOptions, plan: Plan, dataset: Dataset, parallel: Parallel) -> None:
    """Trains and keeps it."""
    with watch("teacher", options.epochs, options, directory) as show:
        trained = train(plan, dataset, directory, parallel, on_epoch=show, on_piece=show, on_damage=warn)
    if first():
        save_weights(directory / "weights.safetensors", trained.variables, {"teacher": options.teacher})
        made = {"options": asdict(options), "data": dataset.fingerprint, "seconds": trained.seconds}
        write_sealed(directory / "teacher.json", made | facts())


def load_teacher(directory: Path, dataset: Dataset, parallel: Parallel) -> Teacher:
    """A finished teacher from its directory, and how it does on the test split.

    Raises:
        InputError: if there is none, it is damaged, or it was trained on other data.
    """
    try:
        made = read_sealed(directory / "teacher.json")
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
    network = _plan(options, dataset).network
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
        network = _plan(plain, dataset).network
        variables = import_torch(options.weights, network, like_of(network, dataset))
    digest, kept = params_digest(variables), (options.teacher_sees, options.precision)
    directory = (
        TEACHERS_DIR / f"{dataset.name}-{options.teacher}-{fingerprint(digest, scale, kept, dataset.fingerprint)}"
    )
    teacher = examine(directory, network, variables, plain, 1, scale, dataset, parallel)
    if first() and not options.evaluate:
        with locked(directory, wait=True):
            save_weights(directory / "weights.safetensors", variables, {"teacher": options.teacher})
            made = {"options": asdict(plain), "data": dataset.fingerprint, "scale": scale, "imported": options.weights}
            write_sealed(directory / "teacher.json", made | facts())
    return teacher


def like_of(network: Network, dataset: Dataset) -> Variables:
    """Shapes and dtypes of the network's variables for these images."""
    shape = dataset.train.images.shape
    image = jax.ShapeDtypeStruct((*shape[1:-3], 1, *shape[-3:]), np.float32)
    return jax.eval_shape(network.init, jax.random.key(0), image)


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
    parallel, float64 = parallel.dividing(options.batch_size), options.precision == "float64"
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


def plan_teacher(options: TeacherOptions, dataset: Dataset) -> Plan:
    """What will be computed.

    Raises:
        InputError: for what would fail only in training.
    """
    plan = _plan(options, dataset)
    steps_per_epoch(plan.recipe, dataset)
    with jax.enable_x64(options.precision == "float64"):
        like_of(plan.network, dataset)
    return plan


def _plan(options: TeacherOptions, dataset: Dataset) -> Plan:
    """A teacher is trained with plain cross-entropy, on a new view every epoch."""
    return Plan(
        network=create_teacher(
            options.teacher,
            len(dataset.classes),
            width=options.teacher_width,
            precision=options.precision,
            sees=options.teacher_sees,
        ),
        method=METHODS["none"],
        recipe=Recipe(
            pick_augmentation(options, dataset), options.seed, options.epochs, options.batch_size, options.epochs
        ),
        timesteps=1,
        seed=options.seed,
        optimizer=options.optimizer,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        warmup_epochs=options.warmup_epochs,
    )


def main(argv: list[str] | None = None) -> Path:
    """Prints where the teacher is and how accurate; gives its directory."""
    _, preset = parse("teacher", "Trains an ANN teacher, finds it, or imports it.", argv, kind=TeacherProgramOptions)
    options = preset.teacher
    join(options)
    if options.evaluate and options.weights is None:
        raise InputError("--evaluate: expected --import FILE beside it; a teacher of one's own is always evaluated")
    if options.scale is not None and options.weights is None:
        raise InputError(f"--scale {options.scale}: expected --import FILE beside it; others have the data set's own")
    with jax.enable_x64(options.precision == "float64"):
        parallel = Parallel(options.parallel, pick_devices(options.devices, options.batch_size))
        dataset = load_dataset(options)
        if options.weights is not None:
            teacher = import_teacher(options, dataset, parallel)
        else:
            plain = as_kind(TeacherOptions, options)
            teacher = obtain_teacher(plain, plan_teacher(plain, dataset), dataset, parallel)
    where = options.weights if options.evaluate else teacher.directory
    n_test, accuracy = len(teacher.test_logits), teacher.test_accuracy
    found = {"path": str(where), "test_accuracy": accuracy, "n_test": n_test}
    say(options, "result", found, f"{where}: test accuracy {accuracy:.2%} (n = {n_test})")
    return teacher.directory


if __name__ == "__main__":
    run(main)
