"""ANN teachers: images `[B, H, W, C]` to logits `[1, B, classes]`, the one timestep of an ANN.

From frames `[T, B, H, W, C]`: logits `[1, B, classes]` of their mean, or `[T, B, classes]`, one for each frame.

Axis legend: T timesteps, B batch, H height, W width, C channels.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from sealkd_jax.layers.batch_norm import BatchNorm
from sealkd_jax.layers.convolution import conv3x3
from sealkd_jax.layers.pooling import max_pool
from sealkd_jax.layers.time import per_timestep, select_frames
from sealkd_jax.models.network import scale_features
from sealkd_jax.models.resnets import HE_FAN_IN, Bottleneck, PaddedBlock, ResNet, resnet
from sealkd_jax.models.vit import ViT


class ConvNet(nn.Module):
    """3x3 convolution, BatchNorm, ReLU and where asked max-pooling, several times; then a linear read-out.

    Attributes:
        classes: number of logits.
        features: of each convolution, first to last.
        pool: which convolutions halve the image.
        width: factor on `features`.
        frame_mode: see `create_teacher`.
    """

    classes: int
    features: tuple[int, ...]
    pool: tuple[bool, ...]
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
            for features, pool in zip(self.features, self.pool, strict=True):
                x = conv3x3(scale_features(features, self.width), use_bias=False, **kwargs)(x)
                x = nn.relu(BatchNorm(train, axis_name, self.dtype, self.param_dtype)(x))
                x = max_pool(x) if pool else x
            return nn.Dense(self.classes, name="readout", **kwargs)(x.reshape(len(x), -1))

        return per_timestep(network, select_frames(images, self.frame_mode))


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
    "resnet18": resnet(18),
    "resnet34": resnet(34),
    "resnet50": resnet(50, Bottleneck),
    "resnet19": resnet(19, hidden=256, small_stem=True, naming="torchvision-hidden"),
    **{f"resnet{depth}": _cifar(depth) for depth in (20, 32, 44, 56)},
    # The small size, for ImageNet's images and for CIFAR's.
    **{f"vit-small-patch{patch}": partial(ViT, patch=patch, features=384, depth=12, heads=6) for patch in (16, 4)},
}
"""Every ANN teacher by its name: the modules that `create_teacher` makes."""
