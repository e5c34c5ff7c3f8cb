"""Augmentation of recordings of events that were counted into frames, uint8 or uint16 `[T, H, W, 2]`.

Pure functions of (key, frames) like those of images: one draw holds for all timesteps and both polarities, so that
what moved together still does. Shape and dtype stay, and no count is invented, but rotation may read a cell twice.

Axis legend: T timesteps, H height, W width, 2 polarities; M = T * H * W * 2 cells.
"""

import jax
import jax.numpy as jnp

from sealkd_jax.data.augmentation import Augmentation, cutout, flip
from sealkd_jax.errors import InputError


def event_flip() -> Augmentation:
    """Mirrors x with probability 1/2: NDA, Li et al., ECCV 2022 (arXiv 2203.06145)."""
    return flip()


def event_cutout(size: int) -> Augmentation:
    """Empties one square of side `size`, in pixels, as `cutout` does: NDA, Li et al., ECCV 2022 (arXiv 2203.06145)."""
    return cutout(size)


def roll(max_shift: int) -> Augmentation:
    """Rolls y and x by up to `max_shift` pixels either way, what leaves on one side entering on the other.

    Each shift is uniform in [-max_shift, max_shift]. NDA, Li et al., ECCV 2022 (arXiv 2203.06145); TET, Deng et al.,
    ICLR 2022 (arXiv 2202.11946), takes 5 at 48 x 48 pixels.
    """

    def apply(key: jax.Array, frames: jax.Array) -> jax.Array:
        return jnp.roll(frames, jax.random.randint(key, (2,), -max_shift, max_shift + 1, jnp.int32), (-3, -2))

    return apply


def rotate(max_degrees: float) -> Augmentation:
    """Turns about the centre by up to `max_degrees` either way, uniform; each cell takes the nearest source's count.

    What comes from outside is empty. NDA, Li et al., ECCV 2022 (arXiv 2203.06145).
    """

    def apply(key: jax.Array, frames: jax.Array) -> jax.Array:
        return _turned(frames, jax.random.uniform(key, (), jnp.float32, -max_degrees, max_degrees))

    return apply


def _turned(frames: jax.Array, degrees: jax.Array) -> jax.Array:
    height, width = frames.shape[1:3]
    y = jnp.arange(height, dtype=jnp.float32)[:, None] - (height - 1) / 2
    x = jnp.arange(width, dtype=jnp.float32) - (width - 1) / 2
    angle = jnp.deg2rad(degrees)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    row = jnp.round(cos * y + sin * x + (height - 1) / 2).astype(jnp.int32)
    column = jnp.round(cos * x - sin * y + (width - 1) / 2).astype(jnp.int32)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    return jnp.where(inside[..., None], frames[:, row, column], 0)


def nda(strength: int) -> Augmentation:
    """Rolls, turns or cuts out, each a third of the time: NDA, Li et al., ECCV 2022 (arXiv 2203.06145), with M = 1.

    Rolled by up to 2N + 1 pixels, turned by up to 15 N degrees, a square of 8 N pixels emptied. SeAl-KD's training on
    CIFAR10-DVS takes N = 2 at 48 x 48 pixels, after `event_flip`. The paper's shear is not among its operations.

    Args:
        strength: N.
    """
    operations = [roll(2 * strength + 1), rotate(15 * strength), event_cutout(8 * strength)]

    def apply(key: jax.Array, frames: jax.Array) -> jax.Array:
        choice_key, operation_key = jax.random.split(key)
        choice = jax.random.randint(choice_key, (), 0, len(operations), jnp.int32)
        return jax.lax.switch(choice, operations, operation_key, frames)

    return apply


def time_shift(max_shift: int) -> Augmentation:
    """Shifts the frames along T by up to `max_shift` timesteps, uniform, either way; empty frames enter.

    What `roll` is in space; EventDrift (Shen et al. 2022, arXiv 2207.11659) moves parts of a recording so.
    """

    def apply(key: jax.Array, frames: jax.Array) -> jax.Array:
        padded = jnp.pad(frames, ((max_shift, max_shift), (0, 0), (0, 0), (0, 0)))
        start = jax.random.randint(key, (), 0, 2 * max_shift + 1, jnp.int32)
        return jax.lax.dynamic_slice_in_dim(padded, start, len(frames))

    return apply


def event_drop(rate: float) -> Augmentation:
    """Drops each event with one probability u, drawn anew for each recording from U(0, rate).

    The "random drop" of EventDrop, Gu et al., IJCAI 2021 (arXiv 2106.05836). What is left of a count n is exactly
    Binomial(n, 1 - u), u being a multiple of 2**-16.

    Args:
        rate: the largest share of events to be dropped on average, 0 to 1.

    Returns:
        An augmentation of frames with at most 2**30 events.

    Raises:
        InputError: if rate is not in [0, 1].
    """
    if not 0 <= rate <= 1:
        raise InputError(f"event_drop: rate {rate}: expected a number from 0 to 1")

    def apply(key: jax.Array, frames: jax.Array) -> jax.Array:
        # All events stand in a row, cell after cell. Each is kept or not by a draw of its own; a cell keeps as many as
        # were kept up to its end, less those up to its start. M draws at a time: the mean count decides how many
        # rounds there are, where a draw of one event for each cell at a time would be decided by the fullest cell.
        rate_key, event_key = jax.random.split(key)
        dropped = (jax.random.uniform(rate_key, (), jnp.float32) * jnp.float32(rate * 2**16)).astype(jnp.uint16)
        end = jnp.cumsum(frames.ravel(), dtype=jnp.int32)

        def more(state: tuple[jax.Array, jax.Array]) -> jax.Array:
            return state[0] * end.size < end[-1]

        def step(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            number, kept = state
            draws = jax.random.bits(jax.random.fold_in(event_key, number), (end.size,), jnp.uint16)
            up_to = jnp.pad(jnp.cumsum(draws >= dropped, dtype=jnp.int32), (1, 0))
            return number + 1, kept + up_to[jnp.clip(end - number * end.size, 0, end.size)]

        _, kept = jax.lax.while_loop(more, step, (jnp.int32(0), jnp.zeros_like(end)))
        return jnp.diff(kept, prepend=jnp.int32(0)).astype(frames.dtype).reshape(frames.shape)

    return apply
