"""What PyTorch computes with the QKFormer authors' network, unmodified, and with timm's ViT, for comparison with ours.

With the extra `parity`, timm, torchvision, and a clone of https://github.com/zhouchenlin2096/QKFormer, from the root of
the repository, this writes the stored results again:

    SEALKD_QKFORMER=QKFormer/cifar10/model.py python -m tests.helpers.transformer_reference tests/parity
"""

import importlib.util
import os
import sys
import warnings
from pathlib import Path
from types import ModuleType

import safetensors.torch
import torch
from spikingjelly.clock_driven import functional, neuron
from torch import Tensor, nn

from tests.helpers.torch_reference import observe


class PerTimestep(nn.Module):
    """The authors' network from rest at each call, with logits `[T, B, classes]`. Its own are their mean over time."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        functional.reset_net(self.network)
        features = self.network.forward_features(x.unsqueeze(0).repeat(self.network.T, 1, 1, 1, 1))
        return self.network.head(features)


class EachImage(nn.Module):
    """Neurons for `[T*B, ...]` that keep the membranes of the images apart."""

    def __init__(self, lif: nn.Module, timesteps: int):
        super().__init__()
        self.lif, self.timesteps = lif, timesteps

    def forward(self, x: Tensor) -> Tensor:
        return self.lif(x.unflatten(0, (self.timesteps, -1))).flatten(0, 1)


def keep_images_apart(network: nn.Module) -> None:
    """The last neurons of the authors' `Spiking_Self_Attention` get `[T*B, ...]` and take T*B as the time.

    So images of a batch share membranes; see https://github.com/zhouchenlin2096/QKFormer/issues/14. In a batch of one
    image nothing is shared, and ours gives every image the result that it has alone.
    """
    for block in network.stage3:
        block.ssa.proj_lif = EachImage(block.ssa.proj_lif, network.T)


def authors_file() -> Path | None:
    """The authors' `cifar10/model.py`, if `SEALKD_QKFORMER` names it."""
    path = os.environ.get("SEALKD_QKFORMER")
    return Path(path) if path else None


def qkformer(path: Path, features: int, depth: int, timesteps: int) -> PerTimestep:
    """The authors' network of this file, with `features` in its last stage and `depth` blocks.

    The authors run their neurons as CUDA kernels; here SpikingJelly runs the same neurons in PyTorch.
    """
    torch.manual_seed(0)
    module = _load(path)
    check, neuron.check_backend = neuron.check_backend, lambda backend: None
    try:
        network = module.spiking_transformer(
            32, 32, 4, 3, num_classes=10, embed_dims=features, mlp_ratios=4, depths=depth, T=timesteps
        )
    finally:
        neuron.check_backend = check
    for layer in network.modules():
        if isinstance(layer, neuron.MultiStepLIFNode):
            layer.backend = "torch"
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):  # such that neurons fire in every layer
            nn.init.uniform_(layer.weight, 0.7, 1.3)
            nn.init.uniform_(layer.bias, 0.6, 1.2)
            nn.init.normal_(layer.running_mean, std=0.1)
            nn.init.uniform_(layer.running_var, 0.3, 0.9)
    return PerTimestep(network.double())


def vit(size: int, features: int, depth: int, patch: int = 4) -> nn.Module:
    """timm's ViT for images of this size, with logits `[1, B, classes]`; no parameter is near 0."""
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    network = VisionTransformer(size, patch, 3, 10, embed_dim=features, depth=depth, num_heads=6)
    for parameter in network.parameters():
        nn.init.normal_(parameter, 1.0 if parameter.ndim == 1 else 0.0, parameter.shape[-1] ** -0.5)
    return nn.Sequential(network, nn.Unflatten(0, (1, -1))).double()


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("authors_qkformer", path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # timm looks for it there
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names that timm has moved
        spec.loader.exec_module(module)
    return module


def main(out: Path) -> None:
    path = authors_file()
    assert path is not None, "SEALKD_QKFORMER: expected the path of the authors' cifar10/model.py"
    for name, network, shape in (
        ("qkformer", qkformer(path, 32, 3, 2), (1, 3, 16, 16)),
        ("vit-small-patch4", vit(8, 12, 2), (2, 3, 8, 8)),
    ):
        images = torch.randn(shape, generator=torch.Generator().manual_seed(1)).double()
        network.load_state_dict({key: value.float() for key, value in network.state_dict().items()})
        found = {
            key: value.float() if key.startswith(("state/", "grad/")) and value.is_floating_point() else value
            for key, value in observe(network, images).items()
            if not key.startswith("after/")
        }
        safetensors.torch.save_file({k: v.contiguous() for k, v in found.items()}, out / f"{name}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
