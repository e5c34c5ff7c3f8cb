r"""Winograd's algorithm for 3x3 convolutions: less than half of the multiplications, which keep a CPU busy.

In $F(2 \times 2, 3 \times 3)$ an output tile $Y$ of 2x2 pixels follows from an input tile $d$ of 4x4 and a kernel $g$
by 16 multiplications instead of 36 for each pair of input and output feature:

$$Y = A^T \big[ (G\, g\, G^T) \odot (B^T d\, B) \big] A$$

The gradient of $g$ follows from $d$ and the gradient of $Y$ in the same way. For all tiles and features together,
these are 16 matrix products. Rounding errors are as small as those of the sum itself, because the only factors are 1
and 1/2.

The stride is 1, and outputs are as large as inputs, which are padded by a pixel on each side. Functions take a chunk
of a batch; `convolution` cuts the batch into chunks of `images_per_chunk`, which fit the processor's cache.

Axis legend: n images, H height, W width, I and O input and output features, P tiles of all images.

Reference: Lavin and Gray, Fast algorithms for convolutional neural networks, CVPR 2016 (arXiv 1509.09308).
"""

import functools
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_A = np.array([[1, 0], [1, 1], [1, -1], [0, -1]])
_B = np.array([[1, 0, 0, 0], [0, 1, -1, 1], [-1, 1, 1, 0], [0, 0, 0, -1]])
_G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
_GG = np.kron(_G, _G)  # takes g as a vector, `[9]`, to G g G^T, `[16]`
_CHUNK = 2**21  # numbers in the tiles of a chunk: 8 megabytes of float32
_WIDE = 64  # with fewer features, cutting pixels into tiles takes longer than the multiplications saved


def suits(x: jax.Array, kernel: jax.Array, strides: tuple[int, ...], pads: tuple[tuple[int, int], ...]) -> bool:
    """Whether Winograd's algorithm applies to this convolution and is faster. `x` may be the output's gradient."""
    applies = kernel.shape[:2] == (3, 3) and strides == (1, 1) and pads == ((1, 1), (1, 1))
    return applies and min(kernel.shape[2:]) >= _WIDE and x.dtype in (jnp.float32, jnp.float64)


def images_per_chunk(*arrays: jax.Array) -> int:
    """How many images of the array with the most features, `[n, H, W, ...]`, make a chunk; 0 if one is too large."""
    height, width = arrays[0].shape[1:3]
    return _CHUNK // (16 * -(-height // 2) * -(-width // 2) * max(array.shape[-1] for array in arrays))


def transform_kernel(kernel: jax.Array) -> jax.Array:
    """`G g G^T`: `[3, 3, I, O]` -> `[4, 4, I, O]`."""
    return (jnp.asarray(_GG, kernel.dtype) @ kernel.reshape(9, -1)).reshape(4, 4, *kernel.shape[2:])


def convolve(x: jax.Array, transformed: jax.Array) -> jax.Array:
    """`[n, H, W, I]` and a transformed kernel `[4, 4, I, O]` -> `[n, H, W, O]`."""
    n, height, width, _ = x.shape
    rows = _combine(_A.T, list(_tiles(_B.T, x, pad=1) @ transformed))
    tiles = _combine(_A.T, [rows[:, column] for column in range(4)])  # columns, rows, P, O
    tiles = tiles.reshape(2, 2, n, -(-height // 2), -(-width // 2), -1).transpose(2, 3, 1, 4, 0, 5)
    return lax.collapse(lax.collapse(tiles, 1, 3), 2, 4)[:, :height, :width]


def transformed_gradient(x: jax.Array, dy: jax.Array) -> jax.Array:
    """The gradient of the transformed kernel: `[n, H, W, I]` and `[n, H, W, O]` -> `[4, 4, I, O]`."""
    return _tiles(_B.T, x.astype(dy.dtype), pad=1).mT @ _tiles(_A, dy, pad=0)


def kernel_gradient(transformed: jax.Array) -> jax.Array:
    """The gradient of the kernel from that of the transformed one: `[4, 4, I, O]` -> `[3, 3, I, O]`."""
    return (jnp.asarray(_GG.T, transformed.dtype) @ transformed.reshape(16, -1)).reshape(3, 3, *transformed.shape[2:])


def _tiles(matrix: np.ndarray, x: jax.Array, pad: int) -> jax.Array:
    """`matrix · tile · matrix^T` for all tiles of x, which begin at every second pixel: `[4, 4, P, ...]`."""
    x = jnp.pad(x, ((0, 0), *((pad, pad + size % 2) for size in x.shape[1:3]), (0, 0)))
    size = matrix.shape[1]
    for axis in (2, 2):  # columns, then rows, behind the new axis
        last = x.shape[axis] - size + 1
        x = _combine(matrix, [lax.slice_in_dim(x, i, i + last, stride=2, axis=axis) for i in range(size)])
    return lax.collapse(x, 2, 5)


def _combine(matrix: np.ndarray, arrays: Sequence[jax.Array]) -> jax.Array:
    """`matrix · arrays`, along a new first axis. A matrix product would want the arrays copied into one."""
    return jnp.stack(
        [
            functools.reduce(operator.add, (w * x for w, x in zip(row, arrays, strict=True) if w))
            for row in matrix.tolist()
        ]
    )
