"""Augmentation as pure functions of (key, image), on the device, the same for the teacher and the student.

An augmentation takes a key and one image, uint8 `[H, W, C]`, or one recording of events, uint8 or uint16
`[T, H, W, 2]`, and returns one of the same shape and dtype. Image n in view k is a pure function of (seed, k, n), so
the logits that a teacher gave for it can be stored and the very same image made again when the student trains. View 0
is the image as it is.

Axis legend: B batch, T timesteps, H height, W width, C channels.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from sealkd_jax.keys import random_key

Augmentation = Callable[[jax.Array, jax.Array], jax.Array]
"""(key, image) -> image."""


def pad_and_crop(padding: int) -> Augmentation:
    """Pads every side with `padding` zero pixels, then crops back to size at a uniformly random place."""

    def apply(key: jax.Array, image: jax.Array) -> jax.Array:
        padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
        row, column = jax.random.randint(key, (2,), 0, 2 * padding + 1, jnp.int32)
        return jax.lax.dynamic_slice(padded, (row, column, jnp.int32(0)), image.shape)

    return apply


def resized_crop(least: float) -> Augmentation:
    """Scales a random part of the image to the whole of it: the crop of Inception, Szegedy et al., CVPR 2015.

    The part's area is uniform in [`least`, 1] of the image's, its width over its height log-uniform in [3/4, 4/3]; a
    side that would be longer than the image's is as long. Bilinear, smoothed where it shrinks, as Pillow's `resize`.

    Args:
        least: the smallest share of the area, in (0, 1]; 0.08 is usual for ImageNet.

    Returns:
        An augmentation of uint8 `[H, W, C]`.
    """

    def apply(key: jax.Array, image: jax.Array) -> jax.Array:
        return _enlarge(image, *_draw_part(key, least, *image.shape[:2]))

    return apply


def _draw_part(key: jax.Array, least: float, height: int, width: int) -> tuple[jax.Array, jax.Array]:
    """Top and left of a part of an image, and its height and width, in pixels: `[2]` each."""
    area_key, ratio_key, place_key = jax.random.split(key, 3)
    area = jax.random.uniform(area_key, (), jnp.float32, least, 1)
    ratio = jnp.exp(jax.random.uniform(ratio_key, (), jnp.float32, -1, 1) * math.log(4 / 3))
    image, shape = jnp.array([height, width], jnp.float32), jnp.stack([ratio**-0.5, ratio**0.5])
    part = jnp.minimum(image, jnp.sqrt(area * height * width) * shape)
    return jax.random.uniform(place_key, (2,), jnp.float32) * (image - part), part


def _enlarge(image: jax.Array, start: jax.Array, part: jax.Array) -> jax.Array:
    """A part of an image, scaled to the size of the image."""
    scale = jnp.array(image.shape[:2], jnp.float32) / part
    scaled = jax.image.scale_and_translate(
        image.astype(jnp.float32), image.shape, (0, 1), scale, -start * scale, "linear"
    )
    return jnp.clip(jnp.round(scaled), 0, 255).astype(image.dtype)


def flip() -> Augmentation:
    """Mirrors left and right with probability 1/2."""

    def apply(key: jax.Array, image: jax.Array) -> jax.Array:
        return jnp.where(jax.random.bits(key, dtype=jnp.uint8) < 128, jnp.flip(image, -2), image)

    return apply


def cutout(size: int, fill: int | Sequence[int] = 0) -> Augmentation:
    """Fills a square with one colour: Cutout, DeVries & Taylor 2017 (arXiv 1708.04552).

    The square's centre is a uniformly random pixel, so that the borders may cut it. SeAl-KD's training on CIFAR takes
    size 16 and black, the default (its Cutout stands before the normalisation). Where Cutout stands after it, zero is
    the mean: give the rounded mean of the channels.

    Args:
        size: side of the square, in pixels.
        fill: the colour, 0 to 255, one number or one for each channel.

    Returns:
        An augmentation of uint8 `[H, W, C]`.
    """

    def apply(key: jax.Array, image: jax.Array) -> jax.Array:
        sides = image.shape[-3:-1]
        centres = jax.random.randint(key, (2,), 0, jnp.array(sides, jnp.int32), jnp.int32)
        distances = [jnp.arange(side, dtype=jnp.int32) - at for side, at in zip(sides, centres, strict=True)]
        row, column = [(d >= -(size // 2)) & (d < size - size // 2) for d in distances]
        return jnp.where((row[:, None] & column)[..., None], jnp.array(fill, image.dtype), image)

    return apply


def compose(*augmentations: Augmentation) -> Augmentation:
    """One after the other, each with a key of its own; of none, the image as it is."""

    def apply(key: jax.Array, image: jax.Array) -> jax.Array:
        for position, augmentation in enumerate(augmentations):
            image = augmentation(jax.random.fold_in(key, position), image)
        return image

    return apply


def augment(
    augmentation: Augmentation, images: jax.Array, *, seed: int, view: jax.typing.ArrayLike, index: jax.Array
) -> jax.Array:
    """View `view` of each image, or of each recording; view 0 is the image as it is.

    Args:
        augmentation: what makes a view of one image or recording.
        images: uint8 `[B, H, W, C]`, or frames of events, uint8 or uint16 `[B, T, H, W, 2]`.
        seed: of all views of this data set.
        view: scalar k, which of the views.
        index: `[B]` integers n, the images' places in the training split.

    Returns:
        As `images`: the same shape and dtype.
    """
    if isinstance(view, int) and view == 0:
        return images
    view_key = jax.random.fold_in(random_key(seed), view)
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(view_key, index)
    return jnp.where(view == 0, images, jax.vmap(augmentation)(keys, images))


def normalise(images: jax.Array, mean: jax.Array, std: jax.Array) -> jax.Array:
    """uint8 `[..., C]` to zero mean and unit deviation, in the dtype of `mean` and `std` `[C]` (pixels in [0, 1])."""
    return (images.astype(mean.dtype) / 255 - mean) / std
