"""Weights to and from PyTorch: names and the order of axes.

A path such as `params/layer1_0/conv2_bn/scale` becomes `layer1.0.bn2.weight`. `_0` at the end of a part becomes `.0`;
`NAMES` renames parts, `_LEAVES` the last part; parameters of neurons are named by `Neuron.torch_parameters`. Kernels of
convolutions are `[H, W, I, O]` here and `[O, I, H, W]` in PyTorch, `[N, I, O]` and `[O, I, N]` along tokens, those of
dense layers `[I, O]` and `[O, I]`; arrays that are not called `weight` there keep their axes. A dense
layer on a flattened image has its inputs in the order H, W, C; in PyTorch they would be in the order C, H, W.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from sealkd_jax.errors import InputError
from sealkd_jax.files import replacing
from sealkd_jax.layers.neurons import TorchParameter
from sealkd_jax.models import Network, Variables
from sealkd_jax.weights._torch_files import Stored, open_state_dict
from sealkd_jax.weights.own import check_values

_BLOCK = {"conv1_bn": "bn1", "conv2_bn": "bn2", "conv3_bn": "bn3"}
_TORCHVISION = {
    **_BLOCK,
    "stem": "conv1",
    "stem_bn": "bn1",
    "stem_neuron": "sn1",
    "neuron1": "sn1",
    "neuron2": "sn2",
    "shortcut": "downsample.0",
    "shortcut_bn": "downsample.1",
    "shortcut_neuron": "downsample.2",
    "readout": "fc",
}
_SEAL_KD = {
    **_BLOCK,
    "stem": "conv0.0",
    "stem_bn": "conv0.1",
    "stem_neuron": "conv0.2",
    "neuron1": "spike1",
    "neuron2": "spike2",
    "shortcut": "shortcut.0",
    "shortcut_bn": "shortcut.1",
    "readout": "classifier.0",
}

NAMES: dict[str, dict[str, str]] = {
    # The SeAl-KD authors' ANNs, ResNet-19 with a hidden layer, and student for ImageNet; SpikingJelly's SEW-ResNets.
    "torchvision": _TORCHVISION,
    "torchvision-hidden": _TORCHVISION | {"hidden": "fc.0", "readout": "fc.2"},
    # The SeAl-KD authors' students, ResNet-19 with a hidden layer.
    "seal-kd": _SEAL_KD,
    "seal-kd-hidden": _SEAL_KD | {"hidden": "classifier.0", "hidden_neuron": "classifier.1", "readout": "classifier.2"},
    # akamaster/pytorch_resnet_cifar10.
    "cifar": _TORCHVISION | {"readout": "linear"},
    # zhouchenlin2096/QKFormer.
    "qkformer": {
        f"{name}_conv_bn": f"{name}_bn"
        for name in ("q", "k", "v", "proj", "proj1", "proj3", "proj4", "proj_res", "mlp1", "mlp2")
    },
    # kuangliu/pytorch-cifar.
    "kuangliu": _TORCHVISION | {"shortcut": "shortcut.0", "shortcut_bn": "shortcut.1", "readout": "linear"},
}
"""PyTorch's names of parts of a path, by the `naming` of a network."""

_LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


