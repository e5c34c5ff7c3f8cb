"""Pooling of 2x2 pixels with gradients that are fast on a CPU.

Axis legend: H height, W width, C channels; `...` all axes before them, `[T, B]` or `[B]`.
"""

import jax
import jax.numpy as jnp
from jax import lax

from sealkd_jax.errors import InputError


@jax.named_scope("max_pool")
def max_pool(x: jax.Array) -> jax.Array:
    """The maximum of each 2x2 pixels: `[..., H, W, C]` -> `[..., H/2, W/2, C]`, rounded down. Keeps spikes binary.

    The gradient goes to the first of several maxima, row by row, as in `nn.max_pool`, whose gradient is slow on a CPU.
    """
    return _largest(_drop_odd(x))


@jax.named_scope("average_pool")
def average_pool(x: jax.Array) -> jax.Array:
    """The mean of each 2x2 pixels: `[..., H, W, C]` -> `[..., H/2, W/2, C]`, rounded down. Of spikes, quarters."""
    x = _drop_odd(x)
    *batch, height, width, features = x.shape
    fours = x.reshape(*batch, height // 2, 2, width // 2, 2, features)  # see _largest_backward
    a, b, c, d = (fours[..., row, :, column, :] for row in (0, 1) for column in (0, 1))
    return (a + b + c + d) / 4


def _drop_odd(x: jax.Array) -> jax.Array:
    """Without an odd last row or column."""
    height, width = x.shape[-3:-1]
    if min(height, width) < 2:
        raise InputError(f"images: nothing left to pool at {height}x{width}; larger ones are needed")
    return x[..., : height // 2 * 2, : width // 2 * 2, :]


@jax.custom_vjp
def _largest(x: jax.Array) -> jax.Array:
    return _largest_and_place(x)[0]


def _largest_and_place(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The maximum of each 2x2 and its place, 0 to 3 row by row; the first of several."""
    a, b, c, d = (x[..., row::2, column::2, :] for row in (0, 1) for column in (0, 1))
    upper, lower = jnp.maximum(a, b), jnp.maximum(c, d)
    place = jnp.where(lower > upper, 2 + (d > c).astype(jnp.int8), (b > a).astype(jnp.int8))
    return jnp.maximum(upper, lower), place


def _largest_backward(place: jax.Array, dy: jax.Array) -> tuple[jax.Array]:
    """Written at once. Gradients of strided slices would be arrays with gaps, each written before they are added."""
    *batch, rows, columns, features = dy.shape
    place, dy = place[..., :, None, :, None, :], dy[..., :, None, :, None, :]
    places = lax.broadcast_to_rank(jnp.arange(4, dtype=jnp.int8).reshape(2, 1, 2, 1), place.ndim)
    dx = jnp.where(place == places, dy, 0)
    return (dx.reshape(*batch, 2 * rows, 2 * columns, features),)


_largest.defvjp(_largest_and_place, _largest_backward)
