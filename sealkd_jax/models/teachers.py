"""ANN teachers: images `[B, H, W, C]` to logits `[1, B, classes]`, the one timestep that an ANN has.

Of frames `[T, B, H, W, C]` they see the mean, or each: logits `[1, B, classes]` or `[T, B, classes]`.

Axis legend: T timesteps, B batch, H height, W width, C channels.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from sealkd_jax.layers.batch_norm import BatchNorm
from sealkd_jax.layers.pooling import max_pool
from sealkd_jax.layers.time import conv3x3, on_frames, scaled
from sealkd_jax.models.resnets import HE_FAN_IN, Block, Bottleneck, PaddedBlock, ResNet


class ConvNet(nn.Module):
    """3x3 convolution, BatchNorm and ReLU in a row, max-pooling where asked, and a linear read-out.

    `sees`: see `layers.on_frames`; `width`: factor on `features`.
    """

    classes: int
    features: tuple[int, ...]
    pool: tuple[bool, ...]
    width: float = 1.0
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
                x = conv3x3(scaled(features, self.width), use_bias=False, **kwargs)(x)
                x = nn.relu(BatchNorm(train, axis_name, self.dtype, self.param_dtype)(x))
                x = max_pool(x) if pool else x
            return nn.Dense(self.classes, name="readout", **kwargs)(x.reshape(len(x), -1))

        return on_frames(network, images, self.sees)


def _cifar(depth: int) -> Callable[..., nn.Module]:
    """He et al., CVPR 2016, section 4.2: three stages of (depth - 2) / 6 blocks."""
    depths = ((depth - 2) // 6,) * 3
    return partial(
        ResNet,
        block=PaddedBlock,
        depths=depths,
        features=(16, 32, 64),
        small_stem=True,
        kernel_init=HE_FAN_IN,
        naming="cifar",
    )


TEACHERS: dict[str, Callable[..., nn.Module]] = {
    "convnet": partial(ConvNet, features=(32, 64, 128), pool=(False, True, True)),
    "resnet18": partial(ResNet, block=Block, depths=(2, 2, 2, 2), features=(64, 128, 256, 512)),
    "resnet34": partial(ResNet, block=Block, depths=(3, 4, 6, 3), features=(64, 128, 256, 512)),
    "resnet50": partial(ResNet, block=Bottleneck, depths=(3, 4, 6, 3), features=(64, 128, 256, 512)),
    "resnet19": partial(
        ResNet,
        block=Block,
        depths=(3, 3, 2),
        features=(128, 256, 512),
        hidden=256,
        small_stem=True,
        naming="torchvision-hidden",
    ),
    **{f"resnet{depth}": _cifar(depth) for depth in (20, 32, 44, 56)},
}
"""Every ANN teacher by its name: what `create_teacher` makes a network of."""
