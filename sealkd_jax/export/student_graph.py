r"""A student as a graph of layers, with BatchNorm folded into the layer of weights before it.

Membranes are measured from $v_{reset}$, where ours start, and so is the threshold.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from sealkd_jax.errors import InputError
from sealkd_jax.layers.batch_norm import EPSILON
from sealkd_jax.layers.neurons import Neuron
from sealkd_jax.models import Network, SpikingNet, Variables
from sealkd_jax.models.graph import INPUT, Conv, Dense, Fire, Flatten, Graph, GraphNet, Node, Pool, Weights
from sealkd_jax.models.resnets import LARGE, Block, PreActBlock, ResNet, SEWBlock

Value = tuple[str, ...]  # names of layers, whose sum is meant


def student_graph(network: Network, variables: Variables, image_shape: tuple[int, ...]) -> Graph:
    """The student as a graph from an image `[C, H, W]`, normalised as in training, to logits.

    Args:
        network: a student.
        variables: its parameters and running statistics.
        image_shape: `[H, W, C]`.

    Returns:
        A graph with weights in the type of the parameters.

    Raises:
        InputError: for a network that is no student.
    """
    module, variables = network.module, jax.tree.map(np.asarray, variables)
    if isinstance(module, GraphNet):
        return _imported(module, variables)
    if not isinstance(module, SpikingNet | ResNet) or module.neuron is None:
        raise InputError(f"{type(module).__name__}: cannot be exported; expected a spiking student without attention")
    builder = _Builder(variables, image_shape, module.neuron(), np.dtype(module.param_dtype))
    if isinstance(module, SpikingNet):
        return _spiking_net(builder, module)
    return _resnet(builder, module, image_shape)


def fold(kernel: np.ndarray, bias: np.ndarray, norm: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    r"""A layer of weights `[..., F]` and the BatchNorm after it as one layer.

    $\gamma\,(k x + b - \mu)/\sqrt{\sigma^2 + \epsilon} + \beta = (g k)\,x + g\,(b - \mu) + \beta$ with
    $g = \gamma/\sqrt{\sigma^2 + \epsilon}$.

    Args:
        kernel: `[..., F]`.
        bias: `[F]`.
        norm: `scale` γ, `bias` β, `mean` μ and `var` σ², each `[F]`.
    """
    gain = norm["scale"] / np.sqrt(norm["var"] + EPSILON)
    return kernel * gain, gain * (bias - norm["mean"]) + norm["bias"]


def _imported(module: GraphNet, variables: Variables) -> Graph:
    """The graph of a student that was one, with its present weights. Its input is scaled in the first layers."""
    graph, scale, shift = module.graph, module.scale, module.shift
    weights = {}
    for node in graph.nodes:
        if node.name not in graph.weights:
            continue
        found = variables.params[node.name]
        axes = (3, 2, 0, 1) if found["kernel"].ndim == 4 else (1, 0)
        kernel = np.ascontiguousarray(found["kernel"].transpose(axes))
        if scale and INPUT in node.sources:
            if any(shift) or kernel.ndim != 4:
                raise InputError(f"{node.name}: takes scaled images; expected recordings, and a convolution")
            kernel = kernel * np.asarray(scale, kernel.dtype)[:, None, None]
        weights[node.name] = Weights(kernel, found["bias"])
    return replace(graph, weights=weights)


class _Builder:
    """The layers so far, and the shape of the output of each one."""

    def __init__(self, variables: Variables, image_shape: tuple[int, ...], neurons: Neuron, dtype: np.dtype):
        height, width, channels = image_shape
        self.variables, self.neurons, self.dtype = variables, neurons, dtype
        self.input_shape = (channels, height, width)
        self.nodes: list[Node] = []
        self.all_weights: dict[str, Weights] = {}

    def add(self, name: str, layer: Any, value: Value) -> Value:
        self.nodes.append(Node(name, layer, value))
        return (name,)

    def graph(self, output: Value) -> Graph:
        return Graph(self.input_shape, tuple(self.nodes), output, self.all_weights)

    def shape(self, value: Value) -> tuple[int, ...]:
        return self.graph(value).shapes[value[0]]

    def weights(self, layer: tuple[str, ...], norm: tuple[str, ...] | None) -> Weights:
        """Kernel `[..., F]` and bias `[F]` of a layer, with the BatchNorm at `norm` folded in."""
        found = _at(self.variables.params, layer)
        kernel = found["kernel"].astype(self.dtype)
        bias = found.get("bias", np.zeros(kernel.shape[-1], self.dtype)).astype(self.dtype)
        if norm is None:
            return Weights(kernel, bias)
        kernel, bias = fold(kernel, bias, _at(self.variables.params, norm) | _at(self.variables.stats, norm))
        return Weights(kernel.astype(self.dtype), bias.astype(self.dtype))

    def conv(self, layer: tuple[str, ...], norm: tuple[str, ...], value: Value, stride: int = 1) -> Value:
        kernel, bias = self.weights(layer, norm)
        name, size = "_".join(layer), kernel.shape[0]
        self.all_weights[name] = Weights(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)), bias)
        return self.add(name, Conv((size, size), (stride, stride), (size // 2, size // 2)), value)

    def dense(self, layer: tuple[str, ...], norm: tuple[str, ...] | None, value: Value) -> Value:
        """A dense layer. An image before it is flattened: our order is `[H, W, C]`, the graph's `[C, H, W]`."""
        kernel, bias = self.weights(layer, norm)
        name, shape = "_".join(layer), self.shape(value)
        if len(shape) == 3:
            channels, height, width = shape
            kernel = kernel.reshape(height, width, channels, -1).transpose(2, 0, 1, 3).reshape(len(kernel), -1)
            value = self.add(f"{name}_flatten", Flatten(), value)
        self.all_weights[name] = Weights(np.ascontiguousarray(kernel.T), bias)
        return self.add(name, Dense(), value)

    def neuron(self, path: tuple[str, ...], value: Value) -> Value:
        neurons = self.neurons
        rest = neurons.v_reset or 0.0
        decay = neurons.export_decay(_at(self.variables.params, path))
        return self.add("_".join(path), Fire(decay, neurons.threshold - rest, neurons.v_reset is None), value)

    def pool(self, name: str, kind: Any, value: Value, size: int = 2, padding: int = 0) -> Value:
        return self.add(name, Pool(kind, (size, size), (2, 2), (padding, padding)), value)


