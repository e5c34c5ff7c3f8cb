r"""A student as a graph of NIR, the Neuromorphic Intermediate Representation; needs the extra `[export]`.

NIR describes neurons in continuous time. Simulators take Euler steps of length $\Delta t$. NIR's LIF is

$$\tau\,\dot v = (v_{leak} - v) + R\,I \quad\Rightarrow\quad
  v \leftarrow v + \tfrac{\Delta t}{\tau}\,(v_{leak} - v + R\,I) = (1 - \tfrac{\Delta t}{\tau})\,v
  + \tfrac{\Delta t}{\tau}\,R\,I \quad (v_{leak} = 0)$$

and ours, for a membrane measured from $v_{reset}$, is $h = d\,v + x$. They are equal if $1 - \Delta t/\tau = d$ and
$R\,\Delta t/\tau = 1$:

$$\tau = \frac{\Delta t}{1 - d}, \qquad R = \frac{\tau}{\Delta t} = \frac{1}{1 - d}$$

$\Delta t$ is 0.1 ms, as in snnTorch's importer, which sets `beta` to $1 - \Delta t/\tau$ and wants
$R\,\Delta t/\tau = 1$. NIR's IF, $\dot v = R\,I$, has R = 1 here, and a step stands for $v + R\,I$: importers take
no other R.

NIR fires at $v > v_{thr}$, our neurons at $h \ge \theta$. So $v_{thr}$ is the largest number below
$\theta - v_{reset}$, and both fire at the same membranes of that precision.

NIR has no max-pooling. For spikes it is an "or", written as the mean of the window and a LIF with $\tau = \Delta t$,
which forgets at once: it fires if any spike came in. BatchNorm is folded into the layer of weights before it. Several
edges into a node are a sum.

Axis legend: C channels, H height, W width, F features. NIR has `[C, H, W]` where we have `[H, W, C]`.

Reference: Pedersen et al., Neuromorphic intermediate representation, Nature Communications 2024.
"""

from collections.abc import Mapping
from typing import Any

import jax
import nir
import numpy as np

from sealkd_jax.errors import InputError
from sealkd_jax.layers.batch_norm import EPSILON
from sealkd_jax.layers.neurons import LIF, Neuron
from sealkd_jax.models import Network, SpikingNet, Variables
from sealkd_jax.models.resnets import LARGE, Block, PreActBlock, ResNet, SEWBlock

DT = 1e-4
"""Length of a timestep, in seconds."""
Value = tuple[str, ...]  # nodes, whose sum is meant


def to_nir(network: Network, variables: Variables, image_shape: tuple[int, ...]) -> nir.NIRGraph:
    """The student as a graph from one timestep of an image `[C, H, W]`, normalised as in training, to logits.

    Args:
        network: a student.
        variables: its parameters and running statistics.
        image_shape: `[H, W, C]`.

    Returns:
        Nodes in float32, in float64 for a float64 network; a timestep lasts `metadata["dt"]` seconds.

    Raises:
        InputError: for a network with a part that NIR cannot describe.
    """
    module = network.module
    if not isinstance(module, SpikingNet | ResNet) or module.neuron is None:
        raise InputError(f"{type(module).__name__}: cannot become NIR; expected one of the spiking students")
    dtype = np.dtype(module.param_dtype)
    builder = _Builder(jax.tree.map(np.asarray, variables), image_shape, module.neuron(), dtype)
    if isinstance(module, SpikingNet):
        _spiking_net(builder, module)
    else:
        _resnet(builder, module, image_shape)
    return builder.graph()


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


