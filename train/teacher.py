"""Trains an ANN teacher, or finds it: `python -m train.teacher [PRESET] [--option value …]`.

A teacher is made once and kept under `runs/teachers/`, in a directory named by all that decides what it is.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sealkd_jax.data import Dataset
from sealkd_jax.diagnostics import accuracy_by_timestep
from sealkd_jax.errors import InputError
from sealkd_jax.files import locked, write_json
from sealkd_jax.losses import METHODS
from sealkd_jax.models import Network, Variables, create_teacher
from sealkd_jax.sharding import Parallel, pick_devices
from sealkd_jax.training import Plan, Recipe, compile_evaluation, params_digest, train
from sealkd_jax.weights import load_weights, save_weights
from train.data import facts_of, load_dataset, pick_augmentation
from train.options import DataOptions, TeacherOptions, parse
from train.program import facts, progress, run

TEACHERS_DIR = Path("runs/teachers")


@dataclass(frozen=True)
class Teacher:
    """A trained teacher.

    Attributes:
        directory: where it is kept, and its logits beside it.
        digest: SHA-256 of its variables.
        test_logits: float32 `[N, C]` of the test split, the mean over timesteps where it has several.
    """

    network: Network
    batch_size: int
    float64: bool
    variables: Variables
    directory: Path
    digest: str
    test_logits: np.ndarray
    test_accuracy: float


def fingerprint(*parts: Any) -> str:
    """Twelve hexadecimal digits that follow from JSON facts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def obtain_teacher(options: TeacherOptions, dataset: Dataset, parallel: Parallel) -> Teacher:
    """The teacher of these options: trained now, or found where an earlier run left it."""
    elsewhere = {"parallel", "devices", *facts_of(DataOptions, options)}  # the data's fingerprint stands for the data
    recipe = {name: value for name, value in asdict(options).items() if name not in elsewhere}
    name = f"{dataset.name}-{options.teacher}-{fingerprint(recipe, dataset.fingerprint)}"
    directory = TEACHERS_DIR / name
    parallel = parallel.dividing(options.batch_size)
    with locked(directory, wait=True), jax.enable_x64(options.precision == "float64"):
        if not (directory / "teacher.json").exists():
            with progress("teacher", options.epochs) as show:
                trained = train(_plan(options, dataset), dataset, directory, parallel, on_epoch=show)
            save_weights(directory / "weights.safetensors", trained.variables, {"teacher": options.teacher})
            write_json(
                directory / "teacher.json",
                {"options": asdict(options), "data": dataset.fingerprint, "seconds": trained.seconds, **facts()},
            )
    return load_teacher(directory, dataset, parallel)


def load_teacher(directory: Path, dataset: Dataset, parallel: Parallel) -> Teacher:
    """A finished teacher from its directory, and how it does on the test split.

    Raises:
        InputError: if there is none, it is damaged, or it was trained on other data.
    """
    try:
        made = json.loads((directory / "teacher.json").read_text())
        options, data = TeacherOptions(**made["options"]), made["data"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{directory}: no teacher there (teacher.json: {error}); make one with train.teacher"
        ) from error
    if data != dataset.fingerprint:
        raise InputError(f"{directory}: a teacher of other data ({options.dataset}); make one with train.teacher")
    plan = _plan(options, dataset)
    parallel = parallel.dividing(options.batch_size)
    shape = dataset.train.images.shape
    image = jax.ShapeDtypeStruct((*shape[1:-3], 1, *shape[-3:]), np.float32)
    with jax.enable_x64(options.precision == "float64"):
        like = jax.eval_shape(plan.network.init, jax.random.key(0), image)
        variables = parallel.put(load_weights(directory / "weights.safetensors", like))
        logits = compile_evaluation(plan.network, plan.recipe, 1, parallel, dataset, dataset.test)(variables).logits
    return Teacher(
        plan.network,
        options.batch_size,
        options.precision == "float64",
        variables,
        directory,
        params_digest(variables),
        np.asarray(logits.mean(0), np.float32),
        float(accuracy_by_timestep(logits, dataset.test.labels)[-1]),
    )


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


def main(argv: list[str] | None = None) -> None:
    """Prints where the teacher is and how accurate."""
    _, preset = parse("teacher", "Trains an ANN teacher, or finds it.", argv)
    options = preset.teacher
    with jax.enable_x64(options.precision == "float64"):
        parallel = Parallel(options.parallel, pick_devices(options.devices, options.batch_size))
        teacher = obtain_teacher(options, load_dataset(options), parallel)
    print(f"{teacher.directory}: test accuracy {teacher.test_accuracy:.2%} (n = {len(teacher.test_logits)})")


if __name__ == "__main__":
    run(main)
