"""Examples on a device: one type from the whole split to the batch of a step.

Axis legend: T timesteps, N examples, B batch, P batches of a chunk, H height, W width, C channels (images) or classes
(logits).
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp


class Batch(NamedTuple):
    """Examples: a split or some of it `[N, ...]`, a chunk `[P, B, ...]`, or the batch of a step.

    A step gets one view of its images, normalised, and has time first: images `[B, H, W, C]` or `[T, B, H, W, C]`,
    teacher logits `[B, C]` or `[T, B, C]`.

    Attributes:
        images: uint8 `[N, H, W, C]`, or frames of events uint8 or uint16 `[N, T, H, W, 2]`.
        labels: int32 `[N]`; in a step with other targets, probabilities `[B, C]`.
        teacher_logits: of one view, `[N, C]` or `[N, T, C]`; None if the method needs no teacher.
        position: int32 `[N]`, the places of the examples in the split, from which their views follow. A step does not
            use it.
    """

    images: chex.Array
    labels: chex.Array
    teacher_logits: chex.Array | None = None
    position: chex.Array = None


def gather(data: Batch, index: jax.Array) -> Batch:
    """The examples at `index` `[B]` of `data`."""
    return jax.tree.map(lambda x: x[index], data)


def microbatches(batch: Batch, count: int) -> Batch:
    """Splits the batch of a step into K microbatches, along a new first axis.

    Microbatch k takes the examples k, k + K, k + 2K, …: so each device already has its shard of every microbatch.
    """

    def split(x: jax.Array, axis: int) -> jax.Array:
        """`[..., B, ...]` to `[K, ..., B/K, ...]`."""
        return jnp.moveaxis(x.reshape(*x.shape[:axis], -1, count, *x.shape[axis + 1 :]), axis + 1, 0)

    teacher = batch.teacher_logits
    return Batch(
        split(batch.images, batch.images.ndim - 4),
        split(batch.labels, 0),
        None if teacher is None else split(teacher, teacher.ndim - 2),
    )
