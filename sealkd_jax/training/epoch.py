"""A whole epoch, and a whole evaluation, as one compiled program over data on the device.

Of a split that is too large for that, an epoch is a few programs, each over a piece of `P` batches.

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


class Scale(NamedTuple):
    """Mean and standard deviation of the channels, `[C]`."""

    mean: jax.Array
    std: jax.Array


class DeviceData(NamedTuple):
    """A split, or N examples in a row of it, on the device.

    Attributes:
        images: uint8 `[N, H, W, C]`, or frames uint8 or uint16 `[N, T, H, W, C]`.
        labels: int32 `[N]`.
        scale: for `normalise`.
        first: place in the split of the first of these examples.
    """

    images: jax.Array
    labels: jax.Array
    scale: Scale
    first: jax.Array


class PieceBatch(NamedTuple):
    """A batch that came from outside: images and labels as in `DeviceData`, places in the split `[B]`, logits."""

    images: jax.Array
    labels: jax.Array
    index: jax.Array  # type: ignore[assignment]  # no longer that of a tuple
    teacher_logits: jax.Array | None


class Recipe(NamedTuple):
    """What a run of epochs has in common: how the order and the views follow from the epoch's number."""

    augmentation: Augmentation
    view_seed: int
    views: int
    batch_size: int
    epochs: int


def view_batch(recipe: Recipe, data: DeviceData, index: jax.Array, view: jax.typing.ArrayLike) -> jax.Array:
    """View `view` of the images at `index` `[B]`, normalised: what teacher and student see.

    Static images are `[B, H, W, C]`, frames of events `[T, B, H, W, C]`.
    """
    return _view(recipe, data.images[index], data.first + index, data.scale, view)


def _view(recipe: Recipe, images: jax.Array, index: jax.Array, scale: Scale, view: jax.typing.ArrayLike) -> jax.Array:
    images = augment(recipe.augmentation, images, seed=recipe.view_seed, view=view, index=index)
    images = normalise(images, *scale)
    return jnp.swapaxes(images, 0, 1) if images.ndim == 5 else images


def epoch_order(recipe: Recipe, examples: int, key: jax.Array, epoch: jax.typing.ArrayLike) -> jax.Array:
    """Which examples the steps of an epoch take, `[steps, B]`: a permutation that follows from `key` and `epoch`.

    The last incomplete batch is dropped.
    """
    steps = examples // recipe.batch_size
    order = jax.random.permutation(jax.random.fold_in(key, epoch), examples)
    return order[: steps * recipe.batch_size].reshape(steps, recipe.batch_size)


def make_epoch(
    step: Step,
    recipe: Recipe,
    *,
    split_batch: Callable[[jax.Array], jax.Array] = lambda index: index,
) -> Callable[..., tuple[TrainState, Metrics]]:
    """The pure function (state, data, teacher_logits, key, epoch) -> (state, metrics `[steps]`).

    Epoch `epoch` (0-based) takes the examples in the order of `epoch_order` and uses view `epoch mod views`;
    `teacher_logits` is that view's, `[N, C]` or `[N, T, C]`, or None. `split_batch` says which part of a batch's
    indices `[B]` this device handles.
    """

    def epoch_fn(
        state: TrainState,
        data: DeviceData,
        teacher_logits: jax.Array | None,
        key: jax.Array,
        epoch: jax.Array,
    ) -> tuple[TrainState, Metrics]:
        batches = epoch_order(recipe, len(data.labels), key, epoch)
        steps = len(batches)

        def body(state: TrainState, scanned: tuple[jax.Array, jax.Array]) -> tuple[TrainState, Metrics]:
            number, index = scanned
            index = split_batch(index)
            teacher = None if teacher_logits is None else time_first(teacher_logits[index])
            batch = Batch(view_batch(recipe, data, index, epoch % recipe.views), data.labels[index], teacher)
            return step(state, batch, (epoch + number / steps) / recipe.epochs)

        return jax.lax.scan(body, state, (jnp.arange(steps), batches))

    return epoch_fn


def make_piece(step: Step, recipe: Recipe, *, steps: int) -> Callable[..., tuple[TrainState, Metrics]]:
    """The pure function (state, batches, scale, epoch, first) -> (state, metrics `[P]`): a part of an epoch.

    `batches` is a `PieceBatch` of `[P, B, ...]`, taken in that order; `first` is the place of the first of them in
    the epoch of `steps`.
    """

    def piece_fn(
        state: TrainState, batches: PieceBatch, scale: Scale, epoch: jax.Array, first: jax.Array
    ) -> tuple[TrainState, Metrics]:
        def body(state: TrainState, scanned: tuple[jax.Array, PieceBatch]) -> tuple[TrainState, Metrics]:
            number, (images, labels, index, teacher) = scanned
            images = _view(recipe, images, index, scale, epoch % recipe.views)
            batch = Batch(images, labels, None if teacher is None else time_first(teacher))
            return step(state, batch, (epoch + number / steps) / recipe.epochs)

        return jax.lax.scan(body, state, (first + jnp.arange(len(batches.labels)), batches))

    return piece_fn


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
