"""An epoch, or a chunk of one, as one compiled program.

Axis legend: T timesteps, N examples, B batch, P batches of a chunk, C channels (images) or classes (logits).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from sealkd_jax.data import Augmentation, augment, normalise
from sealkd_jax.data.augmentation import random_key
from sealkd_jax.training.batch import Batch
from sealkd_jax.training.state import TrainState
from sealkd_jax.training.step import Metrics, Step


class EpochSpec(NamedTuple):
    """What all epochs of a run share. The order and the view of an epoch follow from its number.

    Attributes:
        augmentation: makes a view of one example.
        view_seed: the seed of all views.
        views: K; epoch e shows view e mod K.
        batch_size: B, over all devices.
        epochs: their number.
        mean: the mean of each channel, `[C]`, for `normalise`.
        std: the standard deviation of each channel, `[C]`.
    """

    augmentation: Augmentation
    view_seed: int
    views: int
    batch_size: int
    epochs: int
    mean: np.ndarray
    std: np.ndarray


def view_batch(spec: EpochSpec, batch: Batch, view: chex.Numeric) -> Batch:
    """View `view` of a batch as teacher and student see it: augmented, normalised, time first."""
    images = augment(spec.augmentation, batch.images, seed=spec.view_seed, view=view, index=batch.position)
    images = normalise(images, jnp.asarray(spec.mean), jnp.asarray(spec.std))
    if images.ndim == 5:
        images = jnp.swapaxes(images, 0, 1)
    logits = batch.teacher_logits
    if logits is not None and logits.ndim == 3:
        logits = jnp.swapaxes(logits, 0, 1)
    return batch._replace(images=images, teacher_logits=logits)


def epoch_order(spec: EpochSpec, examples: int, key: chex.PRNGKey, epoch: chex.Numeric) -> jax.Array:
    """The examples that each step of an epoch takes, `[steps, B]`: a permutation that follows from `key` and `epoch`.

    The last incomplete batch is dropped.
    """
    steps = examples // spec.batch_size
    order = jax.random.permutation(jax.random.fold_in(key, epoch), examples)
    return order[: steps * spec.batch_size].reshape(steps, spec.batch_size)


def step_key(spec: EpochSpec, number: chex.Numeric) -> chex.PRNGKey:
    """The key of step `number` of a run, counted over all epochs. It follows from the seed of the views alone."""
    return jax.random.fold_in(jax.random.fold_in(random_key(spec.view_seed), 2**32 - 1), number)


def make_epoch(
    step: Step, spec: EpochSpec, steps: int, fetch: Callable[[Any, Any], Batch]
) -> Callable[..., tuple[TrainState, Metrics]]:
    """Returns the pure function (state, data, batches, epoch, first) -> (state, metrics `[P]`).

    It takes P steps of epoch `epoch` (0-based) of `steps` steps, from step `first` on. `fetch(data, batch)` gets each
    of the P `batches`: it gathers examples from a split on the device by their indices `[P, B]`, or passes on the
    batches of a streamed chunk.
    """

    def epoch_fn(
        state: TrainState, data: Any, batches: Any, epoch: jax.Array, first: chex.Numeric
    ) -> tuple[TrainState, Metrics]:
        real = jnp.result_type(float)

        def body(state: TrainState, scanned: tuple[jax.Array, Any]) -> tuple[TrainState, Metrics]:
            number, batch = scanned
            progress = (epoch.astype(real) + number.astype(real) / steps) / spec.epochs
            seen = view_batch(spec, fetch(data, batch), epoch % spec.views)
            return step(state, seen, progress, step_key(spec, epoch * steps + number))

        count = len(jax.tree.leaves(batches)[0])
        return jax.lax.scan(body, state, (first + jnp.arange(count, dtype=jnp.int32), batches))

    return epoch_fn
