"""What a network's layers do over a whole split, as one compiled program over data on the device.

Axis legend: T timesteps, B batch, N examples, C classes; `...` the neurons of a layer.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sealkd_jax.models import Network, Variables
from sealkd_jax.training.epoch import DeviceData, Recipe, view_batch


class Survey(NamedTuple):
    """Logits `[T, N, C]`, and sums over the N examples.

    Attributes:
        spikes: int32 `[T, ...]` of every layer of neurons, how many examples made each of them fire.
        inputs: `[T]` of every layer of weights, the mean share of its inputs that is not zero; `[1]` where it runs
            once for all timesteps.
    """

    logits: jax.Array
    spikes: dict[str, jax.Array]
    inputs: dict[str, jax.Array]


def make_survey(
    network: Network,
    recipe: Recipe,
    *,
    timesteps: int,
    split_batch: Callable[[jax.Array], jax.Array] = lambda index: index,
) -> Callable[[Variables, DeviceData], Survey]:
    """The pure function (variables, data) -> `Survey` of every example once, un-augmented.

    The last batch is filled up with copies of the last example, which count for nothing.
    """

    def survey(variables: Variables, data: DeviceData) -> Survey:
        examples, size = len(data.labels), recipe.batch_size
        batches = -(-examples // size)
        places = jnp.arange(batches * size).reshape(batches, size)

        def one_batch(place: jax.Array) -> Survey:
            index = split_batch(jnp.minimum(place, examples - 1))
            logits, spikes, inputs, _ = network.observe(
                variables, view_batch(recipe, data, index, 0), timesteps=timesteps
            )
            counts = split_batch(place) < examples
            fired = {name: _examples_that_fire(layer, counts) for name, layer in spikes.items()}
            shares = {name: (share * counts).sum(1) / examples for name, share in inputs.items()}
            return Survey(logits, fired, shares)

        def body(sums: tuple, place: jax.Array) -> tuple[tuple, jax.Array]:
            logits, *of_batch = one_batch(place)
            return jax.tree.map(jnp.add, sums, tuple(of_batch)), logits

        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), tuple(jax.eval_shape(one_batch, places[0])[1:]))
        sums, logits = jax.lax.scan(body, nothing, places)
        logits = jnp.moveaxis(logits, 0, 1)
        return Survey(logits.reshape(len(logits), -1, logits.shape[-1])[:, :examples], *sums)

    return survey


def _examples_that_fire(spikes: jax.Array, counts: jax.Array) -> jax.Array:
    """Spikes `[T, B, ...]` and which examples count `[B]` -> int32 `[T, ...]`."""
    counts = jnp.expand_dims(counts, range(1, spikes.ndim - 1))
    return ((spikes != 0) & counts).sum(1, dtype=jnp.int32)
