"""A whole epoch, and a whole evaluation, as one compiled program over data on the device.

Axis legend: T timesteps, B batch, N examples, H height, W width, C channels (images) or classes (logits).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sealkd_jax.data import Augmentation, augment, normalise
from sealkd_jax.models import Network, Variables
from sealkd_jax.training.state import TrainState
from sealkd_jax.training.step import Batch, Metrics

Step = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]


class DeviceData(NamedTuple):
    """A split on the device: images uint8 `[N, H, W, C]`, labels int32 `[N]`, and the channels' mean and std `[C]`."""

    images: jax.Array
    labels: jax.Array
    mean: jax.Array
    std: jax.Array


class Recipe(NamedTuple):
    """What a run of epochs has in common: how the order and the views follow from the epoch's number."""

    augmentation: Augmentation
    view_seed: int
    views: int
    batch_size: int
    epochs: int


def view_batch(recipe: Recipe, data: DeviceData, index: jax.Array, view: jax.typing.ArrayLike) -> jax.Array:
    """View `view` of the images at `index` `[B]`, normalised, `[B, H, W, C]`: what teacher and student see."""
    images = augment(recipe.augmentation, data.images[index], seed=recipe.view_seed, view=view, index=index)
    return normalise(images, data.mean, data.std)


def make_epoch(
    step: Step,
    recipe: Recipe,
    *,
    split_batch: Callable[[jax.Array], jax.Array] = lambda index: index,
) -> Callable[..., tuple[TrainState, Metrics]]:
    """The pure function (state, data, teacher_logits, key, epoch) -> (state, metrics `[steps]`).

    Epoch `epoch` (0-based) takes the examples in an order that follows from `key` and `epoch`, drops the last
    incomplete batch, and uses view `epoch mod views`; `teacher_logits` is that view's, `[N, C]` or `[N, T, C]`,
    or None. `split_batch` says which part of a batch's indices `[B]` this device handles.
    """

    def epoch_fn(
        state: TrainState,
        data: DeviceData,
        teacher_logits: jax.Array | None,
        key: jax.Array,
        epoch: jax.Array,
    ) -> tuple[TrainState, Metrics]:
        examples = len(data.labels)
        steps = examples // recipe.batch_size
        order = jax.random.permutation(jax.random.fold_in(key, epoch), examples)
        batches = order[: steps * recipe.batch_size].reshape(steps, recipe.batch_size)

        def body(state: TrainState, scanned: tuple[jax.Array, jax.Array]) -> tuple[TrainState, Metrics]:
            number, index = scanned
            index = split_batch(index)
            teacher = None if teacher_logits is None else time_first(teacher_logits[index])
            batch = Batch(view_batch(recipe, data, index, epoch % recipe.views), data.labels[index], teacher)
            return step(state, batch, (epoch + number / steps) / recipe.epochs)

        return jax.lax.scan(body, state, (jnp.arange(steps), batches))

    return epoch_fn


def time_first(logits: jax.Array) -> jax.Array:
    """`[B, T, C]` to `[T, B, C]`; `[B, C]` as it is."""
    return jnp.swapaxes(logits, 0, 1) if logits.ndim == 3 else logits


class Evaluation(NamedTuple):
    """Logits `[T, N, C]`, and for each layer of neurons the share of it that fired, `[T, N]`."""

    logits: jax.Array
    firing_rates: dict[str, jax.Array]


def make_evaluation(
    network: Network,
    recipe: Recipe,
    *,
    timesteps: int,
    split_batch: Callable[[jax.Array], jax.Array] = lambda index: index,
) -> Callable[..., Evaluation]:
    """The pure function (variables, data, view=0) -> `Evaluation` of every example once, in order.

    View 0 are the images as they are; other views are for a teacher that looks ahead at what the student will see.

    The last batch is filled up with copies of the last example, which are cut off again.
    """

    def evaluate(variables: Variables, data: DeviceData, view: jax.typing.ArrayLike = 0) -> Evaluation:
        examples = len(data.labels)
        size = recipe.batch_size
        batches = -(-examples // size)
        index = jnp.minimum(jnp.arange(batches * size), examples - 1).reshape(batches, size)

        def one_batch(index: jax.Array) -> Evaluation:
            images = view_batch(recipe, data, split_batch(index), view)
            logits, spikes = network.spikes(variables, images, timesteps=timesteps)
            rates = {name: s.reshape(*s.shape[:2], -1).mean(-1, dtype=jnp.float32) for name, s in spikes.items()}
            return Evaluation(logits, rates)

        def join(x: jax.Array) -> jax.Array:
            """`[batches, T, B, ...]` to `[T, N, ...]`."""
            x = jnp.moveaxis(x, 0, 1)
            return x.reshape(x.shape[0], -1, *x.shape[3:])[:, :examples]

        return jax.tree.map(join, jax.lax.map(one_batch, index))

    return evaluate
