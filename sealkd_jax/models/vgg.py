"""VGG with BatchNorm: images `[B, H, W, C]` to logits `[1, B, classes]`, with the names of its published weights.

Simonyan & Zisserman, ICLR 2015 (arXiv 1409.1556).

Axis legend: B batch, H height, W width, C channels.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from sealkd_jax.layers.batch_norm import BatchNorm
from sealkd_jax.layers.convolution import conv3x3
from sealkd_jax.layers.pooling import max_pool
from sealkd_jax.layers.time import per_timestep, select_frames
from sealkd_jax.models.network import scale_features

DEPTHS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Convolutions in each stage, by the number of layers."""
FEATURES = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """Five stages of convolutions, each halved by max-pooling, and dense layers.

    Attributes:
        classes: number of logits.
        depths: convolutions in each stage.
        hidden: features of the two dense layers before the last; 0: no such layers.
        pooled: side of the image of means that the dense layers see.
        width: factor on the features of every layer.
        frame_mode: see `create_teacher`.
    """

    classes: int
    depths: tuple[int, ...]
    hidden: int = 0
    pooled: int = 1
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

        def network(x: jax.Array) -> jax.Array:
            place = 0  # among PyTorch's modules: a convolution, BatchNorm and ReLU are three, pooling is one
            for depth, features in zip(self.depths, FEATURES, strict=True):
                for _ in range(depth):
                    x = conv3x3(scale_features(features, self.width), name=f"features_{place}", **kwargs)(x)
                    batch_norm = BatchNorm(train, axis_name, self.dtype, self.param_dtype, name=f"features_{place + 1}")
                    x, place = nn.relu(batch_norm(x)), place + 3
                x, place = max_pool(x), place + 1
            x = jnp.moveaxis(_means(x, self.pooled), -1, 1).reshape(len(x), -1)  # PyTorch flattens [C, H, W]
            if not self.hidden:
                return nn.Dense(self.classes, name="classifier", **kwargs)(x)
            hidden = scale_features(self.hidden, self.width)
            for place in (0, 3):  # between them ReLU and dropout
                x = nn.relu(nn.Dense(hidden, name=f"classifier_{place}", **kwargs)(x))
            return nn.Dense(self.classes, name="classifier_6", **kwargs)(x)

        return per_timestep(network, select_frames(images, self.frame_mode))


def _means(x: jax.Array, side: int) -> jax.Array:
    """Means over windows that cover the image: `[B, H, W, C]` -> `[B, side, side, C]`.

    Window i of n pixels is from floor(i n / side) to ceil((i + 1) n / side), as in PyTorch's `AdaptiveAvgPool2d`.
    """
    for axis in (1, 2):
        n = x.shape[axis]
        windows = [x.take(jnp.arange(i * n // side, -(-(i + 1) * n // side)), axis).mean(axis) for i in range(side)]
        x = jnp.stack(windows, axis)
    return x
