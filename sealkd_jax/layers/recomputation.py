"""Layers of which the backward pass keeps only what entered them, spikes as one byte each, and computes the rest again.

`jax.checkpoint` does the same, but holds the second computation apart from the first by optimisation barriers, which
XLA's CPU compiler removes before it merges the two. Here the second one follows from the cotangent, so that it cannot
begin before the backward pass gets there, whatever the compiler.

Axis legend: T timesteps, or 1 of a static input, B batch.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax.core import lift
from flax.linen.transforms import lift_transform


def recomputed(target: Any, *, unit: float | None = None) -> Any:
    """A Flax module class, or a function `(module, *arrays) -> array`, whose backward pass computes it again.

    Args:
        target: the class, called with arrays, or the function. Arrays and result are `[T, B, ...]`.
        unit: every array that enters is a multiple of it below 128, and is kept as one byte: 1 for spikes and their
            sums. None: arrays are kept as they are.
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
    kept = jax.custom_vjp(run)

    def forward(variables: Any, *arrays: jax.Array) -> Any:
        packed = [_packed(array, unit) for array in arrays]
        return run(variables, *arrays), (variables, packed)

    def backward(residuals: Any, cotangents: Any) -> Any:
        variables, packed = residuals
        arrays = [_after(cotangents[0], _unpacked(array, unit)) for array in packed]
        _, vjp = jax.vjp(run, variables, *arrays)
        return vjp(cotangents)

    kept.defvjp(forward, backward)
    return kept


def _after(cotangent: jax.Array, array: jax.Array) -> jax.Array:
    """`array`, which nobody can have before the cotangent; each device waits for that of its own examples.

    A maximum is computed once; single numbers of the cotangent XLA would compute again wherever `array` is used, and
    keep what the cotangent is the sum of until then.
    """
    examples = cotangent.shape[1]
    nothing = 0 * cotangent[0].reshape(examples, -1).max(1)  # not known to be 0: NaN remains
    return array + nothing.reshape(1, examples, *[1] * (array.ndim - 2)).astype(array.dtype)


class _Packed(NamedTuple):
    """An array, as bytes where it has a unit; `like` is an empty one of its dtype."""

    held: jax.Array
    like: jax.Array


def _packed(array: jax.Array, unit: float | None) -> _Packed:
    held = array if unit is None else jnp.round(array / unit).astype(jnp.int8)
    return _Packed(held, jnp.zeros(0, array.dtype))


def _unpacked(packed: _Packed, unit: float | None) -> jax.Array:
    return packed.held if unit is None else packed.held.astype(packed.like.dtype) * unit
