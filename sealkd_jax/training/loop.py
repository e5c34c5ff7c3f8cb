"""Training from the first epoch, or from the newest checkpoint, to the last; and the best model of it.

Axis legend: T timesteps, N examples, C classes.
"""

import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sealkd_jax.data import Dataset, Split, take
from sealkd_jax.data.augmentation import random_key
from sealkd_jax.diagnostics import accuracy_by_timestep
from sealkd_jax.errors import InputError
from sealkd_jax.files import naming, replacing
from sealkd_jax.losses import Method
from sealkd_jax.models import Network, Variables
from sealkd_jax.parallel.processes import is_main_process
from sealkd_jax.parallel.sharding import Parallel, check_batch
from sealkd_jax.training.checkpoints import SCORE, Checkpoints, best_of
from sealkd_jax.training.epoch import DeviceData, Recipe, make_epoch, make_piece, view_batch
from sealkd_jax.training.feed import compile_epoch, compile_evaluation, count_steps, join_parts, on_devices
from sealkd_jax.training.optimizer import create_optimizer, learning_rate_schedule
from sealkd_jax.training.state import TrainState, init_state
from sealkd_jax.training.step import Metrics, make_step
from sealkd_jax.training.teacher_logits import TeacherLogits


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
        accumulate: in how many parts a step takes its batch, see `make_step`.
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
    accumulate: int = 1


@dataclass(frozen=True)
class Trained:
    """The variables of the best epoch on the validation split, and a record of every epoch."""

    variables: Variables
    records: list[dict[str, Any]]

    @property
    def best(self) -> dict[str, Any]:
        """The record of the reported epoch: the best on validation, of equals the last."""
        return best_of(self.records)

    @property
    def seconds(self) -> float:
        """Time spent in epochs, compilation and validation included, over all starts of this run."""
        return sum(record["seconds"] for record in self.records)


def steps_per_epoch(recipe: Recipe, dataset: Dataset) -> int:
    """How many whole batches the training split holds.

    Raises:
        InputError: if it holds none.
    """
    examples = len(dataset.train.labels)
    if not 1 <= recipe.batch_size <= examples:
        raise InputError(f"batch_size {recipe.batch_size}: expected 1 to {examples}, the training examples")
    return examples // recipe.batch_size


@dataclass(frozen=True)
class Program:
    """What a plan comes to on given data and devices, before anything is compiled.

    Attributes:
        step: see `make_step`.
        epoch: see `make_epoch`; its metrics have the `variables_norm` that it ends with, too, `[1]`.
        piece: a part of it, see `make_piece`; likewise.
        schedule: step -> learning rate.
        steps: of an epoch.
    """

    plan: Plan
    step: Callable[..., tuple[TrainState, Metrics]]
    epoch: Callable[..., tuple[TrainState, Metrics]]
    piece: Callable[..., tuple[TrainState, Metrics]]
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    steps: int

    def begin(self, data: DeviceData, seed: jax.typing.ArrayLike) -> tuple[TrainState, jax.Array]:
        """The state before the first epoch, and the key of the examples' order."""
        init_key, order_key = jax.random.split(random_key(seed))
        example = view_batch(self.plan.recipe, data, jnp.zeros(1, jnp.int32), 0)
        return init_state(self.plan.network, self.optimizer, init_key, example), order_key

    def record(
        self, epoch: int, metrics: Metrics, score: jax.typing.ArrayLike, rates: dict[str, Any], seconds: float
    ) -> dict[str, Any]:
        """What is written down of epoch `epoch` (0-based): means of its metrics `[steps]`, and its validation.

        `score` is the accuracy there, and `rates` the share of each layer that fired, of any shape.
        """

        def mean(values: np.ndarray) -> float:
            return float(values.mean(dtype=np.float64))

        return {
            "epoch": epoch + 1,
            "loss": mean(metrics["loss"]),
            "terms": {name: mean(values) for name, values in metrics["terms"].items()},
            "train_accuracy": mean(metrics["accuracy"]),
            SCORE: float(np.asarray(score)),
            "firing_rates": {layer: mean(np.asarray(shares)) for layer, shares in rates.items()},
            "learning_rate": float(self.schedule(epoch * self.steps + self.steps - 1)),
            "grad_norm": mean(metrics["grad_norm"]),
            "seconds": seconds,
            "examples_per_second": self.steps * self.plan.recipe.batch_size / seconds,
        }


def prepare(plan: Plan, dataset: Dataset, parallel: Parallel) -> Program:
    """Puts step, optimiser and epoch together.

    Raises:
        InputError: if the batch is larger than the training split, or not divided by devices and parts.
    """
    check_batch(plan.recipe.batch_size, len(parallel.devices), plan.accumulate)
    recipe, steps = plan.recipe, steps_per_epoch(plan.recipe, dataset)
    warmup = min(plan.warmup_epochs, recipe.epochs - 1)
    schedule = learning_rate_schedule(plan.learning_rate, steps=recipe.epochs * steps, warmup_steps=warmup * steps)
    optimizer = create_optimizer(plan.optimizer, schedule, weight_decay=plan.weight_decay)
    step = make_step(
        plan.network,
        plan.method,
        optimizer,
        timesteps=plan.timesteps,
        axis_name=parallel.axis_name,
        accumulate=plan.accumulate,
    )
    epoch, piece = make_epoch(step, recipe, split_batch=parallel.split_batch), make_piece(step, recipe, steps=steps)
    return Program(plan, step, _measured(epoch), _measured(piece), optimizer, schedule, steps)


