"""Wide residual networks: images `[B, H, W, C]` to logits `[1, B, classes]`, with the names of their published weights.

Zagoruyko & Komodakis, BMVC 2016 (arXiv 1605.07146).
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from sealkd_jax.layers.batch_norm import BatchNorm
from sealkd_jax.layers.time import per_timestep, select_frames
from sealkd_jax.models.network import scale_features
from sealkd_jax.models.resnets import HE_FAN_OUT


def _layers(module: Any, train: bool, axis_name: str | None) -> tuple[Any, Any]:
    """Makers of a convolution `(features, size, stride, name)` and of ReLU after BatchNorm `(x, name)`."""
    kwargs = {"dtype": module.dtype, "param_dtype": module.param_dtype}

    def conv(features: int, size: int, stride: int, name: str) -> nn.Conv:
        shape: dict[str, Any] = {"padding": size // 2, "use_bias": False, "kernel_init": HE_FAN_OUT}
        return nn.Conv(features, (size, size), stride, name=name, **shape, **kwargs)

    def activate(x: jax.Array, name: str) -> jax.Array:
        return nn.relu(BatchNorm(train, axis_name, module.dtype, module.param_dtype, name=name)(x))

    return conv, activate


class WideBlock(nn.Module):
    """BatchNorm and ReLU before each of two convolutions; a shortcut that is convolved where the shape differs."""

    features: int
    stride: int
    train: bool
    axis_name: str | None
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        conv, activate = _layers(self, self.train, self.axis_name)
        y, shortcut = activate(x, "bn1"), x
        if x.shape[-1] != self.features:
            shortcut = conv(self.features, 1, self.stride, "convShortcut")(y)
        y = activate(conv(self.features, 3, self.stride, "conv1")(y), "bn2")
        return shortcut + conv(self.features, 3, 1, "conv2")(y)


class WideStage(nn.Module):
    """Blocks of the same features, the first with the stride; `make` makes one."""

    make: Any
    depth: int
    features: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for position in range(self.depth):
            x = self.make(self.features, 1 if position else self.stride, name=f"layer_{position}")(x)
        return x


class WideResNet(nn.Module):
    """A 3x3 stem, three stages of `WideBlock`, the mean over the image, and a linear read-out.

    Attributes:
        classes: number of logits.
        depth: number of blocks in each stage.
        widening: factor on the features of the stages, 16, 32 and 64.
        width: a further factor, on the stem's features too.
        frame_mode: see `create_teacher`.
    """

    classes: int
    depth: int
    widening: int
    width: float = 1.0
    frame_mode: str = "mean"
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, images: jax.Array, *, timesteps: int = 1, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        del timesteps  # an ANN has one
        kwargs = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        conv, activate = _layers(self, train, axis_name)
        make = partial(WideBlock, train=train, axis_name=axis_name, **kwargs)

        def network(x: jax.Array) -> jax.Array:
            x = conv(scale_features(16, self.width), 3, 1, "conv1")(x)
            for stage in (1, 2, 3):
                features = scale_features(8 * 2**stage * self.widening, self.width)
                x = WideStage(make, self.depth, features, 1 if stage == 1 else 2, name=f"block{stage}")(x)
            return nn.Dense(self.classes, name="fc", **kwargs)(activate(x, "bn1").mean((1, 2)))

        return per_timestep(network, select_frames(images, self.frame_mode))
