"""Layers whose forward pass keeps its inputs alone, spikes as one byte each; the backward pass computes the rest again.

`jax.checkpoint` promises the same. It separates the second computation from the first by optimisation barriers, but
XLA's CPU compiler removes these and then merges the two. Here the second computation depends on the cotangent, so it
cannot start before the backward pass arrives there, whatever the compiler does.

Axis legend: T timesteps, or 1 of a static input, B batch.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax.core import lift
from flax.linen.transforms import lift_transform


def recomputed(target: Any, *, unit: float | None = None) -> Any:
    """A Flax module class, or a function `(module, *arrays) -> array`, that the backward pass computes again.

    Args:
        target: the class, whose modules are called with arrays, or the function. Arrays and result are `[T, B, ...]`.
        unit: every input is a multiple of this number, smaller than 128 of it, and is kept as one byte: 1 for spikes
            and their sums. None: inputs are kept as they are.
    """
    return lift_transform(_lift, target, unit=unit)


def _lift(function: Callable[..., Any], unit: float | None) -> Callable[..., Any]:
    def inner(scope_of: Callable, repack: Callable, variables: Any, keys: Any, *arrays: jax.Array) -> Any:
        def run(variables: Any, *arrays: jax.Array) -> Any:
            scope = scope_of(variables, keys)
            return function(scope, *arrays), repack(scope)

        return _keep_only_arguments(run, unit)(variables, *arrays)

    return lift.pack(inner, (True,), (True,), (True,), name="recomputed")


def _keep_only_arguments(run: Callable[..., Any], unit: float | None) -> Callable[..., Any]:
    recomputing = jax.custom_vjp(run)

    def forward(variables: Any, *arrays: jax.Array) -> Any:
        packed = [_pack(array, unit) for array in arrays]
        return run(variables, *arrays), (variables, packed)

    def backward(residuals: Any, cotangents: Any) -> Any:
        variables, packed = residuals
        arrays = [_after(cotangents[0], _unpack(array, unit)) for array in packed]
        _, vjp = jax.vjp(run, variables, *arrays)
        return vjp(cotangents)

    recomputing.defvjp(forward, backward)
    return recomputing


def _after(cotangent: jax.Array, array: jax.Array) -> jax.Array:
    """`array`, which depends on the cotangent; each device waits for that of its own examples alone.

    It depends on a maximum, because a reduction is computed once. Single numbers of the cotangent XLA would compute
    again wherever `array` is used, and keep the terms of their sum until then.
    """
    examples = cotangent.shape[1]
    zero = 0 * cotangent[0].reshape(examples, -1).max(1)  # XLA cannot know that it is 0: NaN remains NaN
    return array + zero.reshape(1, examples, *[1] * (array.ndim - 2)).astype(array.dtype)


class _Packed(NamedTuple):
    """An array, as bytes where it has a unit; `like` is an empty array of its dtype."""

    held: jax.Array
    like: jax.Array


def _pack(array: jax.Array, unit: float | None) -> _Packed:
    held = array if unit is None else jnp.round(array / unit).astype(jnp.int8)
    return _Packed(held, jnp.zeros(0, array.dtype))


def _unpack(packed: _Packed, unit: float | None) -> jax.Array:
    return packed.held if unit is None else packed.held.astype(packed.like.dtype) * unit
