"""Training from the first epoch, or from the newest checkpoint, to the last; and the best model of it.

Axis legend: T timesteps, N examples, C classes.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sealkd_jax.checkpoints import SCORE, Checkpoints
from sealkd_jax.data import Dataset, Split
from sealkd_jax.diagnostics import accuracy_by_timestep
from sealkd_jax.errors import InputError
from sealkd_jax.files import replacing
from sealkd_jax.losses import Method
from sealkd_jax.models import Network, Variables
from sealkd_jax.sharding import Parallel
from sealkd_jax.teacher_logits import TeacherLogits
from sealkd_jax.training.epoch import DeviceData, Evaluation, Recipe, make_epoch, make_evaluation, view_batch
from sealkd_jax.training.optimizer import create_optimizer, learning_rate_schedule
from sealkd_jax.training.state import init_state
from sealkd_jax.training.step import make_step


@dataclass(frozen=True)
class Plan:
    """What a training run computes.

    Attributes:
        network: what is trained.
        method: the loss, with its hyper-parameters bound.
        recipe: batches, views and epochs.
        timesteps: T in training and evaluation; 1 for an ANN.
        seed: of the initial parameters and the order of the examples.
        optimizer, learning_rate, weight_decay, warmup_epochs: see `training.optimizer`.
    """

    network: Network
    method: Method
    recipe: Recipe
    timesteps: int
    seed: int
    optimizer: str
    learning_rate: float
    weight_decay: float
    warmup_epochs: int


@dataclass(frozen=True)
class Trained:
    """The variables of the best epoch on the validation split, and a record of every epoch."""

    variables: Variables
    records: list[dict[str, Any]]

    @property
    def best(self) -> dict[str, Any]:
        """The record of the reported epoch: the best on validation, of equals the last."""
        return max(self.records, key=lambda record: (record[SCORE], record["epoch"]))

    @property
    def seconds(self) -> float:
        """Time spent in epochs, compilation and validation included, over all starts of this run."""
        return sum(record["seconds"] for record in self.records)


def on_devices(dataset: Dataset, split: Split, parallel: Parallel) -> DeviceData:
    """A split on every device; mean and std are float32, and float64 where JAX has it enabled."""
    return parallel.put(DeviceData(*map(jnp.asarray, (*split, dataset.mean, dataset.std))))


def steps_per_epoch(recipe: Recipe, dataset: Dataset) -> int:
    """How many whole batches the training split holds.

    Raises:
        InputError: if it holds none.
    """
    examples = len(dataset.train.labels)
    if not 1 <= recipe.batch_size <= examples:
        raise InputError(f"--batch-size {recipe.batch_size}: expected 1 to {examples}, the training examples")
    return examples // recipe.batch_size


def train(
    plan: Plan,
    dataset: Dataset,
    directory: Path,
    parallel: Parallel,
    *,
    teacher_logits: TeacherLogits | None = None,
    on_epoch: Callable[[dict[str, Any]], None] = lambda record: None,
) -> Trained:
    """Trains in `directory`: a checkpoint and a line of `metrics.jsonl` an epoch. What is there is gone on from.

    The same plan, data and machine give the same parameters, also where the run was interrupted between.

    Raises:
        InputError: if the batch is larger than the training split.
        FloatingPointError: if a loss term or the gradient is no longer finite; says which came first. The last
            good checkpoint is kept.
    """
    recipe, steps = plan.recipe, steps_per_epoch(plan.recipe, dataset)
    warmup = min(plan.warmup_epochs, recipe.epochs - 1)
    schedule = learning_rate_schedule(plan.learning_rate, steps=recipe.epochs * steps, warmup_steps=warmup * steps)
    optimizer = create_optimizer(plan.optimizer, schedule, weight_decay=plan.weight_decay)
    step = make_step(plan.network, plan.method, optimizer, timesteps=plan.timesteps, axis_name=parallel.axis_name)
    run_epoch = parallel.compile_epoch(make_epoch(step, recipe, split_batch=parallel.split_batch))
    evaluate = compile_evaluation(plan.network, recipe, plan.timesteps, parallel)

    data = on_devices(dataset, dataset.train, parallel)
    validation = on_devices(dataset, dataset.validation, parallel)
    init_key, order_key = jax.random.split(jax.random.key(plan.seed))
    example = view_batch(recipe, data, jnp.zeros(1, jnp.int32), 0)
    state = parallel.put(init_state(plan.network, optimizer, init_key, example))

    metrics_file = directory / "metrics.jsonl"
    with Checkpoints(directory / "checkpoints") as checkpoints:
        records = []
        if checkpoints.newest is not None:
            state = checkpoints.restore(checkpoints.newest, state)
            records = _read_records(metrics_file)[: checkpoints.newest]
        with replacing(metrics_file) as partial:  # epochs after the checkpoint will be trained again
            partial.write_text("".join(json.dumps(record) + "\n" for record in records))
        for epoch in range(len(records), recipe.epochs):
            start = time.perf_counter()
            teacher = None if teacher_logits is None else jnp.asarray(teacher_logits.view(epoch % recipe.views))
            state, metrics = run_epoch(state, data, teacher, order_key, jnp.int32(epoch))
            metrics = jax.tree.map(np.asarray, metrics)
            _check_finite(metrics, epoch + 1, directory)
            logits = evaluate(state.variables, validation).logits
            seconds = time.perf_counter() - start
            record = {
                "epoch": epoch + 1,
                "loss": _mean(metrics["loss"]),
                "terms": {name: _mean(values) for name, values in metrics["terms"].items()},
                "train_accuracy": _mean(metrics["accuracy"]),
                SCORE: float(accuracy_by_timestep(logits, validation.labels)[-1]),
                "learning_rate": float(schedule(epoch * steps + steps - 1)),
                "grad_norm": _mean(metrics["grad_norm"]),
                "seconds": seconds,
                "examples_per_second": steps * recipe.batch_size / seconds,
            }
            with metrics_file.open("a") as file:
                file.write(json.dumps(record) + "\n")
            records.append(record)
            checkpoints.save(epoch + 1, state, record[SCORE])
            on_epoch(record)
        trained = Trained(state.variables, records)
        best = checkpoints.restore(trained.best["epoch"], state).variables
    return Trained(best, records)


def compile_evaluation(
    network: Network, recipe: Recipe, timesteps: int, parallel: Parallel
) -> Callable[..., Evaluation]:
    """(variables, data, view=0) -> `Evaluation`, on the devices of `parallel`; see `make_evaluation`."""
    return parallel.compile(make_evaluation(network, recipe, timesteps=timesteps, split_batch=parallel.constrain_batch))


def _mean(values: np.ndarray) -> float:
    return float(values.mean(dtype=np.float64))


def _check_finite(metrics: dict[str, Any], epoch: int, directory: Path) -> None:
    """Names the loss term that was not finite first; the gradient where every term was still finite then."""
    series = metrics["terms"] | {"total loss": metrics["loss"], "gradient": metrics["grad_norm"]}
    first_bad = {name: int(np.argmin(np.isfinite(v))) for name, v in series.items() if not np.isfinite(v).all()}
    if first_bad:
        name = min(first_bad, key=first_bad.__getitem__)
        step = first_bad[name]
        kept = f"the checkpoint of epoch {epoch - 1} in {directory}" if epoch > 1 else "no checkpoint"
        raise FloatingPointError(
            f"epoch {epoch}, step {step + 1}: {name} is {series[name][step]}; training stopped with {kept}; "
            "try a lower --learning-rate"
        )


def _read_records(path: Path) -> list[dict[str, Any]]:
    """The epochs on record; a last line that a crash cut off is dropped."""
    records = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records
