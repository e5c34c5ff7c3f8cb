"""Residual networks in PyTorch, spiking ones with SpikingJelly's neurons, to compare with.

They are written from the published structure and name their modules as the published weights do. The extra `parity` has
what they need.

Axis legend: T timesteps, B batch. Layers see `[T*B, C, H, W]`, neurons `[T, B, ...]`.
"""

import torch
from spikingjelly.activation_based import neuron, surrogate
from torch import Tensor, nn


class Neurons(nn.Module):
    """The SeAl-KD authors' LIF, from rest at each call: decay 0.5, hard reset to 0, gradients through the reset."""

    def __init__(self, timesteps: int):
        super().__init__()
        self.timesteps = timesteps
        self.lif = neuron.LIFNode(
            tau=2.0, decay_input=False, v_reset=0.0, surrogate_function=surrogate.Sigmoid(alpha=4.0), step_mode="m"
        )

    def forward(self, x: Tensor) -> Tensor:
        self.lif.reset()
        return self.lif(x.unflatten(0, (self.timesteps, -1))).flatten(0, 1)


def activation(timesteps: int | None) -> nn.Module:
    return nn.ReLU() if timesteps is None else Neurons(timesteps)


def convolution(inputs: int, outputs: int, size: int, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=bias)


def downsampling(inputs: int, outputs: int, stride: int, bias: bool = False) -> nn.Sequential:
    if stride == 1 and inputs == outputs:
        return nn.Sequential()
    return nn.Sequential(convolution(inputs, outputs, 1, stride, bias), nn.BatchNorm2d(outputs))


class Basic(nn.Module):
    """ReLU or neurons after the addition; `shortcut_name` differs between the SeAl-KD authors' students and others."""

    expansion, stem_bias, shortcut_name = 1, False, "downsample"

    def __init__(self, inputs: int, features: int, stride: int, timesteps: int | None):
        super().__init__()
        self.conv1, self.bn1 = convolution(inputs, features, 3, stride), nn.BatchNorm2d(features)
        self.conv2, self.bn2 = convolution(features, features, 3), nn.BatchNorm2d(features)
        self.sn1, self.sn2 = activation(timesteps), activation(timesteps)
        self.add_module(self.shortcut_name, self.make_shortcut(inputs, features, stride))

    def make_shortcut(self, inputs: int, features: int, stride: int) -> nn.Module:
        return downsampling(inputs, features, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.sn1(self.bn1(self.conv1(x)))))
        return self.sn2(y + getattr(self, self.shortcut_name)(x))


class Student(Basic):
    shortcut_name = "shortcut"


class OptionA(nn.Module):
    def __init__(self, more: int, stride: int):
        super().__init__()
        self.more, self.stride = more, stride

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0,) * 4 + (self.more // 2,) * 2)


class Cifar(Basic):
    def make_shortcut(self, inputs: int, features: int, stride: int) -> nn.Module:
        return OptionA(features - inputs, stride)


class Bottleneck(nn.Module):
    expansion, stem_bias = 4, False

    def __init__(self, inputs: int, features: int, stride: int, timesteps: None):
        super().__init__()
        self.conv1, self.bn1 = convolution(inputs, features, 1), nn.BatchNorm2d(features)
        self.conv2, self.bn2 = convolution(features, features, 3, stride), nn.BatchNorm2d(features)
        self.conv3, self.bn3 = convolution(features, 4 * features, 1), nn.BatchNorm2d(4 * features)
        self.relu, self.downsample = nn.ReLU(), downsampling(inputs, 4 * features, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))))
        return self.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class PreAct(nn.Module):
    expansion, stem_bias = 1, True

    def __init__(self, inputs: int, features: int, stride: int, timesteps: int):
        super().__init__()
        self.sn1, self.sn2 = Neurons(timesteps), Neurons(timesteps)
        self.conv1, self.bn1 = convolution(inputs, features, 3, stride, True), nn.BatchNorm2d(features)
        self.conv2, self.bn2 = convolution(features, features, 3, 1, True), nn.BatchNorm2d(features)
        self.downsample = downsampling(inputs, features, stride, True)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv2(self.sn2(self.bn1(self.conv1(self.sn1(x)))))) + self.downsample(x)


