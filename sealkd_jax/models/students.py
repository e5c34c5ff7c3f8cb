"""Spiking students: static images `[B, H, W, C]` or frames `[T, B, H, W, C]` to logits `[T, B, classes]`.

Axis legend: T timesteps, B batch, H height, W width, C channels, F features.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from sealkd_jax.layers import gpu_kernels
from sealkd_jax.layers.batch_norm import BatchNorm
from sealkd_jax.layers.convolution import conv3x3
from sealkd_jax.layers.neurons import LIF, NeuronFactory
from sealkd_jax.layers.pooling import average_pool, max_pool
from sealkd_jax.layers.recomputation import recomputed
from sealkd_jax.layers.time import add_time_axis, per_timestep
from sealkd_jax.models.network import scale_features
from sealkd_jax.models.qkformer import QKFormer
from sealkd_jax.models.resnets import PYTORCH, PreActBlock, SEWBlock, resnet


class SpikingBlock(nn.Module):
    """Convolution (or dense layer), BatchNorm, neurons, and where asked pooling: `[T, B, ...]` -> `[T, B, ...]`.

    A static input `[1, B, ...]` is convolved and normalised once, and is the same at each of `timesteps`.
    """

    features: int
    timesteps: int
    train: bool
    neuron: NeuronFactory
    convolution: bool = True
    pool: Callable[[jax.Array], jax.Array] | None = None
    axis_name: str | None = None
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kwargs = {"use_bias": False, "dtype": self.dtype, "param_dtype": self.param_dtype}
        layer = conv3x3(self.features, **kwargs) if self.convolution else nn.Dense(self.features, **kwargs)
        batch_norm = BatchNorm(self.train, self.axis_name, self.dtype, self.param_dtype)
        spikes = gpu_kernels.fire(batch_norm, self.neuron(name="neuron"), per_timestep(layer, x), self.timesteps)
        return self.pool(spikes) if self.pool else spikes


class SpikingNet(nn.Module):
    """A chain of spiking blocks and a linear read-out of every timestep.

    Attributes:
        classes: number of logits.
        features: of each block, first to last.
        pool: which blocks halve the image.
        average: by means; otherwise by maxima.
        convolution: 3x3 convolutions (a small VGG-like network); otherwise dense layers on the flat image (MLP).
        width: factor on `features`.
        neuron: makes a layer of neurons.
        remat: what the forward pass keeps in memory: `none` everything, `spikes` and `full` the input of each block,
            spikes as one byte each. The backward pass computes the rest again.
    """

    classes: int
    features: tuple[int, ...]
    pool: tuple[bool, ...]
    average: bool = False
    convolution: bool = True
    width: float = 1.0
    neuron: NeuronFactory = LIF
    remat: str = "none"
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, images: jax.Array, *, timesteps: int, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        x = add_time_axis(images)
        if not self.convolution:
            x = x.reshape(*x.shape[:2], -1)
        unit = 0.25 if self.average else 1.0
        for position, (features, pool) in enumerate(zip(self.features, self.pool, strict=True)):
            block = SpikingBlock
            if self.remat != "none":
                block = recomputed(block, unit=unit if position else None)
            x = block(
                scale_features(features, self.width),
                timesteps,
                train,
                self.neuron,
                convolution=self.convolution,
                pool=(average_pool if self.average else max_pool) if pool else None,
                axis_name=axis_name,
                dtype=self.dtype,
                param_dtype=self.param_dtype,
                name=f"block_{position}",
            )(x)
        x = x.reshape(*x.shape[:2], -1)
        readout = nn.Dense(self.classes, dtype=self.dtype, param_dtype=self.param_dtype, name="readout")
        return per_timestep(readout, x)


VGG = (64, 128, 256, 256, 512, 512, 512, 512)

STUDENTS: dict[str, Callable[..., nn.Module]] = {
    "spiking-conv": partial(SpikingNet, features=(16, 32, 32), pool=(False, True, True)),
    # Halves the image after every convolution, so that a CPU can train it on CIFAR.
    "spiking-conv4": partial(SpikingNet, features=(32, 64, 128, 256), pool=(True,) * 4),
    "spiking-mlp": partial(SpikingNet, features=(256, 256), pool=(False, False), convolution=False),
    # Deng et al., ICLR 2022 (arXiv 2202.11946), for frames of events of 48x48 pixels.
    "spiking-vgg": partial(SpikingNet, features=VGG, pool=(False, True) * 4, average=True),
    # The SeAl-KD authors' students.
    "spiking-resnet18": resnet(18, small_stem=True, kernel_init=PYTORCH, naming="seal-kd"),
    "spiking-resnet19": resnet(19, hidden=256, small_stem=True, kernel_init=PYTORCH, naming="seal-kd-hidden"),
    "spiking-resnet34": resnet(34, PreActBlock, conv_bias=True),
    "sew-resnet18": resnet(18, SEWBlock),
    "sew-resnet34": resnet(34, SEWBlock),
    # The authors' size for CIFAR, which they call HST-4-384.
    "qkformer": partial(QKFormer, depths=(1, 1, 2), features=(96, 192, 384)),
}
"""Every spiking student by its name: the modules that `create_student` makes."""
