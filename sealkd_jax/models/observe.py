"""The layers of a network: shapes, parameters, multiplications, and how much of their input is zero.

The products of attention are layers too, whose input is the first of the two arrays: each number in it that is not
zero costs one operation for each number of the result that it goes into.

Axis legend: T timesteps, B batch. A layer of weights, convolution or dense, takes its timesteps in the batch axis:
`[T·B, ...]`, or `[B, ...]` where it runs once for all of them. A product may have two axes, `[T, B, ...]`.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from sealkd_jax.layers.neurons import Neuron
from sealkd_jax.layers.product import Product
from sealkd_jax.layers.time import split_time

INPUTS = "inputs"


class Layer(NamedTuple):
    """A layer of weights, BatchNorm or neurons, or a product.

    Attributes:
        shape: of its output, for one example and one timestep.
        parameters: how many numbers it learns.
        macs: multiply-accumulates for one example and one timestep, exact: every weight at every place of the output.
        spikes: whether the input of its weights comes from neurons, as spikes or as sums or means of spikes.
    """

    shape: tuple[int, ...]
    parameters: int
    macs: int = 0
    spikes: bool = False


def sum_layers(layers: dict[str, Layer]) -> Layer:
    """The network as one layer: its output, and the sums of parameters and multiply-accumulates."""
    each = list(layers.values())
    return Layer(each[-1].shape, sum(layer.parameters for layer in each), sum(layer.macs for layer in each))


@contextmanager
def record_layers(batch: int, found: dict[str, Layer]) -> Iterator[None]:
    """Within it, each layer that runs is entered in `found`, by its path, input first.

    The share of non-zero inputs of every layer of weights or product, `[T, B]` or `[1, B]`, is sown into the collection
    `INPUTS`.
    """
    shape: tuple[int, ...] = ()
    after_neurons = False
    recording = True

    def interceptor(call: Callable[..., Any], args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        nonlocal shape, after_neurons
        out, module = call(*args, **kwargs), context.module
        if not recording:
            return out
        learned = module.variables.get("params", {})
        is_neuron, is_weights = isinstance(module, Neuron), isinstance(module, nn.Conv | nn.Dense)
        is_product = isinstance(module, Product)
        has_layers_inside = not learned or any(isinstance(entry, Mapping) for entry in learned.values())
        if context.method_name != "__call__" or (has_layers_inside and not is_neuron | is_product):
            return out
        parameters, macs, spikes = sum(leaf.size for leaf in learned.values()), 0, False
        if is_neuron:
            shape, after_neurons = out.shape[2:], True
        elif is_product:
            leading = module.leading(args[0].shape)
            shape, macs, spikes = out.shape[leading:], module.macs(*(x.shape for x in args)), after_neurons
        elif is_weights:  # BatchNorm keeps the shape
            shape, macs = out.shape[1:], learned["kernel"].size * math.prod(out.shape[1:-1])
            spikes = after_neurons and module.name not in getattr(module.parent, "currents", ())
        if is_weights or is_product:
            share = _share(args[0], batch, leading if is_product else 1)
            module.sow(INPUTS, "share", share, reduce_fn=lambda _, new: new, init_fn=lambda: None)
        found["/".join(module.path)] = Layer(shape, parameters, macs, spikes)
        return out

    with nn.intercept_methods(interceptor):
        try:
            yield
        finally:
            recording = False  # Flax removes an interceptor in an assert, and so not under python -O


def _share(x: jax.Array, batch: int, leading: int) -> jax.Array:
    """The share of numbers of x, `[T·B, ...]` or `[T, B, ...]`, that are not zero: `[T, B]`.

    `leading` is the number of axes of time and batch, 1 or 2.
    """
    share = (x != 0).reshape(*x.shape[:leading], -1).mean(-1, dtype=jnp.float32)
    return share if leading == 2 else split_time(share, len(share) // batch)
