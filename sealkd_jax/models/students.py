"""Spiking students: static images `[B, H, W, C]` or frames `[T, B, H, W, C]` to logits `[T, B, classes]`.

Axis legend: T timesteps, B batch, H height, W width, C channels, F features.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from sealkd_jax.models.layers import Neuron, batch_norm, conv3x3, hold, max_pool, over_time, per_timestep


class SpikingBlock(nn.Module):
    """Convolution (or dense layer), BatchNorm, neuron, and where asked max-pooling: `[T, B, ...]` -> `[T, B, ...]`.

    A static input `[1, B, ...]` is convolved and normalised once and held for `timesteps`.
    """

    features: int
    timesteps: int
    train: bool
    neuron: str
    decay: float
    convolution: bool = True
    pool: bool = False
    axis_name: str | None = None
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kwargs = {"use_bias": False, "dtype": self.dtype, "param_dtype": self.param_dtype}
        layer = conv3x3(self.features, **kwargs) if self.convolution else nn.Dense(self.features, **kwargs)
        normalise = batch_norm(self.train, self.axis_name, self.dtype, self.param_dtype)
        currents = hold(per_timestep(lambda y: normalise(layer(y)), x), self.timesteps)
        spikes = Neuron(self.neuron, self.decay, name="neuron")(currents)
        return per_timestep(max_pool, spikes) if self.pool else spikes


class SpikingNet(nn.Module):
    """A chain of spiking blocks and a linear read-out of every timestep.

    Attributes:
        classes: how many.
        features: of each block, first to last.
        pool: which blocks halve the image.
        convolution: 3x3 convolutions (a small VGG-like network); otherwise dense layers on the flat image (MLP).
        neuron, decay: see `layers.Neuron`.
        remat_blocks: keep only what enters each block for the backward pass and compute the rest again.
    """

    classes: int
    features: tuple[int, ...]
    pool: tuple[bool, ...]
    convolution: bool = True
    neuron: str = "lif"
    decay: float = 0.5
    remat_blocks: bool = False
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, images: jax.Array, *, timesteps: int, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        x = over_time(images)
        if not self.convolution:
            x = x.reshape(*x.shape[:2], -1)
        block = nn.remat(SpikingBlock) if self.remat_blocks else SpikingBlock
        for position, (features, pool) in enumerate(zip(self.features, self.pool, strict=True)):
            x = block(
                features,
                timesteps,
                train,
                self.neuron,
                self.decay,
                self.convolution,
                pool,
                axis_name,
                self.dtype,
                self.param_dtype,
                name=f"block_{position}",
            )(x)
        x = x.reshape(*x.shape[:2], -1)
        readout = nn.Dense(self.classes, dtype=self.dtype, param_dtype=self.param_dtype, name="readout")
        return per_timestep(readout, x)


STUDENTS = {
    "spiking-conv": {"features": (16, 32, 32), "pool": (False, True, True)},
    "spiking-mlp": {"features": (256, 256), "pool": (False, False), "convolution": False},
}
