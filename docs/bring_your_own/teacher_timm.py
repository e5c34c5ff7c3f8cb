"""A teacher of timm, in PyTorch.

    pip install timm
    python -m train.distill --teacher docs/bring_your_own/teacher_timm.py:logits --views 4

As it stands the weights are random, and a warning says so: this shows the way. A network that was fine-tuned on your
data has a file of weights. For torchvision, replace the line that makes the network:
torchvision.models.resnet18(num_classes=10).
"""

import numpy as np
import timm
import torch
from torch.nn import functional

NETWORK = "resnet18"
WEIGHTS = ""  # a file, such as "resnet18-cifar10.safetensors"
SIZE = 64  # of the images that it was trained with; 224 for most
VERSION = 1  # to be changed with the file of weights: logits of another version are not used

torch.manual_seed(0)
network = timm.create_model(NETWORK, num_classes=10, checkpoint_path=WEIGHTS).eval()
scale = timm.data.resolve_model_data_config(network)
mean, std = (torch.tensor(scale[name]).reshape(1, -1, 1, 1) for name in ("mean", "std"))


def prepare(images: np.ndarray) -> torch.Tensor:
    """uint8 [B, H, W, C], grey ones too, to what the network was trained with."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    x = functional.interpolate(x.expand(-1, 3, -1, -1), (SIZE, SIZE), mode="bicubic", antialias=True)
    return (x - mean) / std


@torch.inference_mode()
def logits(images: np.ndarray) -> torch.Tensor:
    """uint8 [B, H, W, C] to logits [B, 10]."""
    return network(prepare(images))


@torch.inference_mode()
def logits_and_features(images: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """The same, and the penultimate features [B, F], which are stored beside the logits."""
    features = network.forward_head(network.forward_features(prepare(images)), pre_logits=True)
    return network.get_classifier()(features), features
