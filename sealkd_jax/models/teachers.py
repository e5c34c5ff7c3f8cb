"""ANN teachers: images `[B, H, W, C]` to logits `[1, B, classes]`, the one timestep that an ANN has.

Of frames `[T, B, H, W, C]` they see the mean, or each: logits `[1, B, classes]` or `[T, B, classes]`.

Axis legend: T timesteps, B batch, H height, W width, C channels.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from sealkd_jax.models.layers import batch_norm, conv3x3, max_pool, on_frames


class ConvNet(nn.Module):
    """3x3 convolution, BatchNorm and ReLU in a row, max-pooling where asked, and a linear read-out.

    `sees`: see `layers.on_frames`.
    """

    classes: int
    features: tuple[int, ...]
    pool: tuple[bool, ...]
    sees: str = "mean"
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, images: jax.Array, *, timesteps: int = 1, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        del timesteps  # an ANN has one
        kwargs = {"dtype": self.dtype, "param_dtype": self.param_dtype}

        def network(x: jax.Array) -> jax.Array:
            for features, pool in zip(self.features, self.pool, strict=True):
                x = conv3x3(features, use_bias=False, **kwargs)(x)
                x = nn.relu(batch_norm(train, axis_name, self.dtype, self.param_dtype)(x))
                x = max_pool(x) if pool else x
            return nn.Dense(self.classes, name="readout", **kwargs)(x.reshape(len(x), -1))

        return on_frames(network, images, self.sees)


TEACHERS = {"convnet": {"features": (32, 64, 128), "pool": (False, True, True)}}
