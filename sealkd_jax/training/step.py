"""One training step: the only place where a loss meets a network and an optimiser.

Axis legend: T timesteps, B batch, H height, W width, C channels (images) or classes (logits).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from sealkd_jax.diagnostics import accuracy_by_timestep
from sealkd_jax.losses import Method
from sealkd_jax.models import Network, Variables
from sealkd_jax.training.state import TrainState

Metrics = dict[str, Any]


class Batch(NamedTuple):
    """Images `[B, H, W, C]` normalised, labels `[B]`, teacher logits `[B, C]`, `[T, B, C]` or None."""

    images: jax.Array
    labels: jax.Array
    teacher_logits: jax.Array | None


def make_step(
    network: Network,
    method: Method,
    optimizer: optax.GradientTransformation,
    *,
    timesteps: int,
    axis_name: str | None = None,
) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]:
    """The pure function (state, batch, progress) -> (state, metrics).

    `progress` is the share of training done, in [0, 1]. Metrics are scalars: `loss`, the loss's own `terms`,
    `accuracy` of the accumulated logits, `grad_norm` and, after the step, `variables_norm`. Under `pmap` the batch
    is one device's share and `axis_name` names the axis over which gradients, statistics and metrics are averaged;
    under `jit` it is None.
    """

    def step(state: TrainState, batch: Batch, progress: jax.Array) -> tuple[TrainState, Metrics]:
        def loss_fn(params: Any) -> tuple[jax.Array, tuple[Any, Metrics]]:
            logits, stats = network.train(
                Variables(params, state.variables.stats),
                batch.images,
                timesteps=timesteps,
                axis_name=axis_name,
            )
            loss, terms = method(logits, batch.teacher_logits, batch.labels, progress=progress, axis_name=axis_name)
            accuracy = accuracy_by_timestep(logits, batch.labels)[-1]
            return loss, (stats, {"loss": loss, "terms": terms, "accuracy": accuracy})

        grads, (stats, metrics) = jax.grad(loss_fn, has_aux=True)(state.variables.params)
        if axis_name is not None:
            grads, metrics = jax.lax.pmean((grads, metrics), axis_name)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.variables.params)
        params = optax.apply_updates(state.variables.params, updates)
        variables = Variables(params, stats)
        metrics |= {"grad_norm": optax.tree.norm(grads), "variables_norm": optax.tree.norm(variables)}
        return TrainState(variables, opt_state), metrics

    return step
