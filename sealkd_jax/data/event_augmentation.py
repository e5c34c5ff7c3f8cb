"""Steps of augmentation for recordings of events, counted into frames uint8 or uint16 `[T, H, W, 2]`.

One draw holds for all timesteps and both polarities, so that events that moved together still do. No count is
invented, but rotation may read a cell twice. `flip` and `cutout` serve recordings, too.

Axis legend: T timesteps, H height, W width, 2 polarities; M = T * H * W * 2 cells.
"""

from numbers import Real

import jax
import jax.numpy as jnp

from sealkd_jax.data.augmentation import Augmentation, augmentation_step, expect, is_whole
from sealkd_jax.data.image_augmentation import blank_square


@augmentation_step("events")
def roll(max_shift: int) -> Augmentation:
    """Rolls y and x of a recording by up to `max_shift` pixels either way; events that leave enter on the other side.

    Each shift is uniform in [-max_shift, max_shift]. NDA, Li et al., ECCV 2022 (arXiv 2203.06145); TET, Deng et al.,
    ICLR 2022 (arXiv 2202.11946), takes 5 at 48 x 48 pixels.
    """
    expect(is_whole(max_shift), f"roll({max_shift})", "a whole number of pixels")

    def apply(key: jax.Array, frames: jax.Array) -> jax.Array:
        return jnp.roll(frames, jax.random.randint(key, (2,), -max_shift, max_shift + 1, jnp.int32), (-3, -2))

    return apply


@augmentation_step("events")
def rotate(max_degrees: float) -> Augmentation:
    """Turns a recording about its centre by up to `max_degrees` either way, uniform; nearest cell, empty outside.

    NDA, Li et al., ECCV 2022 (arXiv 2203.06145).
    """
    expect(isinstance(max_degrees, Real) and max_degrees >= 0, f"rotate({max_degrees})", "degrees, at least 0")

    def apply(key: jax.Array, frames: jax.Array) -> jax.Array:
        return _turned(frames, jax.random.uniform(key, (), jnp.float32, -max_degrees, max_degrees))

    return apply


def _turned(frames: jax.Array, degrees: jax.Array) -> jax.Array:
    height, width = frames.shape[1:3]
    y = jnp.arange(height, dtype=jnp.float32)[:, None] - (height - 1) / 2
    x = jnp.arange(width, dtype=jnp.float32)[None, :] - (width - 1) / 2
    angle = jnp.deg2rad(degrees)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    row = jnp.round(cos * y + sin * x + (height - 1) / 2).astype(jnp.int32)
    column = jnp.round(cos * x - sin * y + (width - 1) / 2).astype(jnp.int32)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    return jnp.where(inside[None, ..., None], frames[:, row, column], jnp.zeros((), frames.dtype))


@augmentation_step("events")
def nda(strength: int) -> Augmentation:
    """Neuromorphic data augmentation for recordings: rolls, turns or empties a square, each a third of the time.

    Rolls by up to 2N + 1 pixels, turns by up to 15 N degrees, empties a square of 8 N pixels: Li et al., ECCV 2022
    (arXiv 2203.06145), with M = 1 and without shear. SeAl-KD's training on CIFAR10-DVS takes N = 2 at 48 x 48 pixels,
    after `flip`.

    Args:
        strength: N.
    """
    expect(is_whole(strength), f"nda({strength})", "a whole number")

    def empty(key: jax.Array, frames: jax.Array) -> jax.Array:
        return blank_square(key, frames, 8 * strength)

    operations = [roll(2 * strength + 1), rotate(15 * strength), empty]

    def apply(key: jax.Array, frames: jax.Array) -> jax.Array:
        choice_key, operation_key = jax.random.split(key)
        choice = jax.random.randint(choice_key, (), 0, len(operations), jnp.int32)
        return jax.lax.switch(choice, operations, operation_key, frames)

    return apply


@augmentation_step("events")
def time_shift(max_shift: int) -> Augmentation:
    """Shifts a recording's frames along T by up to `max_shift` timesteps, uniform, either way; empty frames enter.

    The counterpart of `roll` in time; EventDrift (Shen et al. 2022, arXiv 2207.11659) shifts parts of a recording.
    """
    expect(is_whole(max_shift), f"time_shift({max_shift})", "a whole number of frames")

    def apply(key: jax.Array, frames: jax.Array) -> jax.Array:
        padded = jnp.pad(frames, ((max_shift, max_shift), (0, 0), (0, 0), (0, 0)))
        start = jax.random.randint(key, (), 0, 2 * max_shift + 1, jnp.int32)
        return jax.lax.dynamic_slice_in_dim(padded, start, len(frames))

    return apply


@augmentation_step("events")
def event_drop(rate: float) -> Augmentation:
    """Drops each event of a recording with probability u, drawn once for each recording from U(0, rate).

    The "random drop" of EventDrop, Gu et al., IJCAI 2021 (arXiv 2106.05836). A count n becomes exactly
    Binomial(n, 1 - u); u is a multiple of 2**-16.

    Args:
        rate: the largest fraction of events to drop on average, 0 to 1.

    Returns:
        An augmentation of frames with at most 2**30 events.

    Raises:
        InputError: if rate is not in [0, 1].
    """
    expect(isinstance(rate, Real) and 0 <= rate <= 1, f"event_drop({rate})", "a number from 0 to 1")

    def apply(key: jax.Array, frames: jax.Array) -> jax.Array:
        # All events stand in a row, cell after cell, and each has its own draw. A cell keeps as many events as were
        # kept up to its end, less those kept up to its start. A round makes M draws, so the mean count decides the
        # number of rounds; with one event of each cell per round the fullest cell would.
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
