"""A student as a graph of NIR, the Neuromorphic Intermediate Representation; needs the extra `[export]`.

NIR has no max-pooling. For spikes it is an "or", written as the mean of the window and a neuron that fires if any spike
came in, and so forgets at once. Several edges into a node are a sum. `dialects` has the equations of neurons.

Axis legend: C channels, H height, W width, F features. NIR has `[C, H, W]` where we have `[H, W, C]`.
"""

import math
from dataclasses import replace
from typing import Any

import nir
import numpy as np

from sealkd_jax.errors import InputError
from sealkd_jax.export.dialects import DT, Dialect, check_dialect
from sealkd_jax.export.student_graph import student_graph
from sealkd_jax.models import Network, Variables
from sealkd_jax.models.graph import INPUT, Conv, Dense, Fire, Flatten, Graph, Node, Pool, Weights

OUTPUT = "output"


def to_nir(
    network: Network, variables: Variables, image_shape: tuple[int, ...], *, dialect: str = "generic"
) -> nir.NIRGraph:
    """The student as a graph from one timestep of an image `[C, H, W]`, normalised as in training, to logits.

    Args:
        network: a student.
        variables: its parameters and running statistics.
        image_shape: `[H, W, C]`.
        dialect: a key of `DIALECTS`: who will read the graph.

    Returns:
        Nodes in float32, in float64 for a float64 network; a timestep lasts `metadata["dt"]` seconds.

    Raises:
        InputError: for a network with a part that NIR or the reader does not have.
    """
    return write_nir(student_graph(network, variables, image_shape), dialect)


def write_nir(graph: Graph, dialect: str = "generic") -> nir.NIRGraph:
    """A graph of ours as one of NIR; see `to_nir`."""
    reader = check_dialect(dialect, graph)
    graph = _without_maxima(graph)
    if reader.pool == "SumPool2d":
        graph = _with_sums(graph)
    if reader.by_rows:
        graph = _flattened_by_rows(graph)
    if not reader.images:
        graph = _with_flat_input(graph)
    nodes: dict[str, Any] = {INPUT: nir.Input({"input": np.array(graph.input_shape)})}
    for node in graph.nodes:
        nodes[node.name] = _node(graph, node, reader)
    nodes[OUTPUT] = nir.Output({"output": np.array(graph.shapes[graph.output[0]])})
    edges = [(source, node.name) for node in graph.nodes for source in node.sources]
    return nir.NIRGraph(
        nodes, edges + [(name, OUTPUT) for name in graph.output], metadata={"dt": DT, "dialect": dialect}
    )


def _node(graph: Graph, node: Node, reader: Dialect) -> Any:
    shape = graph.shapes[node.sources[0]]
    metadata = {"scale": graph.scales[node.name]} if node.name in graph.scales else {}
    match node.layer:
        case Conv() as conv:
            kernel, bias = graph.weights[node.name]
            sides = {"stride": conv.stride, "padding": conv.padding, "dilation": conv.dilation}
            return nir.Conv2d(
                input_shape=shape[1:], weight=kernel, groups=conv.groups, bias=bias, metadata=metadata, **sides
            )
        case Dense():
            return nir.Affine(*graph.weights[node.name], metadata=metadata)
        case Flatten():
            # Counts axes from the back, so that a batch axis in front, which simulators add, is left alone.
            return nir.Flatten({"input": np.array(shape)}, start_dim=-len(shape), end_dim=-1)
        case Pool() as pool:
            kind = nir.SumPool2d if pool.kind == "sum" else nir.AvgPool2d
            return kind(np.array(pool.size), np.array(pool.stride), np.array(pool.padding))
        case Fire() as fire:
            return _neuron(fire, shape, np.result_type(*(w.kernel for w in graph.weights.values())), reader)
    raise AssertionError(node.layer)