class _Builder:
    """The nodes and edges so far, and the shape of the output of each node, `[C, H, W]` or `[F]`."""

    def __init__(self, variables: Variables, image_shape: tuple[int, ...], neurons: Neuron, dtype: np.dtype):
        height, width, channels = image_shape
        self.variables, self.neurons, self.dtype = variables, neurons, dtype
        self.nodes: dict[str, Any] = {"input": nir.Input({"input": np.array([channels, height, width])})}
        self.shapes: dict[str, tuple[int, ...]] = {"input": (channels, height, width)}
        self.edges: list[tuple[str, str]] = []

    def add(self, name: str, node: Any, value: Value, shape: tuple[int, ...]) -> Value:
        self.nodes[name], self.shapes[name] = node, shape
        self.edges += [(source, name) for source in value]
        return (name,)

    def shape(self, value: Value) -> tuple[int, ...]:
        return self.shapes[value[0]]

    def weights(self, layer: tuple[str, ...], norm: tuple[str, ...] | None) -> tuple[np.ndarray, np.ndarray]:
        """Kernel `[..., F]` and bias `[F]` of a layer, with the BatchNorm at `norm` folded in."""
        found = _at(self.variables.params, layer)
        kernel = found["kernel"].astype(self.dtype)
        bias = found.get("bias", np.zeros(kernel.shape[-1], self.dtype)).astype(self.dtype)
        if norm is None:
            return kernel, bias
        kernel, bias = fold(kernel, bias, _at(self.variables.params, norm) | _at(self.variables.stats, norm))
        return kernel.astype(self.dtype), bias.astype(self.dtype)

    def conv(self, layer: tuple[str, ...], norm: tuple[str, ...], value: Value, stride: int = 1) -> Value:
        kernel, bias = self.weights(layer, norm)
        size = kernel.shape[0]
        node = nir.Conv2d(
            input_shape=self.shape(value)[1:],
            weight=np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)),
            stride=(stride, stride),
            padding=(size // 2, size // 2),
            dilation=(1, 1),
            groups=1,
            bias=bias,
        )
        return self.add("_".join(layer), node, value, tuple(int(n) for n in node.output_type["output"]))

    def dense(self, layer: tuple[str, ...], norm: tuple[str, ...] | None, value: Value) -> Value:
        """A dense layer. An image before it is flattened: our order is `[H, W, C]`, NIR's `[C, H, W]`."""
        kernel, bias = self.weights(layer, norm)
        shape = self.shape(value)
        if len(shape) == 3:
            channels, height, width = shape
            kernel = kernel.reshape(height, width, channels, -1).transpose(2, 0, 1, 3).reshape(len(kernel), -1)
            value = self.flatten("_".join(layer), value)
        node = nir.Affine(np.ascontiguousarray(kernel.T), bias)
        return self.add("_".join(layer), node, value, (kernel.shape[1],))

    def flatten(self, before: str, value: Value) -> Value:
        """Counts axes from the back, so that a batch axis in front, which simulators add, is left alone."""
        shape = self.shape(value)
        node = nir.Flatten({"input": np.array(shape)}, start_dim=-len(shape), end_dim=-1)
        return self.add(f"{before}_flatten", node, value, (int(np.prod(shape)),))

    def neuron(self, path: tuple[str, ...], value: Value) -> Value:
        shape = self.shape(value)
        kind, arguments = self.neurons.nir(_at(self.variables.params, path), DT)
        return self.add("_".join(path), self.node(kind, arguments, shape), value, shape)

    def node(self, kind: str, arguments: dict[str, float], shape: tuple[int, ...]) -> nir.NIRNode:
        """A layer of neurons. NIR fires above the threshold: the largest number below ours."""
        below = np.nextafter(self.dtype.type(arguments["v_threshold"]), self.dtype.type(0))
        values = arguments | {"v_threshold": below}
        return getattr(nir, kind)(**{name: np.full(shape, value, self.dtype) for name, value in values.items()})

    def mean(self, name: str, value: Value, size: tuple[int, int], stride: tuple[int, int], padding: int = 0) -> Value:
        channels, *image = self.shape(value)
        out = [(n + 2 * padding - k) // step + 1 for n, k, step in zip(image, size, stride, strict=True)]
        node = nir.AvgPool2d(np.array(size), np.array(stride), np.array([padding, padding]))
        return self.add(name, node, value, (channels, *out))

    def any(self, name: str, value: Value, size: int, padding: int = 0) -> Value:
        """Max-pooling of spikes with stride 2. One spike in a window makes a mean of 1/size², twice the threshold."""
        mean = self.mean(f"{name}_mean", value, (size, size), (2, 2), padding)
        neuron = LIF(decay=0.0, threshold=0.5 / size**2).nir({}, DT)
        return self.add(name, self.node(*neuron, self.shape(mean)), mean, self.shape(mean))

    def graph(self) -> nir.NIRGraph:
        self.add("output", nir.Output({"output": np.array(self.shape(("readout",)))}), ("readout",), ())
        return nir.NIRGraph(self.nodes, self.edges, metadata={"dt": DT})


def _at(tree: Any, path: tuple[str, ...]) -> dict[str, Any]:
    for name in path:
        tree = tree.get(name, {})  # neurons without parameters
    return dict(tree)


def _spiking_net(builder: _Builder, module: SpikingNet) -> None:
    value: Value = ("input",)
    for position, pool in enumerate(module.pool):
        block = f"block_{position}"
        if module.convolution:
            value = builder.conv((block, "Conv_0"), (block, "BatchNorm_0"), value)
        else:
            value = builder.dense((block, "Dense_0"), (block, "BatchNorm_0"), value)
        value = builder.neuron((block, "neuron"), value)
        if pool and module.average:
            value = builder.mean(f"{block}_pool", value, (2, 2), (2, 2))
        elif pool:
            value = builder.any(f"{block}_pool", value, 2)
    builder.dense(("readout",), None, value)


def _resnet(builder: _Builder, module: ResNet, image_shape: tuple[int, ...]) -> None:
    large = not module.small_stem and min(image_shape[:2]) >= LARGE
    value = builder.conv(("stem",), ("stem_bn",), ("input",), 2 if large else 1)
    if module.block.starts_activated:
        value = builder.neuron(("stem_neuron",), value)
    if large:
        if not module.block.starts_activated:
            raise InputError("spiking-resnet34 for images of ImageNet's size: NIR has no max-pooling of currents")
        value = builder.any("stem_pool", value, 3, padding=1)
    block = {Block: _block, PreActBlock: _pre_act_block, SEWBlock: _sew_block}[module.block]
    for stage, depth in enumerate(module.depths, start=1):
        for position in range(depth):
            stride = 2 if stage > 1 and position == 0 else 1
            value = block(builder, f"layer{stage}_{position}", value, stride)
    _, height, width = builder.shape(value)
    value = builder.flatten("mean", builder.mean("mean", value, (height, width), (1, 1)))
    if module.hidden:
        value = builder.neuron(("hidden_neuron",), builder.dense(("hidden",), None, value))
    builder.dense(("readout",), None, value)


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