def import_torch(path: Path, network: Network, like: Variables) -> Variables:
    """Reads a PyTorch state dict from a file of `torch.save`, safetensors or `numpy.savez`; PyTorch is not needed.

    A prefix that all names share, such as `module.`, is dropped, and BatchNorm's `num_batches_tracked` ignored.

    Args:
        path: of the file.
        network: the network of these weights.
        like: its variables, arrays or `jax.ShapeDtypeStruct`.

    Returns:
        Variables with the structure, shapes and dtypes of `like`.

    Raises:
        InputError: if the file cannot be read, does not hold exactly the arrays of this network, or has NaN, infinity
            or a negative variance.
    """
    wanted = torch_names(network, like)
    convert = {parameter.name: parameter.from_torch for parameter in _neuron_parameters(network).values()}
    with open_state_dict(path) as state_dict:
        prefix, expected = _shared_prefix(state_dict), _shared_prefix(wanted)
        found = {expected + name.removeprefix(prefix): stored for name, stored in state_dict.items()}
        shapes = {name: stored.shape for name, stored in found.items() if not name.endswith("num_batches_tracked")}
        _compare(path, {name: _torch_shape(name, leaf.shape) for name, leaf in wanted.items()}, shapes)
        with np.errstate(over="ignore"):  # an overflow to infinity is found below
            arrays = {
                name: _convert(name, _read(name, found[name]), _FROM_TORCH, convert).astype(leaf.dtype)
                for name, leaf in wanted.items()
            }
    check_values(path, arrays)
    return jax.tree.unflatten(jax.tree.structure(like), list(arrays.values()))


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each array of a PyTorch state dict by its name, without a prefix that all share.

    Raises:
        InputError: if the file cannot be read.
    """
    with open_state_dict(path) as state_dict:
        prefix = _shared_prefix(state_dict)
        return {name.removeprefix(prefix): stored.shape for name, stored in state_dict.items()}


def export_torch(path: Path, network: Network, variables: Variables) -> None:
    """Writes a `.safetensors` file for `load_state_dict` of the PyTorch network. `import_torch` reads it back.

    Args:
        path: of the file. It is written at once: no reader finds a part of it.
        network: the network of these weights.
        variables: all its parameters and running statistics.
    """
    convert = {parameter.name: parameter.to_torch for parameter in _neuron_parameters(network).values()}
    names = torch_names(network, variables)
    arrays = {name: _convert(name, np.asarray(leaf), _TO_TORCH, convert) for name, leaf in names.items()}
    with replacing(path) as partial:
        save_file(arrays, partial, metadata={"format": "pt"})


def torch_names(network: Network, variables: Variables) -> dict[str, Any]:
    """Every leaf of the variables by its name in PyTorch."""
    parts = NAMES.get(getattr(network.module, "naming", ""), {})
    last = _LEAVES | {name: parameter.name for name, parameter in _neuron_parameters(network).items()}
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    return {_torch_name([key.key for key in path[1:]], parts, last): leaf for path, leaf in leaves}


def _neuron_parameters(network: Network) -> Mapping[str, TorchParameter]:
    neuron = getattr(network.module, "neuron", None)
    return neuron().torch_parameters if neuron else {}


def _torch_name(path: list[str], parts: dict[str, str], last: dict[str, str]) -> str:
    *before, leaf = path
    renamed = [parts.get(part, re.sub(r"_(\d+)$", r".\1", part)) for part in before]
    return ".".join([*renamed, last.get(leaf, leaf)])


# Order of the axes of weights, by their number: convolutions of images and of tokens, dense layers.
_TO_TORCH = {4: (3, 2, 0, 1), 3: (2, 1, 0), 2: (1, 0)}
_FROM_TORCH = {4: (2, 3, 1, 0), 3: (2, 1, 0), 2: (1, 0)}


def _convert(
    name: str,
    array: np.ndarray,
    axes: dict[int, tuple[int, ...]],
    of_neurons: Mapping[str, Callable[[np.ndarray], np.ndarray]],
) -> np.ndarray:
    convert = of_neurons.get(name.rpartition(".")[2])
    if convert:
        return np.asarray(convert(array))
    return np.ascontiguousarray(array.transpose(_order(name, array.ndim, axes)))


def _order(name: str, ndim: int, axes: dict[int, tuple[int, ...]]) -> Sequence[int]:
    return axes.get(ndim, range(ndim)) if name.endswith("weight") else range(ndim)


def _shared_prefix(names: Iterable[str]) -> str:
    """The modules that all names begin with, such as `module.student.`."""
    modules = zip(*(name.split(".")[:-1] for name in names), strict=False)  # the outermost first
    return "".join(f"{same[0]}." for same in takewhile(lambda parts: len(set(parts)) == 1, modules))


def _read(name: str, stored: Stored) -> np.ndarray:
    array = stored.read()
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(f"{name}: expected floating point numbers, got {array.dtype}")
    return array


def _torch_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(shape[axis] for axis in _order(name, len(shape), _TO_TORCH))


def _compare(path: Path, wanted: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]) -> None:
    complaints = {
        "missing": sorted(wanted.keys() - found.keys()),
        "not expected": sorted(found.keys() - wanted.keys()),
        "another shape": [
            f"{name} (expected {list(wanted[name])}, got {list(found[name])})"
            for name in sorted(wanted.keys() & found.keys())
            if found[name] != wanted[name]
        ],
    }
    if any(complaints.values()):
        told = "; ".join(f"{what}: {_list(names)}" for what, names in complaints.items() if names)
        raise InputError(f"{path}: the file belongs to another network. {told}")


def _list(names: Sequence[str], most: int = 4) -> str:
    more = [f"{len(names) - most} more"] if len(names) > most else []
    return ", ".join([*names[:most], *more])
