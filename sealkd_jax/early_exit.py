"""Stopping when sure: a prediction after as few timesteps as an example needs.

Pure functions of arrays, for anybody's network. Axes: `T` timesteps, first; `B` examples, `C` classes, `K` thresholds.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sealkd_jax.diagnostics import _labels, accumulate


class EarlyExit(NamedTuple):
    """What each example `[B]` was taken for (`[K, B]` of K thresholds), and after how many timesteps, 1 to T."""

    predictions: jax.Array
    timesteps: jax.Array


def early_exit(logits: ArrayLike, threshold: ArrayLike) -> EarlyExit:
    """The prediction at the first timestep that is confident enough; after T timesteps that of T.

    Confidence is the highest softmax probability of the mean logits so far, as in `diagnostics.accumulate`. At a
    threshold of 0 one timestep decides, above 1 all T do.

    Args:
      logits: `[T, B, C]`, of all timesteps: what a network that stops would not have computed is ignored.
      threshold: a confidence, or `[K]` of them.

    Returns:
      predictions and timesteps, integers `[B]`, or `[K, B]`.

    >>> logits = jnp.array([[[9.0, 0.0], [0.5, 0.0]], [[0.0, 0.0], [0.0, 3.0]]])  # the second is unsure at first
    >>> found = early_exit(logits, 0.75)
    >>> print(found.predictions, found.timesteps)
    [0 1] [1 2]

    Reference: Li et al., SEENN: Towards temporal spiking early-exit neural networks, NeurIPS 2023 (arXiv 2304.01230),
    its confidence score.
    """
    so_far = accumulate(logits)
    threshold = jnp.asarray(threshold, so_far.dtype)
    if threshold.ndim > 1:
        raise ValueError(f"threshold: expected a number or shape [K], got {threshold.shape}")
    sure = jax.nn.softmax(so_far).max(-1) >= threshold[..., None, None]  # [K, T, B]
    stop = sure.at[..., -1, :].set(True).argmax(-2)
    predictions = jnp.broadcast_to(so_far.argmax(-1), sure.shape)
    return EarlyExit(jnp.take_along_axis(predictions, stop[..., None, :], -2)[..., 0, :], stop + 1)


class ExitCurve(NamedTuple):
    """Accuracy and mean number of timesteps at each threshold, `[K]`."""

    accuracy: jax.Array
    timesteps: jax.Array


def early_exit_curve(logits: ArrayLike, labels: ArrayLike, thresholds: ArrayLike) -> ExitCurve:
    """What stopping at a confidence costs and saves.

    Args:
      logits: `[T, B, C]`.
      labels: `[B]`.
      thresholds: `[K]`.

    >>> logits = jnp.array([[[9.0, 0.0], [0.5, 0.0]], [[0.0, 0.0], [0.0, 3.0]]])
    >>> curve = early_exit_curve(logits, jnp.array([0, 1]), jnp.array([0.0, 0.75]))
    >>> print(curve.accuracy, curve.timesteps)
    [0.5 1. ] [1.  1.5]
    """
    found = early_exit(logits, thresholds)
    right = found.predictions == _labels(labels, jnp.asarray(logits))
    return ExitCurve(right.mean(-1), found.timesteps.mean(-1))
