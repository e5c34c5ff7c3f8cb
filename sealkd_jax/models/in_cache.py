"""Functions of a batch, computed a piece at a time that stays in the processor's cache.

A piece has `size` examples, or 1 where that is less, or all where they are fewer.

Axis legend: N batch, n examples of a piece.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax


def summed(of_piece: Callable[..., jax.Array], size: int, *arrays: jax.Array) -> jax.Array:
    """The sum of `of_piece` over pieces `[n, ...]` of all arrays `[N, ...]`; the last may be smaller."""
    size = max(1, min(size, len(arrays[0])))
    whole = len(arrays[0]) // size

    def add(number: jax.Array, total: jax.Array) -> jax.Array:
        return total + of_piece(*(lax.dynamic_slice_in_dim(array, number * size, size) for array in arrays))

    one = jax.eval_shape(of_piece, *(array[:size] for array in arrays))
    total = lax.fori_loop(0, whole, add, jnp.zeros(one.shape, one.dtype))
    rest = [array[whole * size :] for array in arrays]
    return total + of_piece(*rest) if len(rest[0]) else total


def joined(of_piece: Callable[[jax.Array], jax.Array], size: int, x: jax.Array) -> jax.Array:
    """What `of_piece` makes of pieces `[n, ...]` of x, joined: `[N, ...]`; it may see an example twice."""
    size = max(1, size)
    if size >= len(x):
        return of_piece(x)

    def put(number: jax.Array, y: jax.Array) -> jax.Array:
        start = jnp.minimum(number * size, len(x) - size)
        return lax.dynamic_update_slice_in_dim(y, of_piece(lax.dynamic_slice_in_dim(x, start, size)), start, 0)

    one = jax.eval_shape(of_piece, x[:size])
    # Overwritten. Not zeros, which XLA would make for all layers of a network before the first one begins.
    y = jnp.full((len(x), *one.shape[1:]), x[0].max(), one.dtype)
    return lax.fori_loop(0, -(-len(x) // size), put, y)
