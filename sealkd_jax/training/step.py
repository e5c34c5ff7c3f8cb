"""One training step: the only place where a loss meets a network and an optimiser.

Axis legend: T timesteps, B batch, C classes.
"""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax

from sealkd_jax.diagnostics import accuracy_by_timestep
from sealkd_jax.losses import Method
from sealkd_jax.models import Network, Variables
from sealkd_jax.training.batch import Batch, microbatches
from sealkd_jax.training.state import TrainState

Metrics = dict[str, Any]
Step = Callable[[TrainState, Batch, chex.Numeric], tuple[TrainState, Metrics]]


def make_step(
    network: Network,
    method: Method,
    optimizer: optax.GradientTransformation,
    *,
    timesteps: int,
    axis_name: str | None = None,
    accumulate: int = 1,
) -> Step:
    """Returns the pure function (state, batch, progress) -> (state, metrics).

    `progress` is the fraction of training done, in [0, 1]. Metrics are scalars: `loss`, its `terms`, the `accuracy` of
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
            examples (all but `card`) this is the gradient of the whole batch. BatchNorm normalises each microbatch by
            its own statistics, and its running statistics move K times.
    """

    def loss_fn(params: Any, stats: Any, batch: Batch, progress: chex.Numeric) -> tuple[jax.Array, tuple[Any, Metrics]]:
        variables = Variables(params, stats)
        logits, stats = network.train(variables, batch.images, timesteps=timesteps, axis_name=axis_name)
        with jax.named_scope("loss"):
            loss, terms = method(logits, batch.teacher_logits, batch.labels, progress=progress, axis_name=axis_name)
        accuracy = accuracy_by_timestep(logits, batch.labels)[-1]
        return loss, (stats, {"loss": loss, "terms": terms, "accuracy": accuracy})

    gradient = jax.grad(loss_fn, has_aux=True)

    def accumulated(params: Any, stats: Any, batch: Batch, progress: chex.Numeric) -> tuple[Any, tuple[Any, Metrics]]:
        def body(sums: tuple[Any, Any], microbatch: Batch) -> tuple[tuple[Any, Any], Metrics]:
            total, stats = sums
            grads, (stats, metrics) = gradient(params, stats, microbatch, progress)
            return (jax.tree.map(jnp.add, total, grads), stats), metrics

        zeros = jax.tree.map(jnp.zeros_like, params)
        (total, stats), metrics = jax.lax.scan(body, (zeros, stats), microbatches(batch, accumulate))
        grads = jax.tree.map(lambda x: x / accumulate, total)
        return grads, (stats, jax.tree.map(lambda x: x.mean(0), metrics))

    def step(state: TrainState, batch: Batch, progress: chex.Numeric) -> tuple[TrainState, Metrics]:
        params, stats = state.variables
        grads, (stats, metrics) = (gradient if accumulate == 1 else accumulated)(params, stats, batch, progress)
        if axis_name is not None:
            grads, metrics = jax.lax.pmean((grads, metrics), axis_name)
        with jax.named_scope("optimizer"):
            updates, opt_state = optimizer.update(grads, state.opt_state, params)
            params = optax.apply_updates(params, updates)
        metrics |= {"grad_norm": optax.tree.norm(grads)}
        return TrainState(Variables(params, stats), opt_state), metrics

    return step
