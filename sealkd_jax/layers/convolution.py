"""A convolution that is fast on a CPU, with its gradients, and inside `lax.scan` too.

XLA's CPU compiler has fast kernels only for the layouts NHWC and HWIO. It brings the gradients of a convolution into
them at the top level of a program, but not inside a loop, where they run some fifty times slower
(https://github.com/jax-ml/jax/issues/12868). Here that of the input is written in these layouts, the same to the bit.
That of the kernel, which sums over the whole batch, is a matrix product a piece of the batch that stays in the
processor's cache: two to four times as fast as one convolution, and rounded less. What suits `winograd` is left to it,
at half to three quarters of the time.

Axis legend: N batch, H height, W width, I and O input and output features.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from sealkd_jax.layers import _winograd
from sealkd_jax.models.in_cache import summed
from sealkd_jax.parallel.sharding import DATA_AXIS, per_shard

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_EXAMPLES, _ALL = PartitionSpec(DATA_AXIS), PartitionSpec()
_PIECE = 2**17  # numbers of the input in a piece: half a megabyte of float32
Pads = tuple[tuple[int, int], ...]


def conv_general_dilated(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    *,
    small_integers: bool = False,
    **kwargs: Any,
) -> jax.Array:
    """As `jax.lax.conv_general_dilated` on `[N, H, W, I]` and `[H, W, I, O]`; for `flax.linen.Conv`.

    Dilated and grouped convolutions are left to `jax.lax`. Where `x` is known to be integers from -128 to 127, such as
    spikes, the backward pass keeps them as one byte each.
    """
    plain = kwargs.get("feature_group_count", 1) == 1 and all(
        set(kwargs.get(name) or (1,)) == {1} for name in ("lhs_dilation", "rhs_dilation")
    )
    if not plain or x.ndim != 4:
        return lax.conv_general_dilated(x, kernel, strides, padding, **kwargs)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
    return _convolve(x, kernel, tuple(strides), tuple(map(tuple, padding)), small_integers)


def _by_jax(x: jax.Array, kernel: jax.Array, strides: tuple[int, ...], pads: Pads) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=_LAYOUT)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _convolve(x: jax.Array, kernel: jax.Array, strides: tuple[int, ...], pads: Pads, small_integers: bool) -> jax.Array:
    """`small_integers` matters to the backward pass alone."""
    by_jax = partial(_by_jax, strides=strides, pads=pads)
    if not _winograd.suits(x, kernel, strides, pads):
        return by_jax(x, kernel)
    own = per_shard(_winograd.convolve, [_EXAMPLES, _ALL], _EXAMPLES, batch=len(x))
    return lax.platform_dependent(x, kernel, cpu=own, default=by_jax)


def _forward(
    x: jax.Array, kernel: jax.Array, strides: tuple[int, ...], pads: Pads, small_integers: bool
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    y = _convolve(x, kernel, strides, pads, small_integers)
    return y, (x.astype(jnp.int8) if small_integers else x, kernel)


def _backward(
    strides: tuple[int, ...],
    pads: Pads,
    small_integers: bool,
    residuals: tuple[jax.Array, jax.Array],
    dy: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    def by_jax(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
        _, vjp = jax.vjp(partial(_by_jax, strides=strides, pads=pads), x.astype(dy.dtype), kernel)
        return vjp(dy)

    return lax.platform_dependent(*residuals, dy, cpu=partial(_gradients, strides, pads), default=by_jax)


def _gradients(
    strides: tuple[int, ...], pads: Pads, x: jax.Array, kernel: jax.Array, dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    def own(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
        if _winograd.suits(dy, kernel, strides, pads):
            return _winograd.input_gradient(kernel, dy), _winograd.kernel_gradient(x, dy)[None]
        dx = _input_gradient(strides, pads, x.shape, kernel, dy)
        return dx, _kernel_gradient(strides, pads, kernel.shape, x, dy)[None]

    parts = per_shard(own, [_EXAMPLES, _ALL, _EXAMPLES], (_EXAMPLES, _EXAMPLES), batch=len(x))
    dx, dkernel = parts(x, kernel, dy)
    return dx, dkernel.sum(0).astype(kernel.dtype)


def _input_gradient(
    strides: tuple[int, ...], pads: Pads, shape: tuple[int, ...], kernel: jax.Array, dy: jax.Array
) -> jax.Array:
    """Dilated dy * flipped kernel."""
    dx_pads = []
    for size, width, out, stride, (low, _) in zip(shape[1:3], kernel.shape, dy.shape[1:3], strides, pads, strict=False):
        dx_pads.append((width - 1 - low, size - (out - 1) * stride - 1 + low))
    flipped = jnp.swapaxes(kernel[::-1, ::-1], 2, 3)
    return lax.conv_general_dilated(dy, flipped, (1, 1), dx_pads, lhs_dilation=strides, dimension_numbers=_LAYOUT)


def _kernel_gradient(
    strides: tuple[int, ...], pads: Pads, shape: tuple[int, ...], x: jax.Array, dy: jax.Array
) -> jax.Array:
    """For each place in the kernel, the pixels that it met times dy, summed over all outputs, in float32 at least."""
    height, width, features, _ = shape
    (row_stride, column_stride), (rows, columns) = strides, dy.shape[1:3]
    dtype = jnp.promote_types(dy.dtype, jnp.float32)  # of the sum

    def of_piece(x: jax.Array, dy: jax.Array) -> jax.Array:
        x = lax.pad(x.astype(dy.dtype), jnp.zeros((), dy.dtype), ((0, 0, 0), *((*pad, 0) for pad in pads), (0, 0, 0)))
        met = jnp.concatenate(
            [x[:, :, w : w + (columns - 1) * column_stride + 1 : column_stride] for w in range(width)], -1
        )
        dy = dy.reshape(-1, dy.shape[-1])
        of_rows = [
            jnp.matmul(
                met[:, h : h + (rows - 1) * row_stride + 1 : row_stride].reshape(-1, width * features).T,
                dy,
                preferred_element_type=dtype,
            )
            for h in range(height)
        ]
        return jnp.stack(of_rows).reshape(shape)

    return summed(of_piece, _PIECE // (x.size // len(x)), x, dy)


_convolve.defvjp(_forward, _backward)
