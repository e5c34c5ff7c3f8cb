"""Targets of the cross-entropy other than the labels as they are: smoothed, mixed, weighted by class.

All of them are labels as probabilities, whose rows the losses take, see `losses.ce_loss`.

Axis legend: T timesteps, N examples, B batch, C classes.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from sealkd_jax.errors import InputError
from sealkd_jax.training.batch import Batch


class Targets(NamedTuple):
    """How labels become targets.

    Attributes:
        classes: C.
        smoothing: s: the label has 1 − s + s/C, each other class s/C.
        mixup: a. Two examples become one, λ of the first and 1 − λ of the second, with one λ for each batch, drawn from
            Beta(a, a). 0: none.
        weights: of the classes, `[C]`; the cross-entropy of an example is multiplied by that of its class, of a mixed
            example by the mixture of two. None: all 1.
    """

    classes: int
    smoothing: float = 0.0
    mixup: float = 0.0
    weights: np.ndarray | None = None


def balanced_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """Weights `[C]` that give every class that occurs the same sum: N / (classes that occur · examples of the class).

    Their mean over the examples is 1. A class that does not occur has the weight 0.
    """
    counts = np.bincount(labels, minlength=classes)
    return np.where(counts > 0, len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1)), 0.0)


def make_targets(targets: Targets, batch: Batch, key: chex.PRNGKey, axis_name: str | None = None) -> Batch:
    """The batch with mixed images, and labels `[B, C]` in place of class indices.

    The partner of an example is that of the same place counted from the end of the whole batch, over all devices.

    Args:
        targets: what to do.
        batch: of a step, time first.
        key: of the step, the same on all devices.
        axis_name: the axis that the batch is split over.

    Raises:
        InputError: if images are to be mixed whose teacher logits are stored.
    """
    real = jnp.result_type(float)
    labels = optax.smooth_labels(jax.nn.one_hot(batch.labels, targets.classes, dtype=real), targets.smoothing)
    weights = None if targets.weights is None else jnp.asarray(targets.weights, real)[batch.labels]
    images = batch.images
    if targets.mixup:
        if batch.teacher_logits is not None:
            raise InputError("mixup: the stored teacher logits are of single images; a teacher must see the mixed ones")
        share = jax.random.beta(key, targets.mixup, targets.mixup, dtype=real)

        def mix(x: jax.Array, axis: int = 0) -> jax.Array:
            part = share.astype(x.dtype)
            return part * x + (1 - part) * _from_the_end(x, axis, axis_name)

        images, labels = mix(images, images.ndim - 4), mix(labels)
        weights = None if weights is None else mix(weights)
    return batch._replace(images=images, labels=labels if weights is None else weights[:, None] * labels)


def _from_the_end(x: jax.Array, axis: int, axis_name: str | None) -> jax.Array:
    """The whole batch in the opposite order, or this device's part of it."""
    if axis_name is not None:
        devices = jax.lax.psum(1, axis_name)
        x = jax.lax.ppermute(x, axis_name, [(device, devices - 1 - device) for device in range(devices)])
    return jnp.flip(x, axis)
