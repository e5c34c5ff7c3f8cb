"""A teacher of Hugging Face transformers, in PyTorch.

    pip install transformers torch torchvision
    python -m train.distill cifar10 --teacher docs/bring_your_own/teacher_transformers.py:logits --views 8

The network's own processor resizes and normalises. The network names its classes, which may be in another order than
the data's, or among others.
"""

import numpy as np
import torch
from transformers import AutoImageProcessor, AutoModelForImageClassification

NETWORK = "nateraw/vit-base-patch16-224-cifar10"  # a name on the hub, or a directory

processor = AutoImageProcessor.from_pretrained(NETWORK)
network = AutoModelForImageClassification.from_pretrained(NETWORK).eval()
CLASSES = [network.config.id2label[place] for place in range(network.config.num_labels)]


@torch.inference_mode()
def logits(images: np.ndarray) -> torch.Tensor:
    """uint8 [B, H, W, C], grey ones too, to logits [B, len(CLASSES)]."""
    rgb = np.broadcast_to(images, (*images.shape[:3], 3))
    return network(**processor(images=list(rgb), return_tensors="pt")).logits
