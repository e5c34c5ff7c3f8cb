"""The network that a file of weights belongs to, found by its names and shapes."""

import re
from collections.abc import Mapping

from sealkd_jax.models import PUBLISHED, TEACHERS
from sealkd_jax.models.published import HEADS
from sealkd_jax.models.resnets import LARGE
from sealkd_jax.models.vgg import DEPTHS

Shapes = Mapping[str, tuple[int, ...]]
"""The shape of each array by its name in PyTorch, without a prefix that all names share."""


def find_architecture(shapes: Shapes) -> str | None:
    """The name of a teacher whose weights these are; None if they look like none. Whether all fit is not checked."""
    for family in (_resnet, _vgg, _wide_resnet, _vit):
        if (name := family(shapes)) in TEACHERS or name in PUBLISHED:
            return name
    return None


def with_stem_of(name: str, shapes: Shapes, side: int) -> str:
    """The network of that name with the stem of the weights: `resnet18-7x7` where `resnet18` would have a 3x3 one.

    `side` is the shorter one of the images, in pixels, by which `resnet18` chooses its stem.
    """
    stem, usual = _stem(shapes), "7x7" if side >= LARGE else "3x3"
    variant = f"{name}-{stem}"
    return variant if variant in PUBLISHED and stem != usual else name


def _stem(shapes: Shapes) -> str:
    return "x".join(map(str, shapes.get("conv1.weight", ())[2:]))


def _resnet(shapes: Shapes) -> str | None:
    blocks = {match.groups() for name in shapes if (match := re.match(r"layer(\d)\.(\d+)\.", name))}
    stages = sorted({stage for stage, _ in blocks})
    depths = tuple(sum(stage == of for of, _ in blocks) for stage in stages)
    readout = next((name for name in ("fc", "linear", "fc.0") if f"{name}.weight" in shapes), None)
    shortcut = next((name for name in ("downsample", "shortcut") if any(f".{name}.0." in key for key in shapes)), None)
    bottleneck = "layer1.0.conv3.weight" in shapes
    layers = {(2, 2, 2, 2): 18, (3, 4, 6, 3): 50 if bottleneck else 34}.get(depths)
    match readout, shortcut, len(depths):
        case "linear", None, 3:
            return f"resnet{6 * depths[0] + 2}"
        case "fc", "downsample", 3:
            return f"resnet{6 * depths[0] + 2}b"
        case "fc.0", "downsample", 3:
            return "resnet19"
        case "fc", "downsample", 4:
            return f"resnet{layers}-{_stem(shapes)}"
        case "linear", "shortcut", 4:
            return f"cifar-resnet{layers}"
    return None


def _vgg(shapes: Shapes) -> str | None:
    convolutions = sum(name.startswith("features.") and len(shape) == 4 for name, shape in shapes.items())
    layers = {sum(depths): layers for layers, depths in DEPTHS.items()}.get(convolutions)
    hidden = shapes.get("classifier.0.weight", (0,))[0]
    ends = {hidden: end for end, (hidden, _) in HEADS.items()}
    if layers is None or "features.1.running_var" not in shapes or hidden not in ends:
        return None
    return f"vgg{layers}{ends[hidden]}"


def _wide_resnet(shapes: Shapes) -> str | None:
    depth = len({name.split(".")[2] for name in shapes if name.startswith("block1.layer.")})
    return "wideresnet28-10" if depth == 4 else None


def _vit(shapes: Shapes) -> str | None:
    kernel = shapes.get("patch_embed.proj.weight", ())
    size = {384: "small", 768: "base"}.get(kernel[0] if kernel else 0)
    return f"vit-{size}-patch{kernel[-1]}" if size else None
