"""Masks that single out one class, instead of gathers and scatters: they fuse with what stands around them.

Axes: T timesteps, B batch, C classes.
"""

import jax
import jax.numpy as jnp


def predicted_mask(student: jax.Array) -> jax.Array:
    """Mask `[T, B, C]` of the highest logit `[T, B, C]`; on ties the lowest index."""
    # Two plain reductions, of floats: on a CPU argmax, which carries pairs, is half as fast, and integers are slower.
    # The cast back keeps XLA from joining the minimum with its use, as in `ela_loss`.
    classes = jnp.arange(student.shape[-1])[None, None, :]
    highest = student == student.max(axis=-1, keepdims=True)
    first = jnp.min(jnp.where(highest, classes.astype(student.dtype), student.shape[-1]), axis=-1)
    return classes == first.astype(classes.dtype)[..., None]


def wrong_mask(student: jax.Array, is_label: jax.Array) -> jax.Array:
    """Mask `[T, B]` of the timesteps whose prediction is not the label, `[1, B, C]`."""
    return ~jnp.any(predicted_mask(student) & is_label, axis=-1)


def value_at(mask: jax.Array, values: jax.Array) -> jax.Array:
    """`values[T, B, C]` where the mask is true, `[T, B]`; NaN, no plausible number, where it is nowhere."""
    picked = jnp.sum(jnp.where(mask, values, 0), axis=-1)
    return jnp.where(mask.any(axis=-1), picked, jnp.nan)
