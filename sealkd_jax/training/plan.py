"""A training run on given data and devices: its plan, and the functions that the plan comes to.

Axis legend: N examples, C classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from sealkd_jax.data import Dataset
from sealkd_jax.data.augmentation import random_key
from sealkd_jax.errors import InputError
from sealkd_jax.losses import Method
from sealkd_jax.models import Network
from sealkd_jax.parallel.sharding import Parallel, check_batch
from sealkd_jax.training.batch import Batch, gather
from sealkd_jax.training.checkpoints import SCORE
from sealkd_jax.training.epoch import EpochSpec, epoch_order, make_epoch
from sealkd_jax.training.optimizer import create_optimizer, learning_rate_schedule
from sealkd_jax.training.state import TrainState, init_state
from sealkd_jax.training.step import Metrics, SpikeRate, Step, make_step
from sealkd_jax.training.targets import Targets


@dataclass(frozen=True)
class Plan:
    """What a training run computes.

    Attributes:
        network: the network to train.
        method: the loss, with its hyper-parameters bound.
        spec: batches, views and epochs.
        timesteps: T in training and evaluation; 1 for an ANN.
        seed: of the initial parameters and the order of the examples.
        optimizer, learning_rate, weight_decay, warmup_epochs: see `create_optimizer` and `learning_rate_schedule`.
        accumulate, targets, spike_rate, ema: see `make_step`.
        clip_norm, decay_all: see `create_optimizer`.
    """

    network: Network
    method: Method
    spec: EpochSpec
    timesteps: int
    seed: int
    optimizer: str
    learning_rate: float
    weight_decay: float
    warmup_epochs: int
    accumulate: int = 1
    clip_norm: float | None = None
    decay_all: bool = False
    ema: float | None = None
    targets: Targets | None = None
    spike_rate: SpikeRate | None = None


def steps_per_epoch(spec: EpochSpec, dataset: Dataset) -> int:
    """The number of whole batches in the training split.

    Raises:
        InputError: if there is none.
    """
    examples = len(dataset.train.labels)
    if not 1 <= spec.batch_size <= examples:
        raise InputError(f"batch_size {spec.batch_size}: expected 1 to {examples}, the training examples")
    return examples // spec.batch_size


@dataclass(frozen=True)
class PreparedPlan:
    """The functions of a plan on given data and devices, not compiled yet.

    Attributes:
        step: see `make_step`.
        epoch: (state, data, key, epoch) -> (state, metrics `[steps]`) for a training split on the devices.
        chunk: (state, chunk, epoch, first) -> (state, metrics `[P]`) for a streamed chunk, see `make_epoch`. The
            metrics of both also have `variables_norm` `[1]`, after the last step.
        optimizer: see `create_optimizer`.
        schedule: step -> learning rate.
        steps: of an epoch.
        images: zeros in the shape of one normalised example, to initialise the network with.
    """

    plan: Plan
    step: Step
    epoch: Callable[..., tuple[TrainState, Metrics]]
    chunk: Callable[..., tuple[TrainState, Metrics]]
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    steps: int
    images: np.ndarray

    def begin(self, seed: chex.Numeric) -> tuple[TrainState, chex.PRNGKey]:
        """The state before the first epoch, and the key of the examples' order."""
        init_key, order_key = jax.random.split(random_key(seed))
        images, averaged = jnp.asarray(self.images), self.plan.ema is not None
        return init_state(self.plan.network, self.optimizer, init_key, images, averaged=averaged), order_key

    def record(
        self, epoch: int, metrics: Metrics, score: chex.Numeric, firing_rates: dict[str, Any], seconds: float
    ) -> dict[str, Any]:
        """The record of epoch `epoch` (0-based).

        Args:
            epoch: its number.
            metrics: `[steps]` each, on the host; the record has their means.
            score: accuracy on validation.
            firing_rates: of each layer, on validation.
            seconds: that the epoch took.
        """

        def mean(values: np.ndarray) -> float:
            return float(values.mean(dtype=np.float64))

        return {
            "epoch": epoch + 1,
            "loss": mean(metrics["loss"]),
            "terms": {name: mean(values) for name, values in metrics["terms"].items()},
            "train_accuracy": mean(metrics["accuracy"]),
            SCORE: float(score),
            "firing_rates": {layer: float(rate) for layer, rate in firing_rates.items()},
            "learning_rate": float(self.schedule(epoch * self.steps + self.steps - 1)),
            "grad_norm": mean(metrics["grad_norm"]),
            "seconds": seconds,
            "examples_per_second": self.steps * self.plan.spec.batch_size / seconds,
        }


def prepare(plan: Plan, dataset: Dataset, parallel: Parallel) -> PreparedPlan:
    """Puts step, optimiser and epoch together.

    Raises:
        InputError: if the batch is larger than the training split, or not divided by devices and microbatches.
    """
    check_batch(plan.spec.batch_size, len(parallel.devices), plan.accumulate)
    spec, steps = plan.spec, steps_per_epoch(plan.spec, dataset)
    warmup = min(plan.warmup_epochs, spec.epochs - 1)
    schedule = learning_rate_schedule(plan.learning_rate, steps=spec.epochs * steps, warmup_steps=warmup * steps)
    optimizer = create_optimizer(
        plan.optimizer,
        schedule,
        weight_decay=plan.weight_decay,
        decay_all=plan.decay_all,
        clip_norm=plan.clip_norm,
    )
    step = make_step(
        plan.network,
        plan.method,
        optimizer,
        timesteps=plan.timesteps,
        axis_name=parallel.axis_name,
        accumulate=plan.accumulate,
        targets=plan.targets,
        spike_rate=plan.spike_rate,
        ema=plan.ema,
    )
    in_memory = make_epoch(step, spec, steps, lambda data, index: gather(data, parallel.split_batch(index)))
    streamed = make_epoch(step, spec, steps, lambda _, batch: batch)

    def epoch_fn(state: TrainState, data: Batch, key: chex.PRNGKey, epoch: jax.Array) -> tuple[TrainState, Metrics]:
        chex.assert_equal_shape_prefix(jax.tree.leaves(data), 1)  # gathering beyond the end is silent
        return in_memory(state, data, epoch_order(spec, len(data.labels), key, epoch), epoch, 0)

    def chunk_fn(state: TrainState, chunk: Batch, epoch: jax.Array, first: jax.Array) -> tuple[TrainState, Metrics]:
        return streamed(state, None, chunk, epoch, first)

    shape = dataset.train.images.shape
    images = np.zeros((*shape[1:-3], 1, *shape[-3:]))
    return PreparedPlan(plan, step, _measured(epoch_fn), _measured(chunk_fn), optimizer, schedule, steps, images)


def _measured(run: Callable[..., tuple[TrainState, Metrics]]) -> Callable[..., tuple[TrainState, Metrics]]:
    """`run` with the norm of all variables after it. Inside the step, it would make a GPU copy each of them first."""

    def measured(*args: Any) -> tuple[TrainState, Metrics]:
        state, metrics = run(*args)
        return state, metrics | {"variables_norm": optax.tree.norm(state.variables)[None]}

    return measured
