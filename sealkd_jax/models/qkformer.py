"""QKFormer, a spiking transformer: `[T, B, H, W, C]` at full size, then halved before each stage but the first.

All that goes from layer to layer is spikes or small sums of spikes. Attention has no softmax: it multiplies spikes.

Reference: Zhou et al., QKFormer: Hierarchical spiking transformer using Q-K attention, NeurIPS 2024 (arXiv 2403.16552).
The sizes and the names of the layers are those of the authors' code, https://github.com/zhouchenlin2096/QKFormer.

Axis legend: T timesteps, B batch, H height, W width, N tokens (pixels of a stage), C channels; in products n
tokens, h heads, d and e channels of a head.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from sealkd_jax.layers.neurons import LIF, NeuronFactory
from sealkd_jax.layers.product import Product
from sealkd_jax.layers.recomputation import recomputed
from sealkd_jax.layers.time import add_time_axis, per_timestep
from sealkd_jax.models.network import require_whole_patches, scale_features
from sealkd_jax.models.resnets import PYTORCH, Layers

MLP_RATIO = 4
SCALE = 0.125
"""Of the products in spiking self-attention, for any number of channels of a head."""


class _Part(nn.Module):
    """A part of the network, with the layers that it makes."""

    layers: Layers

    def fire(
        self, x: jax.Array, name: str, features: int, size: int = 1, stride: int = 1, bias: bool = False
    ) -> jax.Array:
        """Convolution, BatchNorm and neurons: spikes or sums of spikes to spikes."""

        def function(self: _Part, x: jax.Array) -> jax.Array:
            names = (f"{name}_conv", f"{name}_lif")
            return self.layers.fire(x, names, features, size=size, stride=stride, bias=bias)

        return self.layers.from_spikes(self, function, x)


class PatchEmbedInit(_Part):
    """The image as spikes: `[T, B, H, W, C]` -> `[T, B, H, W, features]`, 0 to 2."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def first(self: PatchEmbedInit, x: jax.Array) -> jax.Array:
            return self.layers.fire(x, ("proj_conv", "proj_lif"), self.features // 2, size=3, spikes=False)

        x = self.layers.from_spikes(self, first, x, unit=None)
        return self.fire(x, "proj1", self.features, 3) + self.fire(x, "proj_res", self.features)


class PatchEmbeddingStage(_Part):
    """Halves the image: `[T, B, H, W, C]` -> `[T, B, H/2, W/2, features]`, 0 to 2."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def last(self: PatchEmbeddingStage, y: jax.Array) -> jax.Array:
            y = self.layers.conv(y, "proj4_conv", self.features)
            y = per_timestep(lambda y: nn.max_pool(y, (3, 3), (2, 2), ((1, 1), (1, 1))), y)
            return self.layers.activate(y, "proj4_lif")

        y = self.layers.from_spikes(self, last, self.fire(x, "proj3", self.features, 3))
        return y + self.fire(x, "proj_res", self.features, stride=2)


class Attention(_Part, ABC):
    """Spikes of queries, keys and for some kinds values are mixed and projected: `[T, B, N, C]` -> the same, 0 or 1."""

    heads: int
    names: ClassVar[tuple[str, ...]]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def mix(self: Attention, *spikes: jax.Array) -> jax.Array:
            return self.mix(*(each.reshape(*each.shape[:-1], self.heads, -1) for each in spikes)).reshape(x.shape)

        projected = [self.fire(x, name, x.shape[-1]) for name in self.names]
        return self.fire(self.layers.from_spikes(self, mix, *projected), "proj", x.shape[-1], bias=True)

    @abstractmethod
    def mix(self, *spikes: jax.Array) -> jax.Array:
        """Spikes `[T, B, N, h, d]` of each of `names` to spikes of this shape."""

    def attend(self, x: jax.Array) -> jax.Array:
        """Neurons with a threshold halfway between rest and that of the others."""
        assert self.layers.neuron is not None
        usual = self.layers.neuron(parent=None)
        rest = usual.v_reset or 0.0
        return self.layers.neuron(name="attn_lif", threshold=rest + (usual.threshold - rest) / 2)(x)


class TokenQKAttention(Attention):
    """Keys pass where a neuron fires that adds up the queries of its token and head."""

    names: ClassVar[tuple[str, ...]] = ("q", "k")

    def mix(self, *spikes: jax.Array) -> jax.Array:
        q, k = spikes
        return self.attend(Product("nhd->nh", name="q_sum")(q))[..., None] * k


class SpikingSelfAttention(Attention):
    """Neurons of queries times keys times values, by way of keys times values: linear in N."""

    names: ClassVar[tuple[str, ...]] = ("q", "k", "v")

    def mix(self, *spikes: jax.Array) -> jax.Array:
        q, k, v = spikes
        y = Product("nhd,hde->nhe", name="q_kv")(q, Product("nhd,nhe->hde", name="kv")(k, v))
        return self.attend(SCALE * y.reshape(*y.shape[:-2], -1))


class MLP(_Part):
    """Two 1x1 convolutions with neurons: `[T, B, H, W, C]` -> the same, 0 or 1."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.fire(x, "mlp1", MLP_RATIO * x.shape[-1], bias=True)
        return self.fire(y, "mlp2", x.shape[-1], bias=True)


class TransformerBlock(_Part):
    """Attention and MLP, each added to its input: spikes are added to spikes."""

    attention: type[Attention]
    heads: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        tokens = x.reshape(*x.shape[:2], -1, x.shape[-1])
        name = "tssa" if self.attention is TokenQKAttention else "ssa"
        x = x + self.attention(self.layers, self.heads, name=name)(tokens).reshape(x.shape)
        return x + MLP(self.layers, name="mlp")(x)


class QKFormer(nn.Module):
    """Stages of blocks, each behind a patch embedding; the mean over the image, and a linear read-out per timestep.

    Static images `[B, H, W, C]` or frames `[T, B, H, W, C]` to logits `[T, B, classes]`. The last stage has spiking
    self-attention, those before it Q-K attention between tokens.

    Attributes:
        classes: number of logits.
        depths: number of blocks in each stage.
        features: of each stage.
        heads: of the attention, in every stage.
        width: factor on `features`, which stay multiples of `heads`.
        neuron: makes a layer of neurons. The authors' is `partial(LIF, decay_input=True, detach_reset=True)`.
        remat: what the forward pass keeps in memory: `none` everything, `spikes` the input of each convolution and
            layer of neurons, `full` the input of each block; spikes as one byte each. The backward pass computes the
            rest again.
        naming: its PyTorch names, a key of `sealkd_jax.weights.torch_names.NAMES`.
    """

    classes: int
    depths: tuple[int, ...]
    features: tuple[int, ...]
    heads: int = 8
    width: float = 1.0
    neuron: NeuronFactory = LIF
    remat: str = "none"
    naming: str = "qkformer"
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, images: jax.Array, *, timesteps: int, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        require_whole_patches(images, 2 ** (len(self.depths) - 1))
        layers = Layers(
            timesteps=timesteps,
            train=train,
            axis_name=axis_name,
            neuron=self.neuron,
            kernel_init=PYTORCH,
            conv_bias=False,
            remat=self.remat,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )

        def part(kind: Any, *args: Any, name: str, unit: float | None = 1.0) -> Any:
            kind = recomputed(kind, unit=unit) if self.remat == "full" else kind
            return kind(layers, *args, name=name)

        x = add_time_axis(images)
        for stage, (depth, features) in enumerate(zip(self.depths, self.features, strict=True), start=1):
            features = self.heads * scale_features(features // self.heads, self.width)
            if stage == 1:
                x = part(PatchEmbedInit, features, name="patch_embed1", unit=None)(x)
            else:
                x = part(PatchEmbeddingStage, features, name=f"patch_embed{stage}")(x)
            attention = SpikingSelfAttention if stage == len(self.depths) else TokenQKAttention
            for position in range(depth):
                x = part(TransformerBlock, attention, self.heads, name=f"stage{stage}_{position}")(x)
        head = nn.Dense(
            self.classes,
            kernel_init=nn.initializers.truncated_normal(0.02),
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name="head",
        )
        return per_timestep(head, x.mean((2, 3)))
