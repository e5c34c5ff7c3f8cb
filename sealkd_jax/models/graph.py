"""A network as a graph of layers: students are exported through it, and graphs of other tools become students by it.

Axis legend: T timesteps, B batch, C channels, H height, W width; F features, I inputs of a layer of weights. Weights
and shapes are those of NIR, ONNX and PyTorch: kernels `[F, I, H, W]` or `[F, I]`; an image is flattened as `[C, H, W]`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from sealkd_jax.layers.neurons import IAF, LIF
from sealkd_jax.layers.time import add_time_axis, per_timestep, repeat_over_time

Pair = tuple[int, int]
INPUT = "input"
"""The name of the value that enters a graph."""


@dataclass(frozen=True)
class Conv:
    """A convolution with zeros as padding on both sides."""

    size: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1


@dataclass(frozen=True)
class Dense:
    """A dense layer."""


@dataclass(frozen=True)
class Flatten:
    """An image `[C, H, W]` as one axis."""


@dataclass(frozen=True)
class Pool:
    """Pooling of each channel; zeros as padding, which count in a mean."""

    kind: Literal["mean", "sum", "max"]
    size: Pair
    stride: Pair
    padding: Pair = (0, 0)


@dataclass(frozen=True)
class Fire:
    """Neurons. Membranes start at 0, and fire at the threshold or above it.

    Attributes:
        decay: share of the membrane that is left after a timestep; 1: no leak.
        threshold: of the membrane.
        soft_reset: a spike subtracts the threshold; otherwise it sets the membrane to 0.
    """

    decay: float
    threshold: float
    soft_reset: bool = False


@dataclass(frozen=True)
class Node:
    """A layer with its name, and the names of those whose outputs it takes: their sum."""

    name: str
    layer: Conv | Dense | Flatten | Pool | Fire
    sources: tuple[str, ...]


class Weights(NamedTuple):
    """Of a layer: kernel `[F, I, H, W]` or `[F, I]`, and bias `[F]`."""

    kernel: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True, eq=False)
class Graph:
    """Layers, sources before those that take from them.

    Attributes:
        input_shape: `[C, H, W]` of an image, or `[F]`.
        nodes: the layers.
        output: the names of the layers whose sum is the output.
        weights: of each layer of weights, by its name.
        scales: `[F]` of each layer whose kernel is `scale * n` with whole numbers n of eight bits, by its name.
    """

    input_shape: tuple[int, ...]
    nodes: tuple[Node, ...]
    output: tuple[str, ...]
    weights: Mapping[str, Weights]
    scales: Mapping[str, np.ndarray] = field(default_factory=dict)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of the output of each layer, `[C, H, W]` or `[F]`, and of the input."""
        shapes = {INPUT: self.input_shape}
        for node in self.nodes:
            shapes[node.name] = self._shape(node, shapes[node.sources[0]])
        return shapes

    def _shape(self, node: Node, shape: tuple[int, ...]) -> tuple[int, ...]:
        match node.layer:
            case Dense():
                return (len(self.weights[node.name].bias),)
            case Flatten():
                return (math.prod(shape),)
            case Conv() as conv:
                return (len(self.weights[node.name].bias), *_windows(shape[1:], conv, conv.dilation))
            case Pool() as pool:
                return (shape[0], *_windows(shape[1:], pool))
        return shape

    def map_nodes(self, change: Callable[[Node], list[Node]]) -> "Graph":
        """The graph with each node replaced by others, the last of which has its name."""
        return replace(self, nodes=tuple(new for node in self.nodes for new in change(node)))

    def consumers(self, name: str) -> list[Node]:
        """The layers that take the output of this one."""
        return [node for node in self.nodes if name in node.sources]


