"""Networks whose weights other people have published: ANNs with the structure and the names of those files."""

from collections.abc import Callable
from functools import partial

from flax import linen as nn

from sealkd_jax.models.resnets import Block, Bottleneck, ResNet, resnet
from sealkd_jax.models.vgg import DEPTHS, VGG
from sealkd_jax.models.vit import ViT
from sealkd_jax.models.wide_resnets import WideResNet

_KINDS = {18: Block, 34: Block, 50: Bottleneck}
HEADS = {"": (0, 1), "-512": (512, 1), "-4096": (4096, 7)}
"""Of a VGG, by the end of its name: features of the two dense layers before the last, and the side of their image."""


def _cifar(depth: int) -> Callable[..., nn.Module]:
    """Three stages of (depth - 2) / 6 blocks, whose shortcuts are 1x1 convolutions (option B)."""
    return partial(ResNet, block=Block, depths=((depth - 2) // 6,) * 3, features=(16, 32, 64), small_stem=True)


PUBLISHED: dict[str, Callable[..., nn.Module]] = {
    # As in chenyaofo/pytorch-cifar-models.
    **{f"resnet{depth}b": _cifar(depth) for depth in (20, 32, 44, 56)},
    # As in kuangliu/pytorch-cifar: a 3x3 stem, `shortcut` and `linear`.
    **{f"cifar-resnet{n}": resnet(n, kind, small_stem=True, naming="kuangliu") for n, kind in _KINDS.items()},
    # torchvision's, with its 7x7 stem or a 3x3 one, whatever the size of the images.
    **{f"resnet{n}-3x3": resnet(n, kind, small_stem=True) for n, kind in _KINDS.items()},
    **{f"resnet{n}-7x7": resnet(n, kind, large_stem=True) for n, kind in _KINDS.items()},
    # One dense layer as in kuangliu/pytorch-cifar, three as in chenyaofo/pytorch-cifar-models and in torchvision.
    **{
        f"vgg{n}{end}": partial(VGG, depths=depths, hidden=hidden, pooled=pooled)
        for n, depths in DEPTHS.items()
        for end, (hidden, pooled) in HEADS.items()
    },
    # As in xternalz/WideResNet-pytorch.
    "wideresnet28-10": partial(WideResNet, depth=4, widening=10),
    # As in timm, beside those of `TEACHERS`.
    **{f"vit-small-patch{n}": partial(ViT, patch=n, features=384, depth=12, heads=6) for n in (8, 32)},
    **{f"vit-base-patch{n}": partial(ViT, patch=n, features=768, depth=12, heads=12) for n in (4, 8, 16, 32)},
}
"""Published networks by name, beside `TEACHERS`: the modules that `create_teacher` makes for weights of others."""
