"""Early exit: an example stops at the first timestep that is confident enough.

Axes: `T` timesteps, `B` examples, `C` classes, `K` thresholds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sealkd_jax._checks import as_where, require
from sealkd_jax.diagnostics._examples import mean, predict, time_first
from sealkd_jax.diagnostics.timesteps import accumulate, correct

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int, Integer


class EarlyExit(NamedTuple):
    """The prediction for each example, `[B]` or `[K, B]`, and the number of timesteps it took, 1 to T."""

    predictions: Int[Array, "*K B"]
    timesteps: Int[Array, "*K B"]


def early_exit(
    logits: Float[ArrayLike, "T B C"],
    threshold: Float[ArrayLike, "*K"],
    *,
    where: Bool[ArrayLike, "B"] | None = None,
    time_axis: int = 0,
) -> EarlyExit:
    """The prediction at the first timestep that is confident enough, or else after T timesteps.

    Confidence is the highest softmax probability of the accumulated logits. With a threshold of 0 all examples stop
    after one timestep; with one above 1 none stops before T. The prediction is −1 where the logits hold a NaN.

    Args:
      logits: `[T, B, C]`, of all timesteps; those after an example has stopped are ignored.
      threshold: a confidence, or `[K]` of them.
      where: the examples that count, bool `[B]`; the others have the prediction −1 after 0 timesteps.
      time_axis: the axis of T, 0 or 1.

    >>> import jax.numpy as jnp
    >>> logits = jnp.array([[[9.0, 0.0], [0.5, 0.0]], [[0.0, 0.0], [0.0, 3.0]]])  # the second is unsure at first
    >>> found = early_exit(logits, 0.75)
    >>> print(found.predictions, found.timesteps)
    [0 1] [1 2]

    Reference: Li et al., SEENN: Towards temporal spiking early-exit neural networks, NeurIPS 2023 (arXiv 2304.01230),
    its confidence score.
    """
    so_far = accumulate(time_first(logits, time_axis))
    require("threshold", threshold, "a confidence, or [K] of them", lambda each: each == each)
    threshold = jnp.asarray(threshold, so_far.dtype)
    if threshold.ndim > 1:
        raise ValueError(f"threshold: expected a number or shape [K], got {threshold.shape}")
    sure = jax.nn.softmax(so_far).max(-1)[None] >= threshold.reshape(-1, 1, 1)  # [K, T, B]
    stop = sure.at[:, -1].set(True).argmax(1)
    predictions, timesteps = jnp.take_along_axis(predict(so_far), stop, 0), stop + 1
    if where is not None:
        counts = as_where(where, so_far.shape[1])[None]
        predictions, timesteps = jnp.where(counts, predictions, -1), jnp.where(counts, timesteps, 0)
    shape = *threshold.shape, so_far.shape[1]
    return EarlyExit(predictions.reshape(shape), timesteps.reshape(shape))


class ExitCurve(NamedTuple):
    """Accuracy and mean number of timesteps at each threshold."""

    accuracy: Float[Array, "K"]
    timesteps: Float[Array, "K"]


def early_exit_curve(
    logits: Float[ArrayLike, "T B C"],
    labels: Integer[ArrayLike, "B"],
    thresholds: Float[ArrayLike, "K"],
    *,
    where: Bool[ArrayLike, "B"] | None = None,
    time_axis: int = 0,
) -> ExitCurve:
    """Accuracy and timesteps of `early_exit` at each threshold.

    >>> logits = jnp.array([[[9.0, 0.0], [0.5, 0.0]], [[0.0, 0.0], [0.0, 3.0]]])
    >>> curve = early_exit_curve(logits, jnp.array([0, 1]), jnp.array([0.0, 0.75]))
    >>> print(curve.accuracy, curve.timesteps)
    [0.5 1. ] [1.  1.5]
    """
    logits = time_first(logits, time_axis)
    found = early_exit(logits, thresholds)
    each = correct(accumulate(logits), labels, where=where)  # [T, B]
    right = jnp.take_along_axis(each, found.timesteps - 1, 0)
    return ExitCurve(mean(right, where), mean(found.timesteps, where))
