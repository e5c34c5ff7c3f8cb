"""Pooling of 2x2 pixels whose gradients are fast on a CPU.

Axis legend: H height, W width, C channels; `...` whatever stands before them, `[T, B]` or `[B]`.
"""

import jax
import jax.numpy as jnp

from sealkd_jax.errors import InputError


def max_pool(x: jax.Array) -> jax.Array:
    """Halves H and W of `[..., H, W, C]`, rounded down; of spikes it gives spikes.

    The gradient goes to the first of the largest, row by row, as with `nn.max_pool`, whose gradient is slow on a CPU.
    """
    return _largest(_in_fours(x))


def average_pool(x: jax.Array) -> jax.Array:
    """Halves H and W of `[..., H, W, C]`, rounded down; of spikes it gives quarters."""
    a, b, c, d = _each(_in_fours(x))
    return (a + b + c + d) / 4


def _in_fours(x: jax.Array) -> jax.Array:
    """`[..., H/2, 2, W/2, 2, C]`, without an odd last row or column.

    What strided slices would give without it; but the gradient of those is a sum of arrays with gaps, which XLA
    writes one after another.
    """
    *batch, height, width, features = x.shape
    if min(height, width) < 2:
        raise InputError(f"images: nothing left to pool at {height}x{width}; larger ones are needed")
    rows, columns = height // 2, width // 2
    return x[..., : 2 * rows, : 2 * columns, :].reshape(*batch, rows, 2, columns, 2, features)


def _each(fours: jax.Array) -> list[jax.Array]:
    """The pixels of each four, row by row."""
    return [fours[..., row, :, column, :] for row in (0, 1) for column in (0, 1)]


@jax.custom_vjp
def _largest(fours: jax.Array) -> jax.Array:
    return _largest_and_place(fours)[0]


def _largest_and_place(fours: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The largest of each four, and which of them it is, 0 to 3; the first of equals."""
    a, b, c, d = _each(fours)
    upper, lower = jnp.maximum(a, b), jnp.maximum(c, d)
    place = jnp.where(lower > upper, 2 + (d > c).astype(jnp.int8), (b > a).astype(jnp.int8))
    return jnp.maximum(upper, lower), place


def _largest_backward(place: jax.Array, dy: jax.Array) -> tuple[jax.Array]:
    places = jnp.arange(4, dtype=jnp.int8).reshape(2, 1, 2, 1)
    return (jnp.where(place[..., :, None, :, None, :] == places, dy[..., :, None, :, None, :], 0),)


_largest.defvjp(_largest_and_place, _largest_backward)