def _neuron(fire: Fire, shape: tuple[int, ...], dtype: np.dtype, reader: Dialect) -> Any:
    kind, arguments, factor = reader.neuron(fire)
    threshold = dtype.type(fire.threshold * factor)
    if not reader.fires_at:
        threshold = np.nextafter(threshold, dtype.type(0))
    values = arguments | {"v_threshold": threshold, "v_reset": 0.0}
    return getattr(nir, kind)(**{name: np.full(shape, value, dtype) for name, value in values.items()})


def _without_maxima(graph: Graph) -> Graph:
    """Max-pooling of spikes as an "or". One spike in a window makes a mean of 1/size, twice the threshold.

    Neurons with a hard reset need no leak for it: their membranes are 0 after every timestep. Those with a soft reset
    must forget what is left.
    """
    binary = {node.name for node in graph.nodes if isinstance(node.layer, Fire)}

    def change(node: Node) -> list[Node]:
        if not (isinstance(node.layer, Pool) and node.layer.kind == "max"):
            return [node]
        if len(node.sources) > 1 or node.sources[0] not in binary:
            raise InputError(f"{node.name}: NIR has no max-pooling of currents; expected images below 96 pixels")
        binary.add(node.name)
        mean = Node(f"{node.name}_mean", replace(node.layer, kind="mean"), node.sources)
        soft = any(isinstance(other.layer, Fire) and other.layer.soft_reset for other in graph.nodes)
        fire = Fire(0.0 if soft else 1.0, 0.5 / math.prod(node.layer.size), soft)
        return [mean, Node(node.name, fire, (mean.name,))]

    return graph.map_nodes(change)


def _with_sums(graph: Graph) -> Graph:
    """Means as sums; what takes them is divided: the weights, or the threshold is multiplied."""
    factors: dict[str, float] = {}
    weights, scales = dict(graph.weights), dict(graph.scales)

    def change(node: Node) -> list[Node]:
        found = {factors.get(name, 1.0) for name in node.sources}
        if len(found) > 1:
            raise InputError(f"{node.name}: adds pooled values to others; expected a reader with average pooling")
        (factor,) = found
        match node.layer:
            case Pool(kind="mean") as pool:
                factors[node.name] = factor * math.prod(pool.size)
                return [replace(node, layer=replace(pool, kind="sum"))]
            case Conv() | Dense():
                kernel, bias = weights[node.name]
                weights[node.name] = Weights(kernel / kernel.dtype.type(factor), bias)
                if node.name in scales:
                    scales[node.name] = scales[node.name] / kernel.dtype.type(factor)
            case Fire() as fire:
                return [replace(node, layer=replace(fire, threshold=fire.threshold * factor))]
            case _:
                factors[node.name] = factor
        return [node]

    nodes = graph.map_nodes(change).nodes
    return replace(graph, nodes=nodes, weights=weights, scales=scales)


def _with_flat_input(graph: Graph) -> Graph:
    """A graph that takes the flattened image, `[C·H·W]`."""
    flat = {node.name for node in graph.nodes if isinstance(node.layer, Flatten)}
    kept = [node for node in graph.nodes if node.name not in flat]
    nodes = tuple(replace(node, sources=(INPUT,)) if flat & set(node.sources) else node for node in kept)
    return replace(graph, input_shape=(math.prod(graph.input_shape),), nodes=nodes)


def _flattened_by_rows(graph: Graph) -> Graph:
    """Kernels after a flattened image for one that was flattened as `[H, W, C]`."""
    weights = dict(graph.weights)
    flat = {node.name: graph.shapes[node.sources[0]] for node in graph.nodes if isinstance(node.layer, Flatten)}
    for node in graph.nodes:
        shape = flat.get(node.sources[0], ())
        if isinstance(node.layer, Dense) and len(shape) == 3:
            kernel, bias = weights[node.name]
            kernel = kernel.reshape(-1, *shape).transpose(0, 2, 3, 1).reshape(kernel.shape)
            weights[node.name] = Weights(np.ascontiguousarray(kernel), bias)
    return replace(graph, weights=weights)
