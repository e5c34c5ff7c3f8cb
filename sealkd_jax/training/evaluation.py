"""A whole evaluation as one compiled program: logits, and sums over the examples of what the layers do.

Axis legend: T timesteps, N examples, B batch, C classes; `...` the neurons of a layer.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from sealkd_jax.data import Split
from sealkd_jax.diagnostics import accuracy_by_timestep
from sealkd_jax.models import Activity, Network, Variables
from sealkd_jax.parallel.sharding import Parallel
from sealkd_jax.training.batch import Batch, gather
from sealkd_jax.training.epoch import EpochSpec, view_batch
from sealkd_jax.training.feed import in_order

Observer = Callable[[Activity], Any]
"""From what a network does with a batch to arrays `[T, B, ...]`, which are summed over all examples."""


class Evaluation(NamedTuple):
    """Logits `[T, N, C]`, and the observer's arrays summed over the N examples, `[T, ...]` each."""

    logits: chex.Array
    sums: Any


class Counts(NamedTuple):
    """What `count_activity` observes; summed over the examples in an `Evaluation`.

    Attributes:
        spikes: int32 `[T, B, ...]` of each layer of neurons, 1 where a neuron fires.
        inputs: `[T, B]` of each layer of weights, the fraction of its inputs that is not zero; `[1, B]` if the layer
            runs once for all timesteps.
    """

    spikes: dict[str, jax.Array]
    inputs: dict[str, jax.Array]


def count_activity(activity: Activity) -> Counts:
    """Observes every neuron, and the inputs of every layer of weights."""
    spikes = {name: (layer != 0).astype(jnp.int32) for name, layer in activity.spikes.items()}
    return Counts(spikes, activity.inputs)


def firing_rates(activity: Activity) -> dict[str, jax.Array]:
    """Observes the fraction of each layer's neurons that fires, `[T, B]`."""
    layers = activity.spikes.items()
    return {name: layer.reshape(*layer.shape[:2], -1).mean(-1, dtype=jnp.float32) for name, layer in layers}


def nothing(_: Activity) -> None:
    """Observes nothing: for the logits alone."""


def make_evaluation(
    network: Network,
    spec: EpochSpec,
    *,
    timesteps: int,
    observe: Observer = nothing,
    split_batch: Callable[[jax.Array], jax.Array] = lambda index: index,
) -> Callable[..., Evaluation]:
    """Returns the pure function (variables, data, view=0) -> `Evaluation` of every example once, in order.

    View 0 are the images without augmentation; a teacher is evaluated on the other views to precompute its logits.
    The last batch is filled with copies of the last example, which do not count.
    """

    def evaluate(variables: Variables, data: Batch, view: chex.Numeric = 0) -> Evaluation:
        examples, size = len(data.labels), spec.batch_size
        rows = jnp.arange(-(-examples // size) * size, dtype=jnp.int32).reshape(-1, size)

        def one_batch(row: jax.Array) -> tuple[jax.Array, Any]:
            row = split_batch(row)
            batch = view_batch(spec, gather(data, jnp.minimum(row, examples - 1)), view)
            activity = network.observe(variables, batch.images, timesteps=timesteps)
            return activity.logits, jax.tree.map(lambda x: _sum(x, row < examples), observe(activity))

        # Traced here, once for the shapes of the sums and for the scan.
        traced, constants = jax.closure_convert(one_batch, rows[0])

        def body(sums: Any, row: jax.Array) -> tuple[Any, jax.Array]:
            logits, of_batch = traced(row, *constants)
            return jax.tree.map(jnp.add, sums, of_batch), logits

        _, shapes = jax.eval_shape(traced, rows[0], *constants)
        sums, logits = jax.lax.scan(body, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes), rows)
        logits = jnp.moveaxis(logits, 0, 1)  # [T, batches, B, C]
        return Evaluation(logits.reshape(len(logits), -1, logits.shape[-1])[:, :examples], sums)

    return evaluate


def _sum(x: jax.Array, counts: jax.Array) -> jax.Array:
    """`[T, B, ...]` summed over those of the B examples that count."""
    return x.sum(1, dtype=x.dtype, where=jnp.expand_dims(counts, (0, *range(2, x.ndim))))


def compile_evaluation(
    network: Network,
    spec: EpochSpec,
    timesteps: int,
    parallel: Parallel,
    split: Split,
    observe: Observer = nothing,
) -> Callable[..., Evaluation]:
    """Compiles (variables, view=0) -> `Evaluation` of that split, on the host; see `make_evaluation`."""
    evaluate = parallel.compile(
        make_evaluation(network, spec, timesteps=timesteps, observe=observe, split_batch=parallel.constrain_batch)
    )
    read = in_order(split, parallel, spec.batch_size)

    def run(variables: Variables, *view: chex.Numeric) -> Evaluation:
        logits, sums = [], None
        for data in read():
            part = evaluate(variables, data, *view)  # without a view, none of the augmentation is compiled
            logits.append(np.asarray(part.logits))
            sums = part.sums if sums is None else jax.tree.map(jnp.add, sums, part.sums)
        return Evaluation(np.concatenate(logits, 1), jax.tree.map(np.asarray, sums))

    return run


def validate(evaluation: Evaluation, labels: chex.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The accuracy after all timesteps, and each layer's firing rate, of an evaluation that observed `firing_rates`."""
    rates = {layer: total.mean() / len(labels) for layer, total in evaluation.sums.items()}
    return accuracy_by_timestep(evaluation.logits, labels)[-1], rates
