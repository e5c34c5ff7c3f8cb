r"""BatchNorm whose backward pass keeps the input alone and reads it, and the gradient, twice.

The gradient that JAX derives from `flax.linen.BatchNorm` keeps the centred input too, an array of the same size.

Axis legend: F features, the last axis; `...` all axes before it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from sealkd_jax._checks import at_least_float32

EPSILON = 1e-5
"""Added to the variance; PyTorch's default."""
KEPT = 0.9
"""Share of the running statistics that a step keeps; PyTorch's `momentum` is the rest, 0.1."""

Statistics = tuple[jax.Array, jax.Array]  # mean and variance, [F]


class BatchNorm(nn.Module):
    r"""Normalises each feature over all other axes: $y = \gamma\,(x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta$.

    Parameters, statistics and values are those of `flax.linen.BatchNorm`. In training $\mu$ and $\sigma^2$ are the mean
    and biased variance of the batch, over all devices of `axis_name`, and the running statistics move towards them.
    Otherwise they are the running statistics. PyTorch's running variance is the unbiased one, larger by n / (n - 1).

    Attributes:
        train: use and record the statistics of the batch.
        axis_name: of the devices that share a batch under `pmap`; None: the batch is on one device, or under `jit`.
        dtype: of the result. Statistics are at least float32.
        param_dtype: of scale $\gamma$ and bias $\beta$.
    """

    train: bool
    axis_name: str | None
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, by_batch: Callable[..., tuple[jax.Array, Statistics]] | None = None) -> jax.Array:
        """`[..., F]` -> `[..., F]`.

        `by_batch`, (x, scale, bias, axis_name) -> (result, statistics), takes the place of normalisation by the batch:
        the GPU kernels do more than that.
        """
        features = x.shape[-1:]
        dtype = at_least_float32(self.param_dtype)
        mean = self.variable("batch_stats", "mean", jnp.zeros, features, dtype)
        var = self.variable("batch_stats", "var", jnp.ones, features, dtype)
        scale = self.param("scale", nn.initializers.ones, features, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, features, self.param_dtype)
        if not self.train:
            return normalise(x, (mean.value, var.value), scale, bias).astype(self.dtype)
        axis_name = None if self.is_initializing() else self.axis_name
        y, statistics = (by_batch or _normalise_by_batch)(x, scale, bias, axis_name)
        if not self.is_initializing():
            for running, of_batch in zip((mean, var), statistics, strict=True):
                running.value = KEPT * running.value + (1 - KEPT) * of_batch.astype(dtype)
        return y.astype(self.dtype)


def _plain(x: jax.Array, scale: jax.Array, bias: jax.Array, axis_name: str | None) -> tuple[jax.Array, Statistics]:
    statistics = batch_statistics(x, axis_name)
    return normalise(x, statistics, scale, bias), statistics


# No gradient flows through the statistics that it returns.
_normalise_by_batch = jax.custom_vjp(_plain, nondiff_argnums=(3,))


def _forward(x: jax.Array, scale: jax.Array, bias: jax.Array, axis_name: str | None) -> Any:
    y, statistics = _plain(x, scale, bias, axis_name)
    return (y, statistics), (x, statistics, scale)


def _backward(axis_name: str | None, residuals: Any, cotangents: Any) -> tuple[jax.Array, ...]:
    x, statistics, scale = residuals
    axes = tuple(range(x.ndim - 1))
    wide, dy = (array.astype(at_least_float32(x.dtype)) for array in (x, cotangents[0]))
    sums = dy.sum(axes), (dy * wide).sum(axes)
    return gradients(x, dy, sums, statistics, scale, axis_name)


_normalise_by_batch.defvjp(_forward, _backward)


def batch_statistics(x: jax.Array, axis_name: str | None) -> Statistics:
    """Mean and biased variance of the batch, over all devices of `axis_name`; at least float32."""
    axes = tuple(range(x.ndim - 1))
    wide = x.astype(at_least_float32(x.dtype))
    mean, mean_square = _over_devices((wide.mean(axes), (wide * wide).mean(axes)), axis_name)
    return mean, jnp.maximum(mean_square - mean * mean, 0)


def normalise(x: jax.Array, statistics: Statistics, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """`[..., F]` with these statistics, scale and bias, `[F]`; in the widest dtype of these."""
    dtype = np.promote_types(x.dtype, statistics[0].dtype)
    mean, var, scale, bias = (lax.broadcast_to_rank(v.astype(dtype), x.ndim) for v in (*statistics, scale, bias))
    return (x.astype(dtype) - mean) * (lax.rsqrt(var + EPSILON) * scale) + bias


def gradients(
    x: jax.Array,
    dy: jax.Array,
    sums: tuple[jax.Array, jax.Array],
    statistics: Statistics,
    scale: jax.Array,
    axis_name: str | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    r"""The gradients of x, and in the dtype of `scale` those of scale and bias.

    $dx = \gamma / \sigma\;(dy - \overline{dy} - \hat x\,\overline{dy\,\hat x})$ with $\hat x = (x - \mu) / \sigma$.

    Args:
        x: `[..., F]`, the input.
        dy: `[..., F]`, the gradient of the result.
        sums: of dy and of dy x over all axes but the last, `[F]`.
        statistics: of the batch.
        scale: `[F]`.
        axis_name: as in `BatchNorm`.
    """
    (mean, var), (dbias, dy_x) = statistics, sums
    wide, dy = (array.astype(at_least_float32(x.dtype)) for array in (x, dy))
    per_deviation = lax.rsqrt(var + EPSILON)
    dscale = (dy_x - mean * dbias) * per_deviation  # the sum of dy (x - mean) would need x - mean
    examples = x.size // x.shape[-1]
    means = _over_devices((dbias / examples, dscale / examples), axis_name)
    factors = (scale * per_deviation, means[0], mean, per_deviation * means[1])
    gain, mean_dy, mean, slope = (lax.broadcast_to_rank(v, x.ndim) for v in factors)
    dx = gain * (dy - mean_dy - (wide - mean) * slope)
    return dx.astype(x.dtype), dscale.astype(scale.dtype), dbias.astype(scale.dtype)


def _over_devices(means: Statistics, axis_name: str | None) -> Statistics:
    return means if axis_name is None else lax.pmean(means, axis_name)
