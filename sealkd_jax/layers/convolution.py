"""Convolutions with gradients that are fast on a CPU, also inside `lax.scan`.

XLA's CPU compiler has fast convolutions for the layouts NHWC and HWIO alone. It rewrites the gradients of a
convolution to these layouts at the top level of a program, but not inside a loop, where they run about fifty times
slower (https://github.com/jax-ml/jax/issues/12868). This file writes the gradients itself, for CPUs alone:

- The input's gradient is a convolution in these layouts, equal to JAX's to the bit.
- The kernel's gradient, a sum over the batch, is one matrix product for each chunk of the batch. A chunk fits the
  processor's cache. This takes a quarter to a half of the time of one convolution, with smaller rounding errors.
- Wide 3x3 convolutions and their gradients are Winograd's (`_winograd`), in half to three quarters of the time.

Axis legend: N batch, n examples of a chunk, H height, W width, I and O input and output features.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.sharding import PartitionSpec

from sealkd_jax._checks import at_least_float32
from sealkd_jax.layers import _winograd
from sealkd_jax.parallel.sharding import DATA_AXIS, per_shard

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_EXAMPLES, _ALL = PartitionSpec(DATA_AXIS), PartitionSpec()
_CHUNK = 2**17  # input numbers in a chunk: half a megabyte of float32
Pads = tuple[tuple[int, int], ...]


def conv3x3(features: int, **kwargs: Any) -> nn.Conv:
    """A 3x3 convolution that keeps H and W: `[N, H, W, I]` -> `[N, H, W, features]`."""
    return nn.Conv(features, (3, 3), conv_general_dilated=conv_general_dilated, **kwargs)


def conv_general_dilated(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    *,
    small_integers: bool = False,
    **kwargs: Any,
) -> jax.Array:
    """`jax.lax.conv_general_dilated` with fast gradients; an argument of `flax.linen.Conv`.

    Dilated and grouped convolutions go to `jax.lax` unchanged. A kernel of one token, `[1, I, O]`, on tokens
    `[N, tokens, I]` is a matrix product.

    Args:
        x: `[N, H, W, I]`.
        kernel: `[H, W, I, O]`.
        strides: of the rows and the columns.
        padding: as in `jax.lax`.
        small_integers: `x` holds integers from -128 to 127, such as spikes. The backward pass then keeps them as one
            byte each.
        **kwargs: as in `jax.lax`.
    """
    plain = kwargs.get("feature_group_count", 1) == 1 and all(
        set(kwargs.get(name) or (1,)) == {1} for name in ("lhs_dilation", "rhs_dilation")
    )
    if plain and x.ndim == 3 and len(kernel) == 1 and tuple(strides) == (1,):
        return x @ kernel[0]
    if not plain or x.ndim != 4:
        return lax.conv_general_dilated(x, kernel, strides, padding, **kwargs)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
    return _convolve(x, kernel, tuple(strides), tuple(map(tuple, padding)), small_integers)


def _by_jax(x: jax.Array, kernel: jax.Array, strides: tuple[int, ...], pads: Pads) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=_LAYOUT)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _convolve(x: jax.Array, kernel: jax.Array, strides: tuple[int, ...], pads: Pads, small_integers: bool) -> jax.Array:
    del small_integers  # matters to the backward pass alone
    by_jax = partial(_by_jax, strides=strides, pads=pads)
    any_batch = not isinstance(x.shape[0], int)  # a program that is exported for any number of images
    if any_batch or not _winograd.suits(x, kernel, strides, pads):
        return by_jax(x, kernel)

    def by_winograd(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return _by_winograd(x, _winograd.transform_kernel(kernel))

    own = per_shard(by_winograd, [_EXAMPLES, _ALL], _EXAMPLES, batch=len(x))
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


_convolve.defvjp(_forward, _backward)


@partial(jax.jit, inline=True, static_argnums=(0, 1))
def _gradients(
    strides: tuple[int, ...], pads: Pads, x: jax.Array, kernel: jax.Array, dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Gradients of x and the kernel on a CPU. Each device takes its own examples; the kernel's parts are summed."""

    def own(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
        if _winograd.suits(dy, kernel, strides, pads):
            dx = _by_winograd(dy, _winograd.transform_kernel(kernel[::-1, ::-1]).mT)
            return dx, _winograd_kernel_gradient(x, dy)[None]
        dx = _input_gradient(strides, pads, x.shape, kernel, dy)
        return dx, _kernel_gradient(strides, pads, kernel.shape, x, dy)[None]

    on_parts = per_shard(own, [_EXAMPLES, _ALL, _EXAMPLES], (_EXAMPLES, _EXAMPLES), batch=len(x))
    dx, dkernel = on_parts(x, kernel, dy)
    return dx, dkernel.sum(0).astype(kernel.dtype)


def _input_gradient(
    strides: tuple[int, ...], pads: Pads, shape: tuple[int, ...], kernel: jax.Array, dy: jax.Array
) -> jax.Array:
    """The convolution of the dilated dy with the flipped kernel."""
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
    dtype = at_least_float32(dy.dtype)  # of the sum

    def of_chunk(x: jax.Array, dy: jax.Array) -> jax.Array:
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

    return _sum_over_chunks(of_chunk, _CHUNK // (x.size // len(x)), x, dy)


@partial(jax.jit, inline=True)
def _by_winograd(x: jax.Array, transformed: jax.Array) -> jax.Array:
    """`[N, H, W, I]` and a transformed kernel `[4, 4, I, O]` -> `[N, H, W, O]`."""
    size = _winograd.images_per_chunk(x, transformed[0])
    return _map_chunks(lambda chunk: _winograd.convolve(chunk, transformed), size, x)


@partial(jax.jit, inline=True)
def _winograd_kernel_gradient(x: jax.Array, dy: jax.Array) -> jax.Array:
    """`[N, H, W, I]` and `[N, H, W, O]` -> `[3, 3, I, O]`."""
    size = _winograd.images_per_chunk(x, dy)
    return _winograd.kernel_gradient(_sum_over_chunks(_winograd.transformed_gradient, size, x, dy))


def _sum_over_chunks(function: Callable[..., jax.Array], size: int, *arrays: jax.Array) -> jax.Array:
    """The sum of `function` over chunks `[n, ...]` of all arrays `[N, ...]`.

    A chunk has `size` examples, at least 1 and at most all. The last may be smaller.
    """
    size = max(1, min(size, len(arrays[0])))
    whole = len(arrays[0]) // size

    def add(number: jax.Array, total: jax.Array) -> jax.Array:
        return total + function(*(lax.dynamic_slice_in_dim(array, number * size, size) for array in arrays))

    one = jax.eval_shape(function, *(array[:size] for array in arrays))
    total = lax.fori_loop(0, whole, add, jnp.zeros(one.shape, one.dtype))
    rest = [array[whole * size :] for array in arrays]
    return total + function(*rest) if len(rest[0]) else total


def _map_chunks(function: Callable[[jax.Array], jax.Array], size: int, x: jax.Array) -> jax.Array:
    """The results of `function` on chunks `[n, ...]` of x, joined: `[N, ...]`. Chunks may overlap."""
    size = max(1, size)
    if size >= len(x):
        return function(x)

    def put(number: jax.Array, y: jax.Array) -> jax.Array:
        start = jnp.minimum(number * size, len(x) - size)
        return lax.dynamic_update_slice_in_dim(y, function(lax.dynamic_slice_in_dim(x, start, size)), start, 0)

    one = jax.eval_shape(function, x[:size])
    # Overwritten. Not zeros, which XLA would make for all layers of a network before the first one begins.
    y = jnp.full((len(x), *one.shape[1:]), x[0].max(), one.dtype)
    return lax.fori_loop(0, -(-len(x) // size), put, y)
