"""Layers of weights: how many multiplications they stand for, and how many of their inputs are not zero.

Axis legend: T timesteps, B batch. A layer of weights, convolution or dense, sees its timesteps in the batch axis:
`[T·B, ...]`, or `[B, ...]` where it runs once for all of them.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from sealkd_jax.layers.neurons import Neuron
from sealkd_jax.layers.time import split_time

INPUTS = "inputs"


class Synapses(NamedTuple):
    """Of one layer of weights.

    Attributes:
        macs: multiply-accumulates for one example and one timestep, exact: every weight at every place of the output.
        spikes: whether it is fed by neurons (also by sums and means of spikes); otherwise by real numbers.
    """

    macs: int
    spikes: bool


def watch(batch: int, found: dict[str, Synapses]) -> Callable[..., Any]:
    """For `flax.linen.intercept_methods`: writes every layer of weights into `found`, by its path and input first.

    The share of its inputs that is not zero, `[T, B]` or `[1, B]`, is sown into the collection `INPUTS`.
    """
    neurons_before = []

    def interceptor(call: Callable[..., Any], args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        out, module = call(*args, **kwargs), context.module
        if context.method_name == "__call__" and isinstance(module, Neuron):
            neurons_before.append(module.path)
        if context.method_name == "__call__" and isinstance(module, nn.Conv | nn.Dense):
            kernel: jax.Array = module.get_variable("params", "kernel")
            x = args[0]
            macs = kernel.size * math.prod(out.shape[1:-1])
            spikes = bool(neurons_before) and module.name not in getattr(module.parent, "currents", ())
            found["/".join(module.path)] = Synapses(macs, spikes)
            share = split_time((x != 0).reshape(x.shape[0], -1).mean(-1, dtype=jnp.float32), x.shape[0] // batch)
            module.sow(INPUTS, "share", share, reduce_fn=lambda _, new: new, init_fn=lambda: None)
        return out

    return interceptor
