"""Pillow's image operations with Pillow's arithmetic, as settings of one program.

Under `vmap`, a batch whose images have different operations costs one pass, not one pass per operation. The pass is
1. a gather of the nearest pixels under an affine map, in Pillow's 16.16 fixed point;
2. a filter of five taps, across for ShearX and down for ShearY: bicubic, and the identity for the others;
3. `base + table[pixel - base]`. With base 0 the table is a curve. With the grey image, its mean or the smoothed image
   as the base and products in the table, this is Pillow's blend of that image with the original.
The host rounds the products; the device adds one float32 number and otherwise computes in integers, so every program
and device gives the same pixels.

The pixels are Pillow's, except under ShearX, ShearY and AutoContrast. These truncate the exact value; Pillow's float64
may fall just short of a whole number and then gives one grey level less: under AutoContrast in some 0.4 % of the
combinations of lowest, highest and pixel level.

Axis legend: H height, W width, 3 channels (red, green, blue).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

OUTSIDE = 128  # the grey level outside of the image
_BITS = 22  # of the filter's weights: 255 times their largest sum, 1.5 in absolute values, stays below 2**31
_ZERO, _MEAN, _GREY, _SMOOTH = range(4)  # bases
_TABLE, _AUTO_CONTRAST, _EQUALIZE = range(3)  # curves
Array = jax.Array | np.ndarray
_BLENDS = {"Brightness": _ZERO, "Contrast": _MEAN, "Color": _GREY, "Sharpness": _SMOOTH}


class Setting(NamedTuple):
    """One operation at one strength, for images of one size.

    Args:
        matrix: int32 `[6]`, from x, y and 1 to the source's column (three) and row (three), in 16.16 fixed point.
        across: int32 `[5, H, 1]`, weights of the columns -2 to 2 around the source, in 2**-22; zeros except for ShearX.
        down: int32 `[5, 1, W]`, weights of the rows -2 to 2 around it; zeros for ShearX.
        table: float32 `[511]`, added to the base, by pixel - base from -255 to 255.
        base: int32, the image to blend with: `_ZERO`, `_MEAN`, `_GREY` or `_SMOOTH`.
        curve: int32: `_TABLE`, or `_AUTO_CONTRAST` or `_EQUALIZE` in place of the table.
    """

    matrix: Array
    across: Array
    down: Array
    table: Array
    base: Array
    curve: Array


def setting(name: str, level: int, sign: int, height: int, width: int) -> Setting:
    """The setting of an operation.

    Args:
        name: Identity, ShearX, ShearY, TranslateX, TranslateY, Rotate, AutoContrast, Invert, Equalize, Solarize,
            Posterize, Color, Contrast, Brightness or Sharpness.
        level: 0 to 9, in equal steps: shear to 0.3, translation to 150/331 of the side, rotation to 30 degrees
            counter-clockwise, solarize threshold 256 to 0, posterize 8 to 4 bits, blend factor 1 to 1 + 0.9 sign.
        sign: 1 or -1, the direction of shear, translation and blends.
        height, width: size of the images, in pixels.
    """

    def strength(first: float, last: float) -> float:
        return float(np.linspace(first, last, 10)[level])

    affine: tuple[float, ...] = (1, 0, 0, 0, 1, 0)
    base, curve = _ZERO, _TABLE
    table, pixel = np.arange(-255, 256, dtype=np.float32), np.arange(256)
    match name:
        case "Identity":
            pass
        case "ShearX":
            affine = (1, strength(0, 0.3) * sign, 0, 0, 1, 0)
        case "ShearY":
            affine = (1, 0, 0, strength(0, 0.3) * sign, 1, 0)
        case "TranslateX":
            affine = (1, 0, strength(0, 150 / 331) * width * sign, 0, 1, 0)
        case "TranslateY":
            affine = (1, 0, 0, 0, 1, strength(0, 150 / 331) * height * sign)
        case "Rotate":
            affine = _rotation(strength(0, 30), height, width)
        case "AutoContrast":
            curve = _AUTO_CONTRAST
        case "Equalize":
            curve = _EQUALIZE
        case "Invert":
            table[255:] = 255 - pixel
        case "Solarize":
            table[255:] = np.where(pixel < strength(256, 0), pixel, 255 - pixel)
        case "Posterize":
            table[255:] = pixel & -(2 ** (8 - round(strength(8, 4))))
        case _:
            base = _BLENDS[name]
            table *= np.float32(1 + strength(0, 0.9) * sign)
    a, b, c, d, e, f = affine
    from_centres = np.array([a, b, c + (a + b) / 2, d, e, f + (d + e) / 2])
    matrix = np.floor(from_centres * 2**16 + 0.5).astype(np.int32)
    across = _taps(b, matrix[1:3], height)[:, :, None] * np.int32(name == "ShearX")
    down = _taps(d * (name == "ShearY"), matrix[[3, 5]], width)[:, None] * np.int32(name != "ShearX")
    return Setting(matrix, across, down, table, np.array(base, np.int32), np.array(curve, np.int32))


def _rotation(degrees: float, height: int, width: int) -> tuple[float, ...]:
    """Affine map of a counter-clockwise rotation about the centre, with coefficients rounded as Pillow does."""
    cos, sin = (round(function(-math.radians(degrees)), 15) for function in (math.cos, math.sin))
    x, y = width / 2, height / 2
    return cos, sin, cos * -x + sin * -y + x, -sin, cos, -sin * -x + cos * -y + y


def _taps(slope: float, gathered: np.ndarray, size: int) -> np.ndarray:
    """Weights `[5, size]` around the nearest pixel: cubic convolution (a = -1) at the sheared place.

    `gathered`: slope and offset of the nearest pixel's place, in 16.16 fixed point.
    """
    shift = slope * (np.arange(size) + 0.5)
    d = shift - np.floor(shift)
    cubic = np.stack([-d + 2 * d**2 - d**3, 1 - 2 * d**2 + d**3, d + d**2 - d**3, d**3 - d**2])
    weights = np.round(cubic * 2**_BITS).astype(np.int32)
    weights[1] += 2**_BITS - weights.sum(0, dtype=np.int32)  # an image of one colour keeps it
    early, late = np.pad(weights, ((0, 1), (0, 0))), np.pad(weights, ((1, 0), (0, 0)))
    nearest = (gathered[0] * np.arange(size) + gathered[1]) >> 16
    return np.where((slope != 0) & (shift < nearest), early, late)


def apply_setting(setting: Setting, image: jax.Array) -> jax.Array:
    """Applies the operation to an image, uint8 `[H, W, 3]`, of the size that the setting was made for."""
    height, width, _ = image.shape
    matrix = setting.matrix
    x, y = _arange(-2, width + 2)[None, :], _arange(-2, height + 2)[:, None]  # two more on every side, for the filter
    column = (matrix[0] * x + matrix[1] * y + matrix[2]) >> 16
    row = (matrix[3] * x + matrix[4] * y + matrix[5]) >> 16
    nearest = image[jnp.clip(row, 0, height - 1), jnp.clip(column, 0, width - 1)]
    inside = ((column >= 0) & (column < width) & (row >= 0) & (row < height))[2:-2, 2:-2]

    def of_channel(nearest: jax.Array) -> tuple[jax.Array, jax.Array]:
        around = nearest.astype(jnp.int32)
        across = sum(setting.across[k] * around[2:-2, k : k + width] for k in range(5))
        down = sum(setting.down[k] * around[k : k + height, 2:-2] for k in range(5))
        filtered = (across + down + 512) >> _BITS  # 512 exceeds the rounding errors of the weights
        value = jnp.where(inside, jnp.clip(filtered, 0, 255), OUTSIDE)
        return value, _curve(setting.curve, value)

    # A loop, because XLA stores its results; fused, it would recompute each of them at every use.
    value, curves = jax.lax.map(of_channel, jnp.moveaxis(nearest, -1, 0))
    tables = jnp.where(setting.curve == _TABLE, setting.table, jnp.pad(curves, ((0, 0), (255, 0))))
    base = _base(setting.base, value)
    result = base.astype(jnp.float32) + tables[_arange(3)[:, None, None], value - base + 255]
    return jnp.moveaxis(jnp.clip(result, 0, 255).astype(jnp.uint8), 0, -1)


def _base(base: Array, value: jax.Array) -> jax.Array:
    """int32 `[3, H, W]`, the image that `value` is blended with."""
    _, height, width = value.shape
    red, green, blue = value
    grey = (19595 * red + 38470 * green + 7471 * blue + 2**15) >> 16  # ITU-R 601 luma in 16.16 fixed point
    mean = (2 * grey.sum(dtype=jnp.int32) + grey.size) // (2 * grey.size)
    rows = value[:, :-2] + value[:, 1:-1] + value[:, 2:]
    window = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * value[:, 1:-1, 1:-1]
    # Not `.at[].set`: jax 0.10.2 on CPU then sums neighbours that it has already overwritten, for a batch of one.
    inner = jnp.pad((2 * window + 13) // 26, ((0, 0), (1, 1), (1, 1)))[:, :height, :width]
    x, y = _arange(width)[None, :], _arange(height)[:, None]
    border = (x == 0) | (x == width - 1) | (y == 0) | (y == height - 1)
    smooth = jnp.where(border, value, inner)
    flat = jnp.where(base == _GREY, grey, jnp.where(base == _MEAN, mean, 0))
    return jnp.where(base == _SMOOTH, smooth, flat)


def _curve(curve: Array, channel: jax.Array) -> jax.Array:
    """float32 `[256]`: AutoContrast or Equalize of a channel, int32 `[H, W]`. Both are a truncated quotient.

    AutoContrast maps lowest to highest to 0 to 255. Equalize counts the pixels below a level, in units of a 255th of
    all pixels that are not of the highest level.
    """
    level = _arange(256)
    lowest, highest = channel.min(), channel.max()
    counts = jnp.zeros(256, jnp.int32).at[channel].add(1)
    step = (channel.size - counts[highest]) // 255
    equalize = curve == _EQUALIZE
    dividend = jnp.where(equalize, step // 2 + jnp.cumsum(counts) - counts, 255 * jnp.maximum(level - lowest, 0))
    divisor = jnp.where(equalize, step, highest - lowest)
    quotient = jnp.minimum(dividend // jnp.maximum(divisor, 1), 255)
    return jnp.where(divisor == 0, level, quotient).astype(jnp.float32)


def _arange(first: int, end: int | None = None) -> jax.Array:
    return jnp.arange(first, end, dtype=jnp.int32)
