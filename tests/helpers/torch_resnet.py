"""The CIFAR ResNet of He et al., CVPR 2016, section 4.2, in PyTorch: for networks that are exported from there."""

from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """Two 3×3 convolutions; a shortcut that takes every second pixel and fills up the features with zeros."""

    def __init__(self, inputs: int, features: int):
        super().__init__()
        self.stride, self.padding = features // inputs, (features - inputs) // 2
        self.conv1 = nn.Conv2d(inputs, features, 3, self.stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(features)
        self.conv2 = nn.Conv2d(features, features, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(features)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        short = x[:, :, :: self.stride, :: self.stride]
        return torch.relu(y + functional.pad(short, (0, 0, 0, 0, self.padding, self.padding)))


class ResNet(nn.Module):
    def __init__(self, blocks: int, classes: int = 10):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        for stage, (inputs, features) in enumerate([(16, 16), (16, 32), (32, 64)], 1):
            first, rest = Block(inputs, features), [Block(features, features) for _ in range(blocks - 1)]
            setattr(self, f"layer{stage}", nn.Sequential(first, *rest))
        self.linear = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


def load_resnet(weights: Path) -> ResNet:
    """The network of a file of weights with the prefix `module.`, ready to classify."""
    state = torch.load(weights, map_location="cpu", weights_only=True)["state_dict"]
    state = OrderedDict((name.removeprefix("module."), value) for name, value in state.items())
    network = ResNet(blocks=sum(name.startswith("layer1.") and name.endswith("conv1.weight") for name in state))
    network.load_state_dict(state)
    return network.eval()