def _windows(image: tuple[int, ...], layer: Conv | Pool, dilation: Pair = (1, 1)) -> tuple[int, ...]:
    """The number of places of a window along each side of an image."""
    sides = zip(image, layer.size, layer.stride, layer.padding, dilation, strict=True)
    return tuple((n + 2 * padding - step * (size - 1) - 1) // stride + 1 for n, size, stride, padding, step in sides)


class GraphNet(nn.Module):
    """A graph as a student: images `[B, H, W, C]` or frames `[T, B, H, W, C]` to outputs `[T, B, F]`.

    Its variables start as the weights of the graph.

    Attributes:
        graph: the layers and their weights.
        scale, shift: of each channel, `images * scale + shift` is what the graph takes; empty: images as they are.
    """

    graph: Graph
    scale: tuple[float, ...] = ()
    shift: tuple[float, ...] = ()
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    neuron = None  # its neurons have no parameters and no one factory

    @nn.compact
    def __call__(
        self, images: jax.Array, *, timesteps: int, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        x = add_time_axis(images).astype(self.dtype)
        if self.scale:
            x = x * self._channels(self.scale, x) + self._channels(self.shift, x)
        if len(self.graph.input_shape) == 1:
            x = _flatten(x)
        values = {INPUT: x}
        for node in self.graph.nodes:
            values[node.name] = self._apply(node, _sum(values, node.sources), timesteps)
        return _sum(values, self.graph.output)

    def _channels(self, values: tuple[float, ...], x: jax.Array) -> jax.Array:
        return jnp.asarray(values, self.dtype).reshape((1,) * (x.ndim - 1) + (-1,))

    def _apply(self, node: Node, x: jax.Array, timesteps: int) -> jax.Array:
        match node.layer:
            case Dense() | Conv():
                return per_timestep(self._weights(node), x)
            case Flatten():
                return _flatten(x)
            case Pool() as pool:
                return per_timestep(lambda y: _pool(y, pool), x)
            case Fire() as fire:
                neuron = IAF if fire.decay == 1 else LIF
                kwargs: dict[str, Any] = {
                    "decay": fire.decay,
                    "threshold": fire.threshold,
                    "v_reset": None if fire.soft_reset else 0.0,
                }
                return neuron(**kwargs, name=node.name)(repeat_over_time(x, timesteps))
        raise AssertionError(node.layer)

    def _weights(self, node: Node) -> nn.Module:
        kernel, bias = self.graph.weights[node.name]
        axes = (2, 3, 1, 0) if kernel.ndim == 4 else (1, 0)
        kwargs: dict[str, Any] = {
            "features": len(bias),
            "kernel_init": _constant(kernel.transpose(axes)),
            "bias_init": _constant(bias),
            "dtype": self.dtype,
            "param_dtype": self.param_dtype,
            "name": node.name,
        }
        if isinstance(node.layer, Dense):
            return nn.Dense(**kwargs)
        conv = node.layer
        assert isinstance(conv, Conv)
        return nn.Conv(
            kernel_size=conv.size,
            strides=conv.stride,
            padding=[(side, side) for side in conv.padding],
            kernel_dilation=conv.dilation,
            feature_group_count=conv.groups,
            **kwargs,
        )


def _flatten(x: jax.Array) -> jax.Array:
    """`[T, B, H, W, C]` as `[T, B, C·H·W]`."""
    return jnp.moveaxis(x, -1, 2).reshape(*x.shape[:2], -1)


def _sum(values: dict[str, jax.Array], names: tuple[str, ...]) -> jax.Array:
    first, *others = (values[name] for name in names)
    return sum(others, first)


def _constant(array: np.ndarray) -> Callable[..., jax.Array]:
    return lambda key, shape, dtype: jnp.asarray(array, dtype)


def _pool(x: jax.Array, pool: Pool) -> jax.Array:
    padding = [(side, side) for side in pool.padding]
    if pool.kind == "max":
        return nn.max_pool(x, pool.size, pool.stride, padding)
    total = nn.pooling.pool(x, 0.0, jax.lax.add, pool.size, pool.stride, padding)
    return total / math.prod(pool.size) if pool.kind == "mean" else total
