"""Augmentation as pure functions of (key, image), on the device, the same for the teacher and the student.

An augmentation takes a key and one uint8 image `[H, W, C]` and returns one of the same shape. Image n in view k
is a pure function of (seed, k, n), so the logits that a teacher gave for it can be stored and the very same image
made again when the student trains. View 0 is the image as it is.

Axis legend: B batch, H height, W width, C channels.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Augmentation = Callable[[jax.Array, jax.Array], jax.Array]


def pad_and_crop(padding: int) -> Augmentation:
    """Pads every side with `padding` zero pixels, then crops back to size at a uniformly random place."""

    def apply(key: jax.Array, image: jax.Array) -> jax.Array:
        padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
        row, column = jax.random.randint(key, (2,), 0, 2 * padding + 1, jnp.int32)
        return jax.lax.dynamic_slice(padded, (row, column, jnp.int32(0)), image.shape)

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
    """View `view` of each image; view 0 is the image as it is.

    Args:
        augmentation: what makes a view of one image.
        images: uint8 `[B, H, W, C]`.
        seed: of all views of this data set.
        view: scalar k, which of the views.
        index: `[B]` integers n, the images' places in the training split.

    Returns:
        uint8 `[B, H, W, C]`.
    """
    if isinstance(view, int) and view == 0:
        return images
    view_key = jax.random.fold_in(jax.random.key(seed), view)
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(view_key, index)
    return jnp.where(view == 0, images, jax.vmap(augmentation)(keys, images))


def normalise(images: jax.Array, mean: jax.Array, std: jax.Array) -> jax.Array:
    """uint8 `[..., C]` to zero mean and unit deviation, in the dtype of `mean` and `std` `[C]` (pixels in [0, 1])."""
    return (images.astype(mean.dtype) / 255 - mean) / std
