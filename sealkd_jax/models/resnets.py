"""Residual networks, spiking and not: one skeleton, five kinds of block.

All layers take `[T, B, H, W, C]`. For a static image T is 1 before the first neuron. An ANN has ReLU in the place of
neurons and takes its frames, one or many, as timesteps.

Axis legend: T timesteps, B batch, H height, W width, C channels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from sealkd_jax.layers import gpu_kernels
from sealkd_jax.layers.batch_norm import BatchNorm
from sealkd_jax.layers.convolution import conv_general_dilated
from sealkd_jax.layers.neurons import NeuronFactory
from sealkd_jax.layers.recomputation import recomputed
from sealkd_jax.layers.time import add_time_axis, per_timestep, repeat_over_time, select_frames
from sealkd_jax.models.network import scale_features

LARGE = 96
"""Images with both sides of this many pixels or more get the stem of ImageNet's networks: a 7x7 convolution of stride 2
and 3x3 max-pooling of stride 2. Smaller images get a 3x3 convolution of stride 1."""

HE_FAN_OUT = nn.initializers.variance_scaling(2, "fan_out", "normal")
HE_FAN_IN = nn.initializers.variance_scaling(2, "fan_in", "normal")
PYTORCH = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""The default of PyTorch's layers: uniform in ±1/√(inputs of an output)."""


