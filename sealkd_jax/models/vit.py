"""Vision transformer (ViT), an ANN teacher. Sizes and names of the layers are those of `timm`.

Reference: Dosovitskiy et al., An image is worth 16x16 words, ICLR 2021 (arXiv 2010.11929); the small size is that of
Touvron et al., Training data-efficient image transformers, ICML 2021 (arXiv 2012.12877).

Axis legend: T timesteps, B batch, N = T·B, H height, W width, C channels, F features; in products n and m tokens,
h heads, d features of a head.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from sealkd_jax.layers.convolution import conv_general_dilated
from sealkd_jax.layers.product import Product
from sealkd_jax.layers.time import per_timestep, select_frames
from sealkd_jax.models.network import require_whole_patches, scale_features

MLP_RATIO = 4
INIT = nn.initializers.truncated_normal(0.02)


class LayerNorm(nn.Module):
    """Normalises each token over its features, in float32 at least: `[..., F]` -> `[..., F]`.

    The same as `flax.linen.LayerNorm`, which in float64 and bfloat16 promotes dtypes implicitly.
    """

    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:], self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:], self.param_dtype)
        wide = x.astype(self.param_dtype)
        y = jax.nn.standardize(wide, epsilon=1e-6)
        scale, bias = (jax.lax.broadcast_to_rank(v, x.ndim) for v in (scale, bias))
        return (y * scale + bias).astype(self.dtype)


class PatchEmbed(nn.Module):
    """Images `[N, H, W, C]` -> a token for each patch, `[N, tokens, F]`, row by row."""

    features: int
    patch: int
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        size = (self.patch, self.patch)
        kwargs = {"dtype": self.dtype, "param_dtype": self.param_dtype, "name": "proj"}
        x = nn.Conv(self.features, size, size, "VALID", conv_general_dilated=conv_general_dilated, **kwargs)(x)
        return x.reshape(len(x), -1, self.features)


class Attention(nn.Module):
    """Softmax attention of several heads: `[N, tokens, F]` -> the same."""

    heads: int
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        features = x.shape[-1]
        kwargs = {"kernel_init": INIT, "dtype": self.dtype, "param_dtype": self.param_dtype}
        qkv = nn.Dense(3 * features, **kwargs, name="qkv")(x).reshape(*x.shape[:-1], 3, self.heads, -1)
        q, k, v = (qkv[..., position, :, :] for position in range(3))
        weights = jax.nn.softmax(Product("nhd,mhd->hnm", name="qk")(q, k) * q.shape[-1] ** -0.5)
        mixed = Product("hnm,mhd->nhd", name="av")(weights, v)
        return nn.Dense(features, **kwargs, name="proj")(mixed.reshape(x.shape))


class Mlp(nn.Module):
    """Two dense layers with a GELU between them: `[N, tokens, F]` -> the same."""

    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kwargs = {"kernel_init": INIT, "dtype": self.dtype, "param_dtype": self.param_dtype}
        y = nn.gelu(nn.Dense(MLP_RATIO * x.shape[-1], **kwargs, name="fc1")(x), approximate=False)
        return nn.Dense(x.shape[-1], **kwargs, name="fc2")(y)


class TransformerBlock(nn.Module):
    """Attention and MLP, each of the normalised input and added to it."""

    heads: int
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kwargs = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = x + Attention(self.heads, **kwargs, name="attn")(LayerNorm(**kwargs, name="norm1")(x))
        return x + Mlp(**kwargs, name="mlp")(LayerNorm(**kwargs, name="norm2")(x))


class ViT(nn.Module):
    """Patches as tokens behind a class token, blocks of attention, and a linear read-out of the class token.

    Images `[B, H, W, C]` to logits `[1, B, classes]`; frames as in `ResNet`. Its variables are for images of one size.

    Attributes:
        classes: number of logits.
        patch: height and width of a patch, in pixels; they have to divide the image.
        features: of a token.
        depth: number of blocks.
        heads: of the attention.
        width: factor on `features`, which stay a multiple of `heads`.
        frame_mode: see `create_teacher`.
    """

    classes: int
    patch: int
    features: int
    depth: int
    heads: int
    width: float = 1.0
    frame_mode: str = "mean"
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, images: jax.Array, *, timesteps: int = 1, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        del timesteps, train, axis_name  # one timestep, and no statistics of a batch
        require_whole_patches(images, self.patch)
        features = self.heads * scale_features(self.features // self.heads, self.width)
        kwargs = {"dtype": self.dtype, "param_dtype": self.param_dtype}

        def network(x: jax.Array) -> jax.Array:
            x = PatchEmbed(features, self.patch, **kwargs, name="patch_embed")(x)
            first = self.param("cls_token", nn.initializers.normal(1e-6), (1, 1, features), self.param_dtype)
            first = jnp.broadcast_to(first, (len(x), 1, features)).astype(x.dtype)
            position = self.param("pos_embed", INIT, (1, 1 + x.shape[1], features), self.param_dtype)
            x = jnp.concatenate([first, x], 1) + position.astype(x.dtype)
            for block in range(self.depth):
                x = TransformerBlock(self.heads, **kwargs, name=f"blocks_{block}")(x)
            x = LayerNorm(**kwargs, name="norm")(x)
            return nn.Dense(self.classes, kernel_init=INIT, **kwargs, name="head")(x[:, 0])

        return per_timestep(network, select_frames(images, self.frame_mode))
