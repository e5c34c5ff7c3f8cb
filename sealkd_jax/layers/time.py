"""The axis of time: layers that handle all timesteps at once.

Axis legend: T timesteps, B batch, H height, W width, C channels. Time comes first.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from sealkd_jax.parallel.sharding import DATA_AXIS, per_shard

BY_TIME, IN_A_ROW = PartitionSpec(None, DATA_AXIS), PartitionSpec(DATA_AXIS)


def per_timestep(layer: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """Applies a layer that knows no time to `[T, B, ...]`, as one batch of T·B in any order.

    Over several devices, each device has its own T·B/n in a row.
    """
    timesteps, batch = x.shape[:2]
    join = per_shard(lambda x: x.reshape(-1, *x.shape[2:]), [BY_TIME], IN_A_ROW, batch=batch)
    return split_time(layer(join(x)), timesteps)


def split_time(y: jax.Array, timesteps: int) -> jax.Array:
    """`[T·B, ...]` of a layer in `per_timestep` as `[T, B, ...]`."""
    split = per_shard(
        lambda y: y.reshape(timesteps, -1, *y.shape[1:]), [IN_A_ROW], BY_TIME, batch=y.shape[0] // timesteps
    )
    return split(y)


def add_time_axis(images: jax.Array) -> jax.Array:
    """A static image `[B, H, W, C]` as one timestep `[1, B, H, W, C]`; frames `[T, B, H, W, C]` unchanged."""
    return images[None] if images.ndim == 4 else images


def repeat_over_time(x: jax.Array, timesteps: int) -> jax.Array:
    """Repeats the one timestep of a static input; what has `timesteps` already stays as it is.

    Call it before the first neuron. The layers before it then run once, not T times.
    """
    return jnp.broadcast_to(x, (timesteps, *x.shape[1:]))


def select_frames(images: jax.Array, frame_mode: str) -> jax.Array:
    """The timesteps that an ANN sees: `[1, B, H, W, C]`, the static image or the `mean` of frames; or `each` frame."""
    x = add_time_axis(images)
    return x.mean(0, keepdims=True) if frame_mode == "mean" else x
