"""Weights as files: our own format, and PyTorch's names and files."""

from sealkd_jax.weights.own import load_weights, params_digest, save_weights
from sealkd_jax.weights.torch_names import export_torch, import_torch

__all__ = ["export_torch", "import_torch", "load_weights", "params_digest", "save_weights"]
