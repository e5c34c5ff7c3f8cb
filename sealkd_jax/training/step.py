"""One training step: the only place where a loss meets a network and an optimiser.

Axis legend: T timesteps, B batch, H height, W width, C channels (images) or classes (logits).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sealkd_jax.diagnostics import accuracy_by_timestep
from sealkd_jax.losses import Method
from sealkd_jax.models import Network, Variables
from sealkd_jax.training.state import TrainState

Metrics = dict[str, Any]


class Batch(NamedTuple):
    """Images `[B, H, W, C]` or frames `[T, B, H, W, C]`, normalised, labels `[B]`, teacher logits as in `METHODS`.

    Those are `[B, C]`, `[T, B, C]` or None.
    """

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
    accumulate: int = 1,
) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]:
    """The pure function (state, batch, progress) -> (state, metrics).

    `progress` is the share of training done, in [0, 1]. Metrics are scalars: `loss`, the loss's own `terms`,
    `accuracy` of the accumulated logits, and `grad_norm`. Under `pmap` the batch is one device's share and
    `axis_name` names the axis over which gradients, statistics and metrics are averaged; under `jit` it is None.

    With `accumulate` K the batch, which K divides, is taken in K parts one after another, and the optimiser gets the
    mean of their gradients: the activations of one part at a time are in memory. Of a loss that is a mean over
    examples, all but `card`, that is the gradient of the whole batch. BatchNorm sees the small batches: it normalises
    each part by the part's own statistics, and its running statistics move K times a step.
    """

    def step(state: TrainState, batch: Batch, progress: jax.Array) -> tuple[TrainState, Metrics]:
        def loss_fn(params: Any, stats: Any, batch: Batch) -> tuple[jax.Array, tuple[Any, Metrics]]:
            logits, stats = network.train(
                Variables(params, stats),
                batch.images,
                timesteps=timesteps,
                axis_name=axis_name,
            )
            loss, terms = method(logits, batch.teacher_logits, batch.labels, progress=progress, axis_name=axis_name)
            accuracy = accuracy_by_timestep(logits, batch.labels)[-1]
            return loss, (stats, {"loss": loss, "terms": terms, "accuracy": accuracy})

        def one_part(sums: tuple[Any, Any], part: Batch) -> tuple[tuple[Any, Any], Metrics]:
            total, stats = sums
            grads, (stats, metrics) = gradient(params, stats, part)
            return (jax.tree.map(jnp.add, total, grads), stats), metrics

        gradient, (params, stats) = jax.grad(loss_fn, has_aux=True), state.variables
        if accumulate == 1:
            grads, (stats, metrics) = gradient(params, stats, batch)
        else:
            nothing = jax.tree.map(jnp.zeros_like, params)
            (total, stats), metrics = jax.lax.scan(one_part, (nothing, stats), in_parts(batch, accumulate))
            grads = jax.tree.map(lambda x: x / accumulate, total)
            metrics = jax.tree.map(lambda x: x.mean(0), metrics)
        if axis_name is not None:
            grads, metrics = jax.lax.pmean((grads, metrics), axis_name)
        updates, opt_state = optimizer.update(grads, state.opt_state, params)
        params = optax.apply_updates(params, updates)
        metrics |= {"grad_norm": optax.tree.norm(grads)}
        return TrainState(Variables(params, stats), opt_state), metrics

    return step


def in_parts(batch: Batch, parts: int) -> Batch:
    """K parts of a batch along a new first axis; of K examples in a row each goes to another part.

    So every device has its share of each part already.
    """

    def split(x: jax.Array, axis: int) -> jax.Array:
        """`[..., B, ...]` to `[K, ..., B/K, ...]`."""
        return jnp.moveaxis(x.reshape(*x.shape[:axis], -1, parts, *x.shape[axis + 1 :]), axis + 1, 0)

    images, labels, teacher = batch
    return Batch(
        split(images, images.ndim - 4),
        split(labels, 0),
        None if teacher is None else split(teacher, teacher.ndim - 2),
    )
