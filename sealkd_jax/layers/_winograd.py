r"""3x3 convolutions with less than half of the multiplications, for CPUs, which those keep busy.

Winograd's algorithm $F(2 \times 2, 3 \times 3)$: an output tile $Y$ of 2x2 pixels follows from an input tile $d$ of
4x4 and a kernel $g$ by 16 multiplications instead of 36, for each input and output feature,

$$Y = A^T \big[ (G\, g\, G^T) \odot (B^T d\, B) \big] A,$$

and the gradient of $g$ in the same way from $d$ and that of $Y$. For all tiles and features together, these are 16
products of matrices. It is done for a piece of the batch that stays in the processor's cache. Rounding is as small as
that of the sum itself, as the only factors are 1 and 1/2.

Here the stride is 1, and outputs are as large as inputs, which are padded by a pixel on each side.

Axis legend: N batch, H height, W width, I and O input and output features, P tiles of all images.

Reference: Lavin and Gray, Fast algorithms for convolutional neural networks, CVPR 2016 (arXiv 1509.09308).
"""

import functools
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from sealkd_jax.models.in_cache import joined, summed

_A = np.array([[1, 0], [1, 1], [1, -1], [0, -1]])
_B = np.array([[1, 0, 0, 0], [0, 1, -1, 1], [-1, 1, 1, 0], [0, 0, 0, -1]])
_G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
_BOTH_WAYS = np.kron(_G, _G)  # of g in a row, `[9]`, to G g G^T, `[16]`
_PIECE = 2**21  # numbers of the tiles of a piece: 8 megabytes of float32
_WIDE = 64  # features, from which on multiplications take longer than bringing pixels into tiles


def suits(x: jax.Array, kernel: jax.Array, strides: tuple[int, ...], pads: tuple[tuple[int, int], ...]) -> bool:
    """Whether this is such a convolution and gains by it; `x` may be the gradient of its output, too."""
    such = kernel.shape[:2] == (3, 3) and strides == (1, 1) and pads == ((1, 1), (1, 1))
    return such and min(kernel.shape[2:]) >= _WIDE and x.dtype in (jnp.float32, jnp.float64)


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`[N, H, W, I]` and `[3, 3, I, O]` -> `[N, H, W, O]`."""
    return _convolve(x, _spectrum(kernel))


def input_gradient(kernel: jax.Array, dy: jax.Array) -> jax.Array:
    """`[3, 3, I, O]` and `[N, H, W, O]` -> `[N, H, W, I]`: dy * the kernel turned by 180 degrees."""
    return _convolve(dy, _spectrum(kernel[::-1, ::-1]).mT)


def kernel_gradient(x: jax.Array, dy: jax.Array) -> jax.Array:
    """`[N, H, W, I]` and `[N, H, W, O]` -> `[3, 3, I, O]`."""

    def of_piece(x: jax.Array, dy: jax.Array) -> jax.Array:
        return _tiles(_B.T, x.astype(dy.dtype), pad=1).mT @ _tiles(_A, dy, pad=0)

    spectrum = summed(of_piece, _piece(x, dy), x, dy)
    both_ways = jnp.asarray(_BOTH_WAYS.T, dy.dtype)
    return (both_ways @ spectrum.reshape(16, -1)).reshape(3, 3, *spectrum.shape[2:])


def _spectrum(kernel: jax.Array) -> jax.Array:
    """`G g G^T`, `[4, 4, I, O]`."""
    both_ways = jnp.asarray(_BOTH_WAYS, kernel.dtype)
    return (both_ways @ kernel.reshape(9, -1)).reshape(4, 4, *kernel.shape[2:])


def _convolve(x: jax.Array, spectrum: jax.Array) -> jax.Array:
    def of_piece(x: jax.Array) -> jax.Array:
        n, height, width, _ = x.shape
        rows = _combined(_A.T, list(_tiles(_B.T, x, pad=1) @ spectrum))
        tiles = _combined(_A.T, [rows[:, column] for column in range(4)])  # columns, rows, P, O
        tiles = tiles.reshape(2, 2, n, -(-height // 2), -(-width // 2), -1).transpose(2, 3, 1, 4, 0, 5)
        return lax.collapse(lax.collapse(tiles, 1, 3), 2, 4)[:, :height, :width]

    return joined(of_piece, _piece(x, spectrum[0]), x)


def _piece(*arrays: jax.Array) -> int:
    """How many images have so many tiles, of the array with the most features."""
    height, width = arrays[0].shape[1:3]
    return _PIECE // (16 * -(-height // 2) * -(-width // 2) * max(array.shape[-1] for array in arrays))


def _tiles(matrix: np.ndarray, x: jax.Array, pad: int) -> jax.Array:
    """`matrix · tile · matrix^T` of all tiles of x, which begin at every second pixel: `[4, 4, P, ...]`."""
    x = jnp.pad(x, ((0, 0), *((pad, pad + size % 2) for size in x.shape[1:3]), (0, 0)))
    size = matrix.shape[1]
    for axis in (2, 2):  # columns, then rows, behind the new axis
        last = x.shape[axis] - size + 1
        x = _combined(matrix, [lax.slice_in_dim(x, i, i + last, stride=2, axis=axis) for i in range(size)])
    return lax.collapse(x, 2, 5)


def _combined(matrix: np.ndarray, arrays: Sequence[jax.Array]) -> jax.Array:
    """`matrix · arrays`, along a new first axis. Not a product of matrices, for which they would have to be one."""
    return jnp.stack(
        [
            functools.reduce(operator.add, (w * x for w, x in zip(row, arrays, strict=True) if w))
            for row in matrix.tolist()
        ]
    )