def _measured(run: Callable[..., tuple[TrainState, Metrics]]) -> Callable[..., tuple[TrainState, Metrics]]:
    """`run` with the norm of all variables after it. In the step, it would have a GPU copy each of them first."""

    def measured(*args: Any) -> tuple[TrainState, Metrics]:
        state, metrics = run(*args)
        return state, metrics | {"variables_norm": optax.tree.norm(state.variables)[None]}

    return measured


def train(
    plan: Plan,
    dataset: Dataset,
    directory: Path,
    parallel: Parallel,
    *,
    teacher_logits: TeacherLogits | None = None,
    on_epoch: Callable[[dict[str, Any]], None] = lambda record: None,
    on_piece: Callable[[], None] = lambda: None,
    on_damage: Callable[[str], None] = warnings.warn,
) -> Trained:
    """Trains in `directory`: a checkpoint and a line of `metrics.jsonl` an epoch. What is there is gone on from.

    The same plan, data and machine give the same parameters, also where the run was interrupted between. Where
    `parallel` has the devices of several processes, all of them call this, and the first writes.

    Args:
        on_epoch: called with the record of every epoch once its checkpoint is being written; an exception of its own
            ends training there, and what is being written is finished.
        on_piece: called within an epoch of data that one process reads on demand, wherever it could be gone on with;
            an exception of its own ends training there, when that is saved.
        on_damage: called with a line that names a damaged checkpoint, where an older one is gone on from.

    Raises:
        InputError: if the batch is larger than the training split, no checkpoint of those that are there is good,
            one cannot be written, or it is within an epoch and the data are not read on demand.
        FloatingPointError: if a loss term or the gradient is no longer finite, and which came first; or a parameter,
            after all steps of an epoch. The last good checkpoint is kept.
    """
    recipe = plan.recipe
    program = prepare(plan, dataset, parallel)
    run_epoch = compile_epoch(program, dataset, parallel)
    validation = dataset.validation
    evaluate = compile_evaluation(plan.network, recipe, plan.timesteps, parallel, dataset, validation)
    example = Split(take(dataset.train.images, [0]), dataset.train.labels[:1])
    state, order_key = program.begin(on_devices(dataset, example, parallel.single_device()), plan.seed)
    state = parallel.put(state)

    metrics_file = directory / "metrics.jsonl"
    with Checkpoints(directory / "checkpoints") as checkpoints:
        state, records = checkpoints.restore_newest(state, on_damage)
        begun, seconds = _take_unfinished(records)
        if begun and isinstance(dataset.train.images, np.ndarray):
            raise InputError(f"{directory}: stopped within an epoch of streamed data; stream the data to go on")
        if is_main_process():
            with replacing(metrics_file) as partial:  # its records are the checkpoint's
                partial.write_text("".join(json.dumps(record) + "\n" for record in records))
        for epoch in range(len(records), recipe.epochs):
            start = time.perf_counter() - seconds
            teacher = None if teacher_logits is None else teacher_logits.view(epoch % recipe.views)
            pieces = run_epoch(state, teacher, order_key, epoch, begun)
            for state, parts in pieces:
                try:
                    if count_steps(parts) < program.steps and parallel.processes == 1:
                        on_piece()
                except BaseException:
                    if first_not_finite(metrics := join_parts(parts)) is None:
                        unfinished = _unfinished(epoch, metrics, time.perf_counter() - start)
                        checkpoints.save(state, [*records, unfinished])
                    raise
            metrics, begun, seconds = join_parts(parts), [], 0.0
            if bad := first_not_finite(metrics):
                kept = f"the checkpoint of epoch {epoch} in {directory}" if epoch else "no checkpoint"
                raise FloatingPointError(
                    f"epoch {epoch + 1}, {bad}; training stopped with {kept}; "
                    "try a lower learning_rate in another directory"
                )
            logits, rates = evaluate(state.variables)
            score = accuracy_by_timestep(logits, validation.labels)[-1]
            record = program.record(epoch, metrics, score, rates, time.perf_counter() - start)
            if is_main_process():
                with naming(metrics_file), metrics_file.open("a") as file:
                    file.write(json.dumps(record) + "\n")
            records.append(record)
            checkpoints.save(state, records)
            on_epoch(record)
        trained = Trained(state.variables, records)
        best, _ = checkpoints.restore(trained.best["epoch"], state)
    return Trained(best.variables, records)


def _unfinished(epoch: int, metrics: Metrics, seconds: float) -> dict[str, Any]:
    """In place of the record of an epoch, of which only some steps were taken; never the best."""
    return {"epoch": epoch + 1, SCORE: -1.0, "seconds": seconds, "metrics": jax.tree.map(np.ndarray.tolist, metrics)}


def _take_unfinished(records: list[dict[str, Any]]) -> tuple[list[Metrics], float]:
    """Takes the `_unfinished` record off the others, if there is one: the metrics of its steps, and its seconds."""
    if not records or "metrics" not in records[-1]:
        return [], 0.0
    last = records.pop()
    return [jax.tree.map(np.asarray, last["metrics"], is_leaf=lambda x: isinstance(x, list))], last["seconds"]


def first_not_finite(metrics: dict[str, Any]) -> str | None:
    """Names the loss term, or the gradient, that was not finite first; or parameters that are not after all steps."""
    series = metrics["terms"] | {"total loss": metrics["loss"], "gradient": metrics["grad_norm"]}
    first_bad = {name: int(np.argmin(np.isfinite(v))) for name, v in series.items() if not np.isfinite(v).all()}
    if first_bad:
        name = min(first_bad, key=first_bad.__getitem__)
        step = first_bad[name]
        return f"step {step + 1}: {name} is {series[name][step]}"
    norm = metrics["variables_norm"][-1]
    return None if np.isfinite(norm) else f"after step {len(metrics['loss'])}: the norm of all parameters is {norm}"