def _at(tree: Any, path: tuple[str, ...]) -> dict[str, Any]:
    for name in path:
        tree = tree.get(name, {})  # neurons without parameters
    return dict(tree)


def _spiking_net(builder: _Builder, module: SpikingNet) -> Graph:
    value: Value = (INPUT,)
    for position, pool in enumerate(module.pool):
        block = f"block_{position}"
        if module.convolution:
            value = builder.conv((block, "Conv_0"), (block, "BatchNorm_0"), value)
        else:
            value = builder.dense((block, "Dense_0"), (block, "BatchNorm_0"), value)
        value = builder.neuron((block, "neuron"), value)
        if pool:
            value = builder.pool(f"{block}_pool", "mean" if module.average else "max", value)
    return builder.graph(builder.dense(("readout",), None, value))


def _resnet(builder: _Builder, module: ResNet, image_shape: tuple[int, ...]) -> Graph:
    large = not module.small_stem and min(image_shape[:2]) >= LARGE
    value = builder.conv(("stem",), ("stem_bn",), (INPUT,), 2 if large else 1)
    if module.block.starts_activated:
        value = builder.neuron(("stem_neuron",), value)
    if large:
        value = builder.pool("stem_pool", "max", value, 3, padding=1)
    block = {Block: _block, PreActBlock: _pre_act_block, SEWBlock: _sew_block}[module.block]
    for stage, depth in enumerate(module.depths, start=1):
        for position in range(depth):
            stride = 2 if stage > 1 and position == 0 else 1
            value = block(builder, f"layer{stage}_{position}", value, stride)
    _, height, width = builder.shape(value)
    value = builder.add("mean", Pool("mean", (height, width), (1, 1)), value)
    value = builder.add("mean_flatten", Flatten(), value)
    if module.hidden:
        value = builder.neuron(("hidden_neuron",), builder.dense(("hidden",), None, value))
    return builder.graph(builder.dense(("readout",), None, value))


def _conv(builder: _Builder, block: str, name: str, value: Value, stride: int = 1) -> Value:
    return builder.conv((block, name), (block, f"{name}_bn"), value, stride)


def _skip(builder: _Builder, block: str, value: Value, stride: int) -> Value:
    has_weights = "shortcut" in builder.variables.params[block]
    return _conv(builder, block, "shortcut", value, stride) if has_weights else value


def _block(builder: _Builder, block: str, x: Value, stride: int) -> Value:
    y = builder.neuron((block, "neuron1"), _conv(builder, block, "conv1", x, stride))
    y = _conv(builder, block, "conv2", y)
    return builder.neuron((block, "neuron2"), y + _skip(builder, block, x, stride))


def _pre_act_block(builder: _Builder, block: str, x: Value, stride: int) -> Value:
    y = _conv(builder, block, "conv1", builder.neuron((block, "neuron1"), x), stride)
    y = _conv(builder, block, "conv2", builder.neuron((block, "neuron2"), y))
    return y + _skip(builder, block, x, stride)


def _sew_block(builder: _Builder, block: str, x: Value, stride: int) -> Value:
    y = builder.neuron((block, "neuron1"), _conv(builder, block, "conv1", x, stride))
    y = builder.neuron((block, "neuron2"), _conv(builder, block, "conv2", y))
    shortcut = _skip(builder, block, x, stride)
    return y + (shortcut if shortcut == x else builder.neuron((block, "shortcut_neuron"), shortcut))
