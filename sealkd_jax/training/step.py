"""One training step: the only place where a loss meets a network and an optimiser.

Axis legend: T timesteps, B batch, C classes.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from sealkd_jax.diagnostics import accuracy_by_timestep
from sealkd_jax.losses import Method
from sealkd_jax.models import Network, Variables
from sealkd_jax.training.batch import Batch, microbatches
from sealkd_jax.training.state import Averaged, TrainState, update_average
from sealkd_jax.training.targets import Targets, make_targets

Metrics = dict[str, Any]
Step = Callable[..., tuple[TrainState, Metrics]]


class SpikeRate(NamedTuple):
    """A penalty on firing rates: `weight` times the mean over layers of (rate − `target`)².

    The rate of a layer is the share of its neurons that fire, over all timesteps and examples of the batch.
    """

    target: float
    weight: float


def make_step(
    network: Network,
    method: Method,
    optimizer: optax.GradientTransformation,
    *,
    timesteps: int,
    axis_name: str | None = None,
    accumulate: int = 1,
    targets: Targets | None = None,
    spike_rate: SpikeRate | None = None,
    ema: float | None = None,
) -> Step:
    """Returns the pure function (state, batch, progress, key=None) -> (state, metrics).

    `progress` is the fraction of training done, in [0, 1]; `key` is for a method that draws random numbers, and for
    mixup. Metrics are scalars: `loss`, its `terms`, the `accuracy` of
    the accumulated logits, and `grad_norm`.

    Args:
        network: the student.
        method: the loss, see `METHODS`.
        optimizer: applied to the parameters.
        timesteps: T.
        axis_name: under `pmap`, where the batch is one device's shard, the axis over which gradients, statistics and
            metrics are averaged; None under `jit`.
        accumulate: K, which divides the batch. The step takes K microbatches one after another and updates with the
            mean of their gradients; only one microbatch's activations are in memory. For a loss that is a mean over
            examples (see `losses.couples_examples`) this is the gradient of the whole batch. BatchNorm normalises each
            microbatch by its own statistics, and its running statistics move K times.
        targets: what the labels become; None: they stay.
        spike_rate: a penalty to add to the loss; with microbatches, on the rates of each.
        ema: the decay of the average of the variables, of a state that is `Averaged`; None: no average.
    """
    draws = "key" in inspect.signature(method).parameters

    def loss_fn(
        params: Any, stats: Any, batch: Batch, progress: chex.Numeric, key: chex.PRNGKey | None
    ) -> tuple[jax.Array, tuple[Any, Metrics]]:
        variables = Variables(params, stats)
        how: Any = {"timesteps": timesteps, "axis_name": axis_name}
        spikes: dict[str, jax.Array] = {}
        if spike_rate is None:
            logits, stats = network.train(variables, batch.images, **how)
        else:
            logits, stats, spikes = network.train_and_observe(variables, batch.images, **how)
        with jax.named_scope("loss"):
            drawn = {"key": key} if draws else {}
            loss, terms = method(
                logits, batch.teacher_logits, batch.labels, progress=progress, axis_name=axis_name, **drawn
            )
            if spike_rate is not None:
                terms |= {"spike_rate": _rate_penalty(spikes, spike_rate.target, axis_name)}
                loss += spike_rate.weight * terms["spike_rate"]
        labels = batch.labels if batch.labels.ndim == 1 else jnp.argmax(batch.labels, axis=1)
        accuracy = accuracy_by_timestep(logits, labels)[-1]
        return loss, (stats, {"loss": loss, "terms": terms, "accuracy": accuracy})

    gradient = jax.grad(loss_fn, has_aux=True)

    def accumulated(
        params: Any, stats: Any, batch: Batch, progress: chex.Numeric, key: chex.PRNGKey | None
    ) -> tuple[Any, tuple[Any, Metrics]]:
        def body(sums: tuple[Any, Any], scanned: tuple[Batch, Any]) -> tuple[tuple[Any, Any], Metrics]:
            (total, stats), (microbatch, own_key) = sums, scanned
            grads, (stats, metrics) = gradient(params, stats, microbatch, progress, own_key)
            return (jax.tree.map(jnp.add, total, grads), stats), metrics

        zeros, keys = jax.tree.map(jnp.zeros_like, params), None if key is None else jax.random.split(key, accumulate)
        (total, stats), metrics = jax.lax.scan(body, (zeros, stats), (microbatches(batch, accumulate), keys))
        grads = jax.tree.map(lambda x: x / accumulate, total)
        return grads, (stats, jax.tree.map(lambda x: x.mean(0), metrics))

    def step(
        state: TrainState, batch: Batch, progress: chex.Numeric, key: chex.PRNGKey | None = None
    ) -> tuple[TrainState, Metrics]:
        params, stats = state.variables
        if targets is not None:
            batch = make_targets(targets, batch, key, axis_name)
        grads, (stats, metrics) = (gradient if accumulate == 1 else accumulated)(params, stats, batch, progress, key)
        if axis_name is not None:
            grads, metrics = jax.lax.pmean((grads, metrics), axis_name)
        with jax.named_scope("optimizer"):
            kept = state.opt_state
            before = kept.optimizer if isinstance(kept, Averaged) else kept
            updates, opt_state = optimizer.update(grads, before, params)
            variables = Variables(optax.apply_updates(params, updates), stats)
            if isinstance(kept, Averaged):
                assert ema is not None
                opt_state = update_average(kept, opt_state, variables, ema)
        metrics |= {"grad_norm": optax.tree.norm(grads)}
        return TrainState(variables, opt_state), metrics

    return step


def _rate_penalty(spikes: dict[str, jax.Array], target: float, axis_name: str | None) -> jax.Array:
    """The mean over layers of (rate − target)², of spikes `[T, B, ...]`."""
    rates = jnp.stack([layer.mean(dtype=jnp.result_type(float)) for layer in spikes.values()])
    rates = rates if axis_name is None else jax.lax.pmean(rates, axis_name)
    return jnp.mean((rates - target) ** 2)
