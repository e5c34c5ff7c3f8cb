"""Published networks in PyTorch, written from their structure, with the names of their published weights.

With PyTorch, from the root of the repository, this writes the stored results again:

    python -m tests.helpers.torch_published tests/parity/published.json
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.helpers.published_weights import CASES, CLASSES, make_images, make_weights


def conv(inputs, outputs, size, stride=1):
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)


class Residual(nn.Module):
    """A basic block or a bottleneck; `shortcut` is the name of its convolved shortcut."""

    def __init__(self, inputs, features, stride, bottleneck, shortcut):
        super().__init__()
        sizes, outputs = ((1, 3, 1), 4 * features) if bottleneck else ((3, 3), features)
        self.depth, self.of_shortcut = len(sizes), shortcut
        widths = [inputs, *[features] * (len(sizes) - 1), outputs]
        at = 1 if bottleneck else 0  # the convolution with the stride
        for n, size in enumerate(sizes):
            self.add_module(f"conv{n + 1}", conv(widths[n], widths[n + 1], size, stride if n == at else 1))
            self.add_module(f"bn{n + 1}", nn.BatchNorm2d(widths[n + 1]))
        if stride > 1 or inputs != outputs:
            self.add_module(shortcut, nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for n in range(1, self.depth + 1):
            y = getattr(self, f"bn{n}")(getattr(self, f"conv{n}")(y))
            y = F.relu(y) if n < self.depth else y
        return F.relu(y + getattr(self, self.of_shortcut, nn.Identity())(x))


class ResNet(nn.Module):
    def __init__(self, depths, features, *, bottleneck=False, large=False, shortcut="downsample", readout="fc"):
        super().__init__()
        self.large, self.readout, self.stages = large, readout, len(depths)
        inputs = features[0]
        self.conv1 = nn.Conv2d(3, inputs, 7, 2, 3, bias=False) if large else conv(3, inputs, 3)
        self.bn1 = nn.BatchNorm2d(inputs)
        for stage, (depth, outputs) in enumerate(zip(depths, features, strict=True), 1):
            blocks = []
            for position in range(depth):
                stride = 2 if stage > 1 and position == 0 else 1
                blocks.append(Residual(inputs, outputs, stride, bottleneck, shortcut))
                inputs = outputs * (4 if bottleneck else 1)
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        self.add_module(readout, nn.Linear(inputs, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.max_pool2d(x, 3, 2, 1) if self.large else x
        for stage in range(1, self.stages + 1):
            x = getattr(self, f"layer{stage}")(x)
        return getattr(self, self.readout)(x.mean((2, 3)))


class VGG(nn.Module):
    def __init__(self, depths, features, hidden, pooled):
        super().__init__()
        layers, inputs = [], 3
        for depth, outputs in zip(depths, features, strict=True):
            for _ in range(depth):
                layers += [nn.Conv2d(inputs, outputs, 3, 1, 1), nn.BatchNorm2d(outputs), nn.ReLU()]
                inputs = outputs
            layers.append(nn.MaxPool2d(2, 2))
        self.features, self.pool = nn.Sequential(*layers), nn.AdaptiveAvgPool2d(pooled)
        inputs *= pooled**2
        last = nn.Linear(hidden or inputs, CLASSES)
        if hidden:
            between = [nn.Linear(inputs, hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden, hidden), nn.ReLU()]
            last = nn.Sequential(*between, nn.Dropout(), last)
        self.classifier = last

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.pool(self.features(x)).flatten(1))


class Wide(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), conv(inputs, outputs, 3, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(outputs), conv(outputs, outputs, 3)
        self.convShortcut = conv(inputs, outputs, 1, stride) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(x))
        shortcut = x if self.convShortcut is None else self.convShortcut(y)
        return shortcut + self.conv2(F.relu(self.bn2(self.conv1(y))))


class WideResNet(nn.Module):
    def __init__(self, depth, stem, features):
        super().__init__()
        self.conv1, inputs = conv(3, stem, 3), stem
        for stage, outputs in enumerate(features, 1):
            blocks = [
                Wide(inputs, outputs, 2 if stage > 1 else 1),
                *(Wide(outputs, outputs, 1) for _ in range(depth - 1)),
            ]
            self.add_module(f"block{stage}", nn.ModuleDict({"layer": nn.Sequential(*blocks)}))
            inputs = outputs
        self.bn1, self.fc = nn.BatchNorm2d(inputs), nn.Linear(inputs, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for stage in (1, 2, 3):
            x = getattr(self, f"block{stage}")["layer"](x)
        return self.fc(F.relu(self.bn1(x)).mean((2, 3)))


class Attention(nn.Module):
    def __init__(self, features, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(features, 3 * features), nn.Linear(features, features)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class Encoder(nn.Module):
    def __init__(self, features, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(features, eps=1e-6), nn.LayerNorm(features, eps=1e-6)
        self.attn = Attention(features, heads)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(features, 4 * features), "fc2": nn.Linear(4 * features, features)})

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class ViT(nn.Module):
    def __init__(self, features, heads, patch, side, depth=12):
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, features, patch, patch)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, features))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (side // patch) ** 2, features))
        self.blocks = nn.Sequential(*(Encoder(features, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(features, eps=1e-6), nn.Linear(features, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed["proj"](x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])


DEEP = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
VGGS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def make(name: str, width: float, side: int) -> nn.Module:
    def scaled(*features):
        return [max(1, round(f * width)) for f in features]

    kind, _, end = name.partition("-")
    if name.startswith("vgg"):
        hidden, pooled = {"": (0, 1), "512": (512, 1), "4096": (4096, 7)}[end]
        hidden = hidden and scaled(hidden)[0]
        return VGG(VGGS[int(kind[3:])], scaled(64, 128, 256, 512, 512), hidden, pooled)
    if name.startswith("wide"):
        return WideResNet(4, *scaled(16), scaled(160, 320, 640))
    if name.startswith("vit"):
        _, size, patch = name.split("-")
        features, heads = {"small": (384, 6), "base": (768, 12)}[size]
        return ViT(round(features * width), heads, int(patch[5:]), side)
    if name.endswith("b"):
        return ResNet([(int(name[6:-1]) - 2) // 6] * 3, scaled(16, 32, 64))
    layers = int((end if kind == "cifar" else kind)[6:])
    names = {"shortcut": "shortcut", "readout": "linear"} if kind == "cifar" else {"large": end == "7x7"}
    return ResNet(DEEP[layers], scaled(64, 128, 256, 512), bottleneck=layers == 50, **names)


def observe(name: str, width: float, side: int) -> dict:
    """Names and shapes of the weights, and the logits `[2, classes]` with those of `make_weights`, in float64."""
    module = make(name, width, side).double().eval()
    arrays = {key: tuple(array.shape) for key, array in module.state_dict().items() if "num_batches" not in key}
    weights = {key: torch.from_numpy(array) for key, array in make_weights(arrays).items()}
    module.load_state_dict(weights, strict=False)
    with torch.no_grad():
        logits = module(torch.from_numpy(np.moveaxis(make_images(side), -1, 1)))
    return {"arrays": arrays, "logits": logits.tolist()}


def main(out: Path) -> None:
    found = {name: observe(name, width, side) for name, (width, side) in CASES.items()}
    out.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
