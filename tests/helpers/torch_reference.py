"""What PyTorch computes with the networks of `train.benchmark.torch_networks`, for comparison with ours.

With the extra `parity`, from the root of the repository, this writes the stored results again:

    python -m tests.helpers.torch_reference tests/parity
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from train.benchmark.torch_networks import make


def observe(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """What is compared: logits of both modes, gradients of the mean of squared logits, statistics after the step."""
    found = {f"state/{name}": value.clone() for name, value in network.state_dict().items()}
    network.eval()
    with torch.no_grad():
        found["eval"] = network(images)
    network.train()
    logits = network(images)
    logits.square().mean().backward()
    found |= {"images": images, "train": logits.detach()}
    found |= {f"grad/{name}": parameter.grad for name, parameter in network.named_parameters()}
    found |= {f"after/{name}": value for name, value in network.state_dict().items() if "running_" in name}
    return found


def main(out: Path) -> None:
    images = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1)).double()
    for name, width, timesteps in (
        ("spiking-resnet18", 1 / 32, 4),
        ("spiking-resnet19", 1 / 32, 4),
        ("resnet20", 1 / 8, None),
    ):
        found = observe(make(name, width, timesteps), images)
        for key, value in found.items():
            found[key] = value.float() if key.startswith("state/") and value.is_floating_point() else value
        safetensors.torch.save_file({k: v.contiguous() for k, v in found.items()}, out / f"{name}.safetensors")
    teacher = make("resnet20", 1 / 8, None).float().to(memory_format=torch.channels_last)
    weights = nn.DataParallel(teacher).state_dict()
    bias = weights["module.linear.bias"]
    weights["module.linear.bias"] = torch.cat([torch.ones(3), bias])[3:]  # is saved with all it is a part of
    optimizer = torch.optim.SGD(teacher.parameters(), 0.1).state_dict()
    checkpoint = {"best_acc": 91.5, "best_epoch": 3, "best_net": weights, "optimizer": optimizer}
    torch.save(checkpoint, out / "resnet20.pth")
    # As before PyTorch 1.6, with objects beside the weights.
    weights = {f"module.student.{name}": array for name, array in teacher.state_dict().items()}
    beside = {"args": argparse.Namespace(out=Path("runs")), "best": np.float64(91.5), "rng": np.random.RandomState(0)}
    torch.save({"state_dict": weights, **beside}, out / "resnet20.th", _use_new_zipfile_serialization=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
