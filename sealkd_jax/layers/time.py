"""Layers that handle all timesteps at once.

Axis legend: T timesteps, B batch, H height, W width, C channels, F features. Time comes first.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import PartitionSpec

from sealkd_jax.layers.convolution import conv_general_dilated
from sealkd_jax.neurons import iaf, lif
from sealkd_jax.parallel.sharding import DATA_AXIS, per_shard

NEURONS = ("lif", "iaf", "plif")
"""The kinds of `Neuron`."""
BY_TIME, IN_A_ROW = PartitionSpec(None, DATA_AXIS), PartitionSpec(DATA_AXIS)


class Neuron(nn.Module):
    """A layer of spiking neurons: currents `[T, ...]` -> spikes `[T, ...]`, from rest.

    The spikes can be read from outside: `apply(..., mutable=["spikes"])` returns them. So can the membranes after the
    last timestep, as the collection `membranes`; given back, they are what the next call starts from.

    Attributes:
        kind: `lif` (leaky integrate and fire), `iaf` (no leak), or `plif` (LIF whose decay is learned, one for
            the layer: Fang et al., ICCV 2021, decay = sigmoid(w), w starting at logit(`decay`)).
        decay: share of the membrane that a timestep keeps; `iaf` has none.
    """

    kind: str = "lif"
    decay: float = 0.5

    @nn.compact
    def __call__(self, currents: jax.Array) -> jax.Array:
        before: jax.Array | None = self.get_variable("membranes", "v")  # None: from rest
        if self.kind == "iaf":
            spikes, after = iaf(currents, before)
        elif self.kind == "lif":
            spikes, after = lif(currents, before, decay=self.decay)
        else:
            start = math.log(self.decay / (1 - self.decay))
            dtype = jnp.promote_types(currents.dtype, jnp.float32)
            decay_logit = self.param("decay_logit", nn.initializers.constant(start), (), dtype)
            spikes, after = lif(currents, before, decay=jax.nn.sigmoid(decay_logit))
        for collection, name, value in (("spikes", "out", spikes), ("membranes", "v", after)):
            self.sow(collection, name, value, reduce_fn=lambda _, new: new, init_fn=lambda: None)
        return spikes


def per_timestep(layer: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """Applies a layer that knows no time, nor the order of a batch, to `[T, B, ...]`, as one batch of T·B.

    Over several devices, each has its own T·B/n in a row.
    """
    timesteps, batch = x.shape[:2]
    join = per_shard(lambda x: x.reshape(-1, *x.shape[2:]), [BY_TIME], IN_A_ROW, batch=batch)
    return parted(layer(join(x)), timesteps)


def parted(y: jax.Array, timesteps: int) -> jax.Array:
    """What a layer in `per_timestep` sees or gives, `[T·B, ...]`, as `[T, B, ...]`."""
    part = per_shard(
        lambda y: y.reshape(timesteps, -1, *y.shape[1:]), [IN_A_ROW], BY_TIME, batch=y.shape[0] // timesteps
    )
    return part(y)


def conv3x3(features: int, **kwargs: Any) -> nn.Conv:
    """A 3x3 convolution that keeps H and W of `[B, H, W, C]`."""
    return nn.Conv(features, (3, 3), conv_general_dilated=conv_general_dilated, **kwargs)


def scaled(features: int, width: float) -> int:
    """How many features a layer has in a network of this `width`: a share, of 1 or more, of its usual number."""
    return max(1, round(features * width))


def over_time(images: jax.Array) -> jax.Array:
    """A static image `[B, H, W, C]` as one timestep `[1, B, H, W, C]`; frames `[T, B, H, W, C]` as they are."""
    return images[None] if images.ndim == 4 else images


def on_frames(network: Callable[[jax.Array], jax.Array], images: jax.Array, sees: str) -> jax.Array:
    """Applies an ANN, `[B, H, W, C]` -> `[B, classes]`, to static images `[B, H, W, C]` or frames `[T, B, H, W, C]`.

    It sees the mean of the frames, or each of them (`sees` is `mean` or `each`): one timestep of logits
    `[1, B, classes]`, as for a static image, or as many as there are frames, `[T, B, classes]`.
    """
    if images.ndim == 5 and sees == "each":
        return per_timestep(network, images)
    return network(images.mean(0) if images.ndim == 5 else images)[None]


def hold(x: jax.Array, timesteps: int) -> jax.Array:
    """Repeats the one timestep of a static input; what already has `timesteps` stays as it is.

    Called before the first neuron: what came before it ran once, not T times.
    """
    return jnp.broadcast_to(x, (timesteps, *x.shape[1:]))
