"""Logits as the diagnostics take them, the classes they predict, and means over the examples that count.

Axes: `T` timesteps, `B` examples, `C` classes.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sealkd_jax._checks import as_logits, as_time_first, as_where


def time_first(logits: ArrayLike, time_axis: int = 0) -> jax.Array:
    """Logits as `[T, B, C]`, in float32 or wider."""
    return as_logits("logits", logits if logits is None else as_time_first("logits", logits, time_axis))


def predict(logits: jax.Array) -> jax.Array:
    """The class with the highest logit, `[T, B]`; −1 where that is NaN, which argmax takes for it, or infinite."""
    return jnp.where(jnp.isfinite(logits.max(-1)), logits.argmax(-1), -1)


def mean(values: jax.Array, where: ArrayLike | None) -> jax.Array:
    """Mean over the last axis, of the examples that count; NaN if there are none."""
    if where is None:
        return values.mean(-1)
    counts = as_where(where, values.shape[-1])
    return values.mean(-1, where=jnp.expand_dims(counts, range(values.ndim - 1)))
