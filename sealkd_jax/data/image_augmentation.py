"""Steps of augmentation for images uint8 `[H, W, C]`; `flip` and `cutout` for recordings of events, too.

Axis legend: T timesteps, H height, W width, C channels.
"""

import math
from collections.abc import Sequence
from numbers import Integral, Real

import jax
import jax.numpy as jnp

from sealkd_jax.data.augmentation import Augmentation, augmentation_step, expect, is_whole
from sealkd_jax.errors import InputError


@augmentation_step("images")
def crop(padding: int) -> Augmentation:
    """Pads every side with `padding` zero pixels, then crops back to size at a uniformly random place."""
    expect(is_whole(padding), f"crop({padding})", "a whole number of pixels")

    def apply(key: jax.Array, image: jax.Array) -> jax.Array:
        padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
        row, column = jax.random.randint(key, (2,), 0, 2 * padding + 1, jnp.int32)
        return jax.lax.dynamic_slice(padded, (row, column, jnp.int32(0)), image.shape)

    return apply


@augmentation_step("images")
def resized_crop(least: float) -> Augmentation:
    """Scales a random part of the image to the size of the whole: the crop of Inception, Szegedy et al., CVPR 2015.

    The part's area is uniform in [`least`, 1] of the image's, the ratio of its width to its height log-uniform in
    [3/4, 4/3]; a side that would exceed the image's is cut to it. Bilinear, smoothed where it shrinks, as Pillow's
    `resize`, to half a grey level.

    Args:
        least: the smallest fraction of the area, in (0, 1]; 0.08 is usual for ImageNet.

    Returns:
        An augmentation of uint8 `[H, W, C]`.
    """
    expect(isinstance(least, Real) and 0 < least <= 1, f"resized_crop({least})", "a number above 0, at most 1")

    def apply(key: jax.Array, image: jax.Array) -> jax.Array:
        return scale_part(image, *_draw_part(key, least, *image.shape[:2]))

    return apply


def _draw_part(key: jax.Array, least: float, height: int, width: int) -> tuple[jax.Array, jax.Array]:
    """A random part of an image: its top and left, and its height and width, float32 `[2]` each, in pixels."""
    area_key, ratio_key, place_key = jax.random.split(key, 3)
    area = jax.random.uniform(area_key, (), jnp.float32, least, 1)
    ratio = jnp.exp(jax.random.uniform(ratio_key, (), jnp.float32, -1, 1) * math.log(4 / 3))
    whole, shape = jnp.array([height, width], jnp.float32), jnp.stack([ratio**-0.5, ratio**0.5])
    size = jnp.minimum(whole, jnp.sqrt(area * height * width) * shape)
    return jax.random.uniform(place_key, (2,), jnp.float32) * (whole - size), size


def scale_part(image: jax.Array, start: jax.Array, size: jax.Array) -> jax.Array:
    """Scales a part of an image to the size of the image: Pillow's bilinear `resize` of a box, to half a grey level.

    Args:
        image: uint8 `[H, W, C]`.
        start: float32 `[2]`, top and left of the part, in pixels.
        size: float32 `[2]`, its height and width.
    """
    scale = jnp.array(image.shape[:2], jnp.float32) / size
    scaled = jax.image.scale_and_translate(
        image.astype(jnp.float32), image.shape, (0, 1), scale, -start * scale, "linear"
    )
    return jnp.clip(jnp.round(scaled), 0, 255).astype(image.dtype)


@augmentation_step("images and events")
def flip() -> Augmentation:
    """Mirrors left and right with probability 1/2. For recordings: NDA, Li et al., ECCV 2022 (arXiv 2203.06145)."""

    def apply(key: jax.Array, image: jax.Array) -> jax.Array:
        return jnp.where(jax.random.bits(key, dtype=jnp.uint8) < 128, jnp.flip(image, -2), image)

    return apply


@augmentation_step("images and events")
def cutout(size: int | float, fill: int | Sequence[int] = 0) -> Augmentation:
    """Fills a square with one colour: Cutout, DeVries & Taylor 2017 (arXiv 1708.04552). Empties it in recordings.

    The square's centre is a uniformly random pixel, so the borders may cut the square. SeAl-KD's training on CIFAR
    takes size 16 and black, the default (its Cutout comes before the normalisation). Where Cutout comes after it, zero
    is the mean: give the rounded mean of the channels. For recordings: NDA, Li et al., ECCV 2022 (arXiv 2203.06145).

    Args:
        size: side of the square: an integer in pixels, or a float as a fraction of the image's shorter side.
        fill: the colour, 0 to 255, one number or one for each channel.

    Returns:
        An augmentation of uint8 `[H, W, C]`, or of frames `[T, H, W, 2]`.

    Raises:
        InputError: if size is negative or a fraction above 1; when traced, if it is larger than the image.
    """
    fraction = not isinstance(size, Integral)
    expect(
        isinstance(size, Real) and 0 <= size <= (1 if fraction else math.inf),
        f"cutout({size})",
        "a whole number of pixels, or a fraction of the image's side from 0.0 to 1.0",
    )

    def apply(key: jax.Array, image: jax.Array) -> jax.Array:
        side = min(image.shape[-3:-1])
        pixels = round(size * side) if fraction else int(size)
        if pixels > side:  # the square could cover the whole image
            raise InputError(f"cutout({size}): larger than the images, of {side} pixels; half of that is usual")
        return blank_square(key, image, pixels, fill)

    return apply


def blank_square(key: jax.Array, image: jax.Array, size: int, fill: int | Sequence[int] = 0) -> jax.Array:
    """`cutout` of `size` pixels, which may exceed the image."""
    sides = image.shape[-3:-1]
    centre = jax.random.randint(key, (2,), 0, jnp.array(sides, jnp.int32), jnp.int32)
    y, x = (jax.lax.broadcasted_iota(jnp.int32, image.shape, axis) for axis in (image.ndim - 3, image.ndim - 2))
    rows, columns = ((at >= -(size // 2)) & (at < size - size // 2) for at in (y - centre[0], x - centre[1]))
    return jnp.where(rows & columns, jnp.broadcast_to(jnp.array(fill, image.dtype), image.shape), image)
