"""BatchNorm whose backward pass needs no array but what went in and the gradient, each of them read twice.

What JAX derives from `flax.linen.BatchNorm` has XLA keep the input less its mean too, an array of the same size.

Axis legend: F features, the last axis; `...` whatever stands before it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

EPSILON = 1e-5
"""PyTorch's."""
KEPT = 0.9
"""Share of the running statistics that is left after a step; PyTorch's `momentum` is the rest, 0.1."""

Statistics = tuple[jax.Array, jax.Array]  # mean and variance, [F]


class BatchNorm(nn.Module):
    """`flax.linen.BatchNorm` over all axes but the last, with its parameters, statistics and values.

    The running variance is the biased one, as Flax has it; PyTorch's is larger, by n / (n - 1).

    Attributes:
        train: normalise by the statistics of the batch, that of all devices of `axis_name`, and count them in.
        dtype: of the result. Statistics are at least float32.
    """

    train: bool
    axis_name: str | None
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, by_batch: Callable[..., tuple[jax.Array, Statistics]] | None = None) -> jax.Array:
        """`by_batch`: (x, scale, bias, axis_name) -> result and statistics, instead where `train`; see `fused`."""
        features = x.shape[-1:]
        dtype = _wide(self.param_dtype)
        mean = self.variable("batch_stats", "mean", jnp.zeros, features, dtype)
        var = self.variable("batch_stats", "var", jnp.ones, features, dtype)
        scale = self.param("scale", nn.initializers.ones, features, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, features, self.param_dtype)
        if not self.train:
            return normalised(x, (mean.value, var.value), scale, bias).astype(self.dtype)
        axis_name = None if self.is_initializing() else self.axis_name
        y, statistics = (by_batch or _by_batch)(x, scale, bias, axis_name)
        if not self.is_initializing():
            for running, of_batch in zip((mean, var), statistics, strict=True):
                running.value = KEPT * running.value + (1 - KEPT) * of_batch
        return y.astype(self.dtype)


def _plain(x: jax.Array, scale: jax.Array, bias: jax.Array, axis_name: str | None) -> tuple[jax.Array, Statistics]:
    """Normalised by the statistics of the batch, and these, through which no gradient flows."""
    statistics = batch_statistics(x, axis_name)
    return normalised(x, statistics, scale, bias), statistics


_by_batch = jax.custom_vjp(_plain, nondiff_argnums=(3,))


def _forward(x: jax.Array, scale: jax.Array, bias: jax.Array, axis_name: str | None) -> Any:
    y, statistics = _plain(x, scale, bias, axis_name)
    return (y, statistics), (x, statistics, scale)


def _backward(axis_name: str | None, residuals: Any, cotangents: Any) -> tuple[jax.Array, ...]:
    x, statistics, scale = residuals
    axes = tuple(range(x.ndim - 1))
    wide, dy = (array.astype(_wide(x.dtype)) for array in (x, cotangents[0]))
    sums = dy.sum(axes), (dy * wide).sum(axes)
    return gradients(x, dy, sums, statistics, scale, axis_name)


_by_batch.defvjp(_forward, _backward)


def batch_statistics(x: jax.Array, axis_name: str | None) -> Statistics:
    """Mean and biased variance, at least float32."""
    axes = tuple(range(x.ndim - 1))
    wide = x.astype(_wide(x.dtype))
    mean, mean_square = _over_devices((wide.mean(axes), (wide * wide).mean(axes)), axis_name)
    return mean, jnp.maximum(mean_square - mean * mean, 0)


def normalised(x: jax.Array, statistics: Statistics, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """x, `[..., F]`, with these statistics, scale and bias."""
    mean, var = statistics
    return (x - mean) * (lax.rsqrt(var + EPSILON) * scale) + bias


def gradients(
    x: jax.Array,
    dy: jax.Array,
    sums: tuple[jax.Array, jax.Array],
    statistics: Statistics,
    scale: jax.Array,
    axis_name: str | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    r"""dx, and dscale and dbias in the dtype of `scale`, from dy and the sums of dy and of dy x, `[F]`.

    $dx = s / \sigma\;(dy - \overline{dy} - \hat x\,\overline{dy\,\hat x})$, with $\hat x = (x - \mu) / \sigma$.
    """
    (mean, var), (dbias, dy_x) = statistics, sums
    wide, dy = (array.astype(_wide(x.dtype)) for array in (x, dy))
    per_deviation = lax.rsqrt(var + EPSILON)
    dscale = (dy_x - mean * dbias) * per_deviation  # the sum of dy (x - mean) would need x - mean
    examples = x.size // x.shape[-1]
    mean_dy, mean_dy_x = _over_devices((dbias / examples, dscale / examples), axis_name)
    dx = scale * per_deviation * (dy - mean_dy - (wide - mean) * (per_deviation * mean_dy_x))
    return dx.astype(x.dtype), dscale.astype(scale.dtype), dbias.astype(scale.dtype)


def _over_devices(means: Statistics, axis_name: str | None) -> Statistics:
    return means if axis_name is None else lax.pmean(means, axis_name)


def _wide(dtype: Any) -> Any:
    """The dtype of sums."""
    return jnp.promote_types(dtype, jnp.float32)