@dataclass(frozen=True)
class Layers:
    """Makes the layers of one network; for use inside `nn.compact`.

    Attributes:
        timesteps: that neurons see.
        train: BatchNorm uses the statistics of the batch, over all devices of `axis_name`.
        neuron: makes a layer of neurons; None: ReLU.
        kernel_init, conv_bias: of convolutions. A bias before BatchNorm has no effect; it takes the weights of
            networks that have one.
        remat: see `ResNet`.
    """

    timesteps: int
    train: bool
    axis_name: str | None
    neuron: NeuronFactory | None
    kernel_init: Callable[..., jax.Array]
    conv_bias: bool
    remat: str
    dtype: Any
    param_dtype: Any

    def from_spikes(
        self, module: nn.Module, function: Callable[..., jax.Array], *arrays: jax.Array, unit: float | None = 1.0
    ) -> jax.Array:
        """`function(module, *arrays)`. With `remat` spikes, the backward pass keeps the arrays alone."""
        if self.remat == "spikes":
            function = recomputed(function, unit=unit)
        return function(module, *arrays)

    def conv(
        self, x: jax.Array, name: str, features: int, size: int = 3, stride: int = 1, spikes: bool = True
    ) -> jax.Array:
        """Convolution with PyTorch's padding, then BatchNorm: `[T, B, H, W, C]` -> `[T, B, H/stride, W/stride, C]`.

        Tokens `[T, B, N, C]` are convolved along N. `spikes`: in a spiking network, x holds spikes or sums of spikes
        below 128.
        """
        y, batch_norm = self._convolve(x, name, features, size, stride, spikes)
        return batch_norm(y)

    def fire(
        self,
        x: jax.Array,
        names: tuple[str, str],
        features: int,
        *skips: jax.Array,
        size: int = 3,
        stride: int = 1,
        spikes: bool = True,
        bias: bool = False,
    ) -> jax.Array:
        """`conv`, plus `skips` (one array or none), then `activate`; `names` are those of the two layers.

        `bias`: of the convolution, also where `conv_bias` is False.
        """
        y, batch_norm = self._convolve(x, names[0], features, size, stride, spikes, bias)
        if self.neuron is None:
            return self.activate(sum(skips, batch_norm(y)), names[1])
        return gpu_kernels.fire(batch_norm, self.neuron(name=names[1]), y, self.timesteps, *skips)

    def _convolve(
        self, x: jax.Array, name: str, features: int, size: int, stride: int, spikes: bool, bias: bool = False
    ) -> tuple[jax.Array, BatchNorm]:
        as_bytes = spikes and self.neuron is not None and self.remat == "spikes"
        convolution = nn.Conv(
            features,
            (size,) * (x.ndim - 3),
            stride,
            padding=size // 2,
            use_bias=self.conv_bias or bias,
            kernel_init=self.kernel_init,
            conv_general_dilated=partial(conv_general_dilated, small_integers=as_bytes),
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=name,
        )
        batch_norm = BatchNorm(self.train, self.axis_name, self.dtype, self.param_dtype, name=f"{name}_bn")
        return per_timestep(convolution, x), batch_norm

    def dense(self, x: jax.Array, name: str, features: int) -> jax.Array:
        """`[T, B, C]` -> `[T, B, features]`."""

        def bias_init(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
            return jax.random.uniform(key, shape, dtype, -1, 1) * x.shape[-1] ** -0.5

        kwargs = {"dtype": self.dtype, "param_dtype": self.param_dtype, "name": name}
        return per_timestep(nn.Dense(features, kernel_init=PYTORCH, bias_init=bias_init, **kwargs), x)

    def activate(self, x: jax.Array, name: str) -> jax.Array:
        """ReLU; or neurons over `timesteps`, at each of which a static input is the same."""
        if self.neuron is None:
            return nn.relu(x)
        return self.neuron(name=name)(repeat_over_time(x, self.timesteps))


class Block(nn.Module):
    """Two 3x3 convolutions, the first with the stride, and a shortcut; activated after the addition.

    He et al., CVPR 2016 (arXiv 1512.03385); with neurons, the block of the SeAl-KD authors' students.
    """

    features: int
    layers: Layers
    stride: int = 1

    starts_activated: ClassVar[bool] = True  # the input comes from neurons, or ReLU
    currents: ClassVar[tuple[str, ...]] = ()  # layers of weights whose input is real numbers, not spikes

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def first(self: Block, x: jax.Array) -> jax.Array:
            return self.layers.fire(x, ("conv1", "neuron1"), self.features, stride=self.stride)

        def second(self: Block, y: jax.Array, x: jax.Array) -> jax.Array:
            return self.layers.fire(y, ("conv2", "neuron2"), self.features, self.skip(x, self.features))

        return self.layers.from_spikes(self, second, self.layers.from_spikes(self, first, x), x)

    def skip(self, x: jax.Array, features: int) -> jax.Array:
        """The input, convolved to the shape of the output where that differs."""
        if self.stride == 1 and x.shape[-1] == features:
            return x
        spikes = "shortcut" not in self.currents
        return self.layers.conv(x, "shortcut", features, size=1, stride=self.stride, spikes=spikes)


class PaddedBlock(Block):
    """`Block` with a shortcut without weights: every second pixel, and channels of zeros on both sides (option A)."""

    def skip(self, x: jax.Array, features: int) -> jax.Array:
        more = features - x.shape[-1]
        return jnp.pad(x[:, :, :: self.stride, :: self.stride], [(0, 0)] * 4 + [(more // 2, more - more // 2)])


class Bottleneck(Block):
    """Convolutions 1x1, 3x3 with the stride, and 1x1 to four times `features`; activated after the addition."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.layers.fire(x, ("conv1", "neuron1"), self.features, size=1)
        y = self.layers.fire(y, ("conv2", "neuron2"), self.features, stride=self.stride)
        features = 4 * self.features
        return self.layers.fire(y, ("conv3", "neuron3"), features, self.skip(x, features), size=1)


class PreActBlock(Block):
    """Neurons before each convolution, none after the addition: blocks pass currents on.

    The block of the SeAl-KD authors' student for ImageNet; He et al., ECCV 2016 (arXiv 1603.05027).
    """

    starts_activated: ClassVar[bool] = False
    currents: ClassVar[tuple[str, ...]] = ("shortcut",)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def first(self: Block, x: jax.Array) -> jax.Array:
            return self.layers.activate(x, "neuron1")

        def second(self: Block, y: jax.Array) -> jax.Array:
            return self.layers.fire(y, ("conv1", "neuron2"), self.features, stride=self.stride)

        def third(self: Block, y: jax.Array) -> jax.Array:
            return self.layers.conv(y, "conv2", self.features)

        y = self.layers.from_spikes(self, first, x, unit=None)
        y = self.layers.from_spikes(self, third, self.layers.from_spikes(self, second, y))
        return y + self.skip(x, self.features)


class SEWBlock(Block):
    """Adds spikes to spikes: blocks pass the numbers 0, 1, 2, ... on.

    Fang et al., Deep residual learning in spiking neural networks, NeurIPS 2021 (arXiv 2102.04159), ADD.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def first(self: Block, x: jax.Array) -> jax.Array:
            return self.layers.fire(x, ("conv1", "neuron1"), self.features, stride=self.stride)

        def second(self: Block, y: jax.Array) -> jax.Array:
            return self.layers.fire(y, ("conv2", "neuron2"), self.features)

        def beside(self: Block, x: jax.Array) -> jax.Array:
            shortcut = self.skip(x, self.features)
            return shortcut if shortcut is x else self.layers.activate(shortcut, "shortcut_neuron")

        y = self.layers.from_spikes(self, second, self.layers.from_spikes(self, first, x))
        return y + self.layers.from_spikes(self, beside, x)


class ResNet(nn.Module):
    """A stem, stages of blocks, the mean over the image, and a linear read-out of every timestep.

    Static images `[B, H, W, C]` or frames `[T, B, H, W, C]` to logits `[T, B, classes]`. An ANN's T is 1, or that of
    the frames if its `frame_mode` is `each`.

    Attributes:
        classes: number of logits.
        block: the kind.
        depths: number of blocks in each stage.
        features: of each stage, the first also of the stem; every stage but the first halves the image.
        hidden: number of neurons in a layer between the mean and the read-out; 0: no such layer.
        small_stem: a 3x3 stem also for images of `LARGE` pixels.
        large_stem: a 7x7 stem also for smaller ones.
        width: factor on `features` and `hidden`.
        neuron: makes a layer of neurons; None: an ANN.
        frame_mode: of an ANN, see `create_teacher`.
        kernel_init, conv_bias: see `Layers`.
        naming: its PyTorch names, a key of `sealkd_jax.weights.torch_names.NAMES`.
        remat: what the forward pass keeps in memory: `none` everything, `spikes` the input of each convolution and
            layer of neurons, `full` the input of each block; spikes as one byte each. The backward pass computes the
            rest again.
    """

    classes: int
    block: type[Block]
    depths: tuple[int, ...]
    features: tuple[int, ...]
    hidden: int = 0
    small_stem: bool = False
    large_stem: bool = False
    width: float = 1.0
    neuron: NeuronFactory | None = None
    frame_mode: str = "mean"
    kernel_init: Callable[..., jax.Array] = HE_FAN_OUT
    conv_bias: bool = False
    naming: str = "torchvision"
    remat: str = "none"
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, images: jax.Array, *, timesteps: int = 1, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        layers = Layers(
            timesteps=timesteps,
            train=train,
            axis_name=axis_name,
            neuron=self.neuron,
            kernel_init=self.kernel_init,
            conv_bias=self.conv_bias,
            remat=self.remat,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )
        x = select_frames(images, self.frame_mode) if self.neuron is None else add_time_axis(images)

        def stem(self: ResNet, x: jax.Array) -> jax.Array:
            return self._stem(layers, x)

        block = self.block
        if self.remat != "none":
            stem = recomputed(stem)
        if self.remat == "full":
            block = recomputed(block, unit=1.0 if block.starts_activated else None)
        x = stem(self, x)
        for stage, (depth, features) in enumerate(zip(self.depths, self.features, strict=True), start=1):
            for position in range(depth):
                stride = 2 if stage > 1 and position == 0 else 1
                x = block(scale_features(features, self.width), layers, stride, name=f"layer{stage}_{position}")(x)
        # Without the barrier XLA's CPU compiler (jaxlib 0.11.2) makes one program of the mean and the convolutions
        # before it, which in bfloat16 gives NaN. (It drops barriers too, but later than that.)
        x = jax.lax.optimization_barrier(x).mean((2, 3))
        if self.hidden:
            x = layers.activate(layers.dense(x, "hidden", scale_features(self.hidden, self.width)), "hidden_neuron")
        return layers.dense(x, "readout", self.classes)

    def _stem(self, layers: Layers, x: jax.Array) -> jax.Array:
        large = self.large_stem or (not self.small_stem and min(x.shape[2:4]) >= LARGE)
        size, stride = (7, 2) if large else (3, 1)
        features = scale_features(self.features[0], self.width)
        if self.block.starts_activated:
            x = layers.fire(x, ("stem", "stem_neuron"), features, size=size, stride=stride, spikes=False)
        else:
            x = layers.conv(x, "stem", features, size, stride, spikes=False)
        if large:
            x = per_timestep(lambda y: nn.max_pool(y, (3, 3), (2, 2), ((1, 1), (1, 1))), x)
        return x

    @property
    def currents(self) -> tuple[str, ...]:
        """As that of `Block`."""
        return () if self.block.starts_activated else ("readout",)


SIZES = {
    18: ((2, 2, 2, 2), (64, 128, 256, 512)),
    19: ((3, 3, 2), (128, 256, 512)),
    34: ((3, 4, 6, 3), (64, 128, 256, 512)),
    50: ((3, 4, 6, 3), (64, 128, 256, 512)),
}
"""The usual depths and features of a ResNet's stages, by its number of layers."""


def resnet(layers: int, block: type[Block] = Block, **attributes: Any) -> Callable[..., nn.Module]:
    """Makes a ResNet of `SIZES`, with these attributes of `ResNet` besides."""
    depths, features = SIZES[layers]
    return partial(ResNet, block=block, depths=depths, features=features, **attributes)