class SEW(Basic):
    def make_shortcut(self, inputs: int, features: int, stride: int) -> nn.Module:
        shortcut = downsampling(inputs, features, stride)
        return shortcut.append(activation(self.sn1.timesteps)) if len(shortcut) else shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.sn2(self.bn2(self.conv2(self.sn1(self.bn1(self.conv1(x))))))
        return y + self.downsample(x)


class ResNet(nn.Module):
    """Static images `[B, C, H, W]` to logits `[T, B, classes]`; T is 1 for an ANN."""

    def __init__(self, block, depths, features, hidden=0, readout="fc", timesteps=None, large=False, classes=10):
        super().__init__()
        self.timesteps, self.readout = timesteps or 1, readout
        size, stride = (7, 2) if large else (3, 1)
        stem = [convolution(3, features[0], size, stride, block.stem_bias), nn.BatchNorm2d(features[0])]
        if block is Student:
            self.conv0 = nn.Sequential(*stem)
        else:
            self.conv1, self.bn1 = stem
        self.sn1 = nn.Identity() if block is PreAct else activation(timesteps)
        self.pool = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        inputs = features[0]
        for stage, (depth, outputs) in enumerate(zip(depths, features, strict=True)):
            blocks = []
            for position in range(depth):
                blocks.append(block(inputs, outputs, 2 if stage and not position else 1, timesteps))
                inputs = outputs * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.stages = len(depths)
        if hidden:
            head = nn.Sequential(nn.Linear(inputs, hidden), activation(timesteps), nn.Linear(hidden, classes))
        else:
            head = nn.Linear(inputs, classes)
        self.add_module(readout, nn.Sequential(head) if block is Student and not hidden else head)

    def forward(self, x: Tensor) -> Tensor:
        x = x.repeat(self.timesteps, 1, 1, 1)  # T is the slower of the two axes
        x = self.conv0(x) if hasattr(self, "conv0") else self.bn1(self.conv1(x))
        x = self.pool(self.sn1(x))
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return getattr(self, self.readout)(x.mean((2, 3))).unflatten(0, (self.timesteps, -1))


DEEP, WIDE = (64, 128, 256, 512), (128, 256, 512)
NETWORKS = {
    "spiking-resnet18": {"block": Student, "depths": (2, 2, 2, 2), "features": DEEP, "readout": "classifier"},
    "spiking-resnet19": {
        "block": Student,
        "depths": (3, 3, 2),
        "features": WIDE,
        "hidden": 256,
        "readout": "classifier",
    },
    "spiking-resnet34": {"block": PreAct, "depths": (3, 4, 6, 3), "features": DEEP},
    "sew-resnet18": {"block": SEW, "depths": (2, 2, 2, 2), "features": DEEP},
    "resnet18": {"block": Basic, "depths": (2, 2, 2, 2), "features": DEEP},
    "resnet34": {"block": Basic, "depths": (3, 4, 6, 3), "features": DEEP},
    "resnet50": {"block": Bottleneck, "depths": (3, 4, 6, 3), "features": DEEP},
    "resnet19": {"block": Basic, "depths": (3, 3, 2), "features": WIDE, "hidden": 256},
    "resnet20": {"block": Cifar, "depths": (3, 3, 3), "features": (16, 32, 64), "readout": "linear"},
}


def make(name: str, width: float, timesteps: int | None, large: bool = False, seed: int = 0) -> nn.Module:
    """A network in float64 whose numbers are float32's; BatchNorm's are such that neurons fire in every layer."""
    torch.manual_seed(seed)
    settings = dict(NETWORKS[name])
    settings["features"] = tuple(round(features * width) for features in settings["features"])
    settings["hidden"] = round(settings.get("hidden", 0) * width)
    network = ResNet(timesteps=timesteps, large=large, **settings)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.7, 1.3)
            nn.init.uniform_(module.bias, 0.2, 0.8)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.3, 0.9)
    return network.double()
