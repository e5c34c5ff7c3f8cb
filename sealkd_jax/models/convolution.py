"""A convolution whose gradients are as fast inside `lax.scan` on a CPU as outside.

XLA's CPU compiler has fast kernels only for the layouts NHWC and HWIO. It brings the gradients of a convolution into
them at the top level of a program, but not inside a loop, where they run some fifty times slower
(https://github.com/jax-ml/jax/issues/12868). Here they are written in these layouts; values are the same to the bit.

Axis legend: N batch, H height, W width, I and O input and output features.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

_LAYOUT = ("NHWC", "HWIO", "NHWC")
Pads = tuple[tuple[int, int], ...]


def conv_general_dilated(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    **kwargs: Any,
) -> jax.Array:
    """As `jax.lax.conv_general_dilated` on `[N, H, W, I]` and `[H, W, I, O]`; for `flax.linen.Conv`.

    Dilated and grouped convolutions are left to `jax.lax`.
    """
    plain = kwargs.get("feature_group_count", 1) == 1 and all(
        set(kwargs.get(name) or (1,)) == {1} for name in ("lhs_dilation", "rhs_dilation")
    )
    if not plain or x.ndim != 4:
        return lax.conv_general_dilated(x, kernel, strides, padding, **kwargs)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
    return _convolve(x, kernel, tuple(strides), tuple(map(tuple, padding)))


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x: jax.Array, kernel: jax.Array, strides: tuple[int, ...], pads: Pads) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=_LAYOUT)


def _forward(
    x: jax.Array, kernel: jax.Array, strides: tuple[int, ...], pads: Pads
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _convolve(x, kernel, strides, pads), (x, kernel)


def _backward(
    strides: tuple[int, ...], pads: Pads, residuals: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    def by_jax(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
        _, vjp = jax.vjp(partial(_convolve.__wrapped__, strides=strides, pads=pads), x, kernel)
        return vjp(dy)

    return lax.platform_dependent(*residuals, dy, cpu=partial(_gradients, strides, pads), default=by_jax)


def _gradients(
    strides: tuple[int, ...], pads: Pads, x: jax.Array, kernel: jax.Array, dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """dx = dilated dy * flipped kernel, dkernel = x * dilated dy, with the batch as what is summed over."""
    dx_pads, dkernel_pads = [], []
    for size, width, out, stride, (low, _) in zip(
        x.shape[1:3], kernel.shape, dy.shape[1:3], strides, pads, strict=False
    ):
        dilated = (out - 1) * stride + 1
        dx_pads.append((width - 1 - low, size - dilated + low))
        dkernel_pads.append((low, width + dilated - 1 - size - low))
    flipped = jnp.swapaxes(kernel[::-1, ::-1], 2, 3)
    dx = lax.conv_general_dilated(dy, flipped, (1, 1), dx_pads, lhs_dilation=strides, dimension_numbers=_LAYOUT)
    dkernel = lax.conv_general_dilated(
        jnp.transpose(x, (3, 1, 2, 0)),  # [I, H, W, N]: features as batch, batch as features
        jnp.transpose(dy, (1, 2, 0, 3)),
        (1, 1),
        dkernel_pads,
        rhs_dilation=strides,
        dimension_numbers=_LAYOUT,
    )
    return dx, jnp.transpose(dkernel, (1, 2, 0, 3))


_convolve.defvjp(_forward, _backward)
