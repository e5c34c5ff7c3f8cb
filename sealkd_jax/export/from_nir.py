"""Graphs of NIR as students, with their weights; needs the extra `[export]`.

Read are the nodes that our layers compute: `Affine`, `Linear`, `Conv2d`, `SumPool2d`, `AvgPool2d`, `Flatten`, `LIF` and
`IF`, with several edges into a node as their sum, and without cycles. `dialects` has the equations of neurons. Other
nodes are refused by name.
"""

import math
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import h5py
import jax
import jax.numpy as jnp
import nir
import numpy as np

from sealkd_jax.errors import InputError, reason
from sealkd_jax.export.dialects import DIALECTS, DT
from sealkd_jax.files import open_file
from sealkd_jax.models import Network, Variables
from sealkd_jax.models.graph import INPUT, Conv, Dense, Fire, Flatten, Graph, GraphNet, Node, Pool, Weights

MOST_BYTES = 2**32
"""Of all arrays in a file, unpacked."""
_BY_THEIR_EQUATIONS = ("generic", "snntorch", "spikingjelly", "norse")


def from_nir(
    source: str | Path | nir.NIRGraph, *, dt: float | None = None, soft_reset: bool = False
) -> tuple[Network, Variables]:
    """A graph as a student that takes images `[B, H, W, C]` or frames `[T, B, H, W, C]`, and its variables.

    Its output is that of the graph: logits, or the spikes of the last neurons.

    Args:
        source: a file, or a graph.
        dt: length of a timestep in seconds; that of the graph's metadata, or 0.1 ms, if not given.
        soft_reset: neurons subtract the threshold after a spike. NIR has no word for it, and the writers of some
            graphs mean it, such as Sinabs.

    Raises:
        InputError: if the file cannot be read, or a node is none of ours.
    """
    network = Network(GraphNet(read_graph(source, dt=dt, soft_reset=soft_reset)))
    return network, network.init(jax.random.key(0), jnp.zeros((1, *image_shape(network))))


def image_shape(network: Network) -> tuple[int, ...]:
    """`[H, W, C]` of the images of a student that was a graph, or `[1, 1, F]`."""
    *channels, last = network.module.graph.input_shape
    return (*channels[1:], last, channels[0]) if channels else (1, 1, last)


def read_graph(source: str | Path | nir.NIRGraph, *, dt: float | None = None, soft_reset: bool = False) -> Graph:
    """A graph of NIR as one of ours; see `from_nir`."""
    graph = source if isinstance(source, nir.NIRGraph) else _read(Path(source))
    dialect = _text(graph.metadata.get("dialect", "generic"))
    if dialect not in _BY_THEIR_EQUATIONS:
        raise InputError(f"a graph for {dialect}, which reads nodes in another way; expected one for generic")
    dt = float(graph.metadata.get("dt", DT)) if dt is None else dt
    return _Reader(graph, dt, soft_reset, DIALECTS[dialect].fires_at).graph()


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _read(path: Path) -> nir.NIRGraph:
    check_size(path)
    try:
        graph = nir.read(path)
    except Exception as error:  # h5py and nir raise whatever they meet
        raise InputError(f"{path}: cannot be read as NIR: {reason(error)}") from error
    if not isinstance(graph, nir.NIRGraph):
        raise InputError(f"{path}: a {type(graph).__name__}; expected a graph")
    return graph


def check_size(path: Path) -> None:
    """Raises an `InputError` for a file that is not HDF5, has links to others, or would fill the memory."""
    try:
        with open_file(path) as file, h5py.File(file, "r") as content:
            if _bytes(content) > MOST_BYTES:
                raise ValueError(f"arrays of more than {MOST_BYTES} bytes")
    except Exception as error:  # h5py raises whatever it meets
        raise InputError(f"{path}: cannot be read: {reason(error)}") from error


def _bytes(group: h5py.Group) -> int:
    """The bytes of all arrays. A link to another file is refused."""
    total = 0
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{name} is a link")
        item = group[name]
        total += _bytes(item) if isinstance(item, h5py.Group) else item.nbytes
    return total


class _Reader:
    """The nodes of a graph, one after the other."""

    def __init__(self, graph: nir.NIRGraph, dt: float, soft_reset: bool, fires_at: bool):
        self.nir, self.dt, self.soft_reset, self.fires_at = graph, dt, soft_reset, fires_at
        inputs = [name for name, node in graph.nodes.items() if isinstance(node, nir.Input)]
        outputs = [name for name, node in graph.nodes.items() if isinstance(node, nir.Output)]
        if len(inputs) != 1 or len(outputs) != 1:
            raise InputError(f"{len(inputs)} inputs and {len(outputs)} outputs; expected a graph with one of each")
        (self.input,), (self.output,) = inputs, outputs
        self.names = {self.input: INPUT}  # ours, by theirs
        self.nodes: list[Node] = []
        self.weights: dict[str, Weights] = {}
        shape = tuple(int(n) for n in graph.nodes[self.input].input_type["input"])
        if len(shape) not in (1, 3):
            raise InputError(f"{self.input}: of shape {list(shape)}; expected [C, H, W] or [F]")
        self.shapes: dict[str, tuple[int, ...]] = {INPUT: shape}

    def graph(self) -> Graph:
        before: dict[str, list[str]] = {name: [] for name in self.nir.nodes}
        for source, name in self.nir.edges:
            before[name].append(source)
        try:
            order = [*TopologicalSorter(before).static_order()]
        except CycleError as error:
            cycle = ", ".join(error.args[1])
            raise InputError(f"{cycle}: a cycle; expected layers that feed only later ones") from error
        for name in order:
            if name not in (self.input, self.output):
                self.read(name, before[name])
        output = tuple(self.names[source] for source in before[self.output])
        if not output:
            raise InputError(f"{self.output}: has no source; expected an edge into it")
        return self.built(output)

    def built(self, output: tuple[str, ...]) -> Graph:
        return Graph(self.shapes[INPUT], tuple(self.nodes), output, self.weights)

    def read(self, theirs: str, before: list[str]) -> None:
        if not before:
            raise InputError(f"{theirs}: has no source; expected an edge into it")
        sources = tuple(self.names[source] for source in before)
        shapes = {self.shapes[source] for source in sources}
        if len(shapes) > 1:
            raise InputError(f"{theirs}: takes outputs of shapes {', '.join(map(str, sorted(shapes)))}; expected one")
        name = self.name(theirs)
        try:
            layer = self.layer(name, self.nir.nodes[theirs], *shapes)
        except InputError as error:
            raise InputError(f"{theirs}: {error}") from error
        if layer is None:
            self.names[theirs] = sources[0]
            return
        self.names[theirs] = name
        self.nodes.append(Node(name, layer, sources))
        self.shapes[name] = self.built((name,)).shapes[name]

    def name(self, theirs: str) -> str:
        """A name that is free in our module."""
        name = theirs.replace("/", "_")
        while name in self.shapes or hasattr(GraphNet, name) or name in GraphNet.__dataclass_fields__:
            name += "_"
        return name

    def layer(self, name: str, node: Any, shape: tuple[int, ...]) -> Any:
        """Our layer for a node that takes this shape; None if it changes nothing."""
        match node:
            case nir.Affine() | nir.Linear():
                return self.dense(name, node, shape)
            case nir.Conv2d():
                return self.conv(name, node, shape)
            case nir.SumPool2d() | nir.AvgPool2d():
                _expect(len(shape) == 3, f"pools {list(shape)}; expected an image")
                kind = "sum" if isinstance(node, nir.SumPool2d) else "mean"
                return Pool(kind, _pair(node.kernel_size), _pair(node.stride), _pair(node.padding))  # type: ignore[arg-type]
            case nir.Flatten():
                whole = node.output_type["output"] is None or int(node.output_type["output"][-1]) == math.prod(shape)
                _expect(whole, "flattens some axes; expected all of them")
                return Flatten() if len(shape) == 3 else None
            case nir.LIF() | nir.IF():
                return self.neuron(node)
        raise InputError(f"a {type(node).__name__}; expected Affine, Linear, Conv2d, a 2d pooling, Flatten, LIF or IF")

    def dense(self, name: str, node: Any, shape: tuple[int, ...]) -> Dense:
        kernel = np.asarray(node.weight)
        _expect(kernel.ndim == 2 and kernel.shape[1:] == shape, f"weights {list(kernel.shape)} for {list(shape)}")
        self.weights[name] = Weights(kernel, _bias(node, kernel))
        return Dense()

    def conv(self, name: str, node: Any, shape: tuple[int, ...]) -> Conv:
        kernel, groups = np.asarray(node.weight), int(node.groups)
        fits = kernel.ndim == 4 and len(shape) == 3 and kernel.shape[1] * groups == shape[0]
        _expect(fits and len(kernel) % groups == 0, f"weights {list(kernel.shape)} for {list(shape)}")
        size, dilation, padding = _pair(kernel.shape[2:]), _pair(node.dilation), node.padding
        if isinstance(padding, str | bytes):
            span = [step * (n - 1) for step, n in zip(dilation, size, strict=True)]
            same = _text(padding) == "same"
            _expect(not same or not any(n % 2 for n in span), "padding same of even windows; expected odd ones")
            padding = [n // 2 if same else 0 for n in span]
        self.weights[name] = Weights(kernel, _bias(node, kernel))
        return Conv(size, _pair(node.stride), _pair(padding), dilation, groups)

    def neuron(self, node: Any) -> Fire:
        """A neuron whose currents come in with the factor R·Δt/τ, as one with a threshold that is smaller by it."""
        dtype = np.asarray(node.v_threshold).dtype.type
        for field in ("v_leak", "v_reset"):
            value = _one(field, getattr(node, field, 0))
            _expect(value == 0, f"{field} {value}; expected 0")
        threshold, r, dt = dtype(_one("v_threshold", node.v_threshold)), _one("r", node.r), dtype(self.dt)
        if isinstance(node, nir.IF):
            decay, gain = 1.0, 1.0 if r == 1 else float(r * dt)
        else:
            kept = dt / dtype(_one("tau", node.tau))
            _expect(0 < kept <= 1, f"a time constant of {1 / kept:.3g} timesteps; expected 1 or more, or another dt")
            decay, gain = float(dtype(1) - kept), float(dtype(r) * kept)
        if not self.fires_at:
            threshold = np.nextafter(threshold, dtype(np.inf))
        threshold = float(threshold if math.isclose(gain, 1, rel_tol=1e-6) else threshold / dtype(gain))
        _expect(0 < threshold < math.inf, f"a threshold of {threshold}; expected one above 0")
        return Fire(decay, threshold, self.soft_reset)


def _expect(holds: bool, problem: str) -> None:
    if not holds:
        raise InputError(problem)


def _pair(value: Any) -> tuple[int, int]:
    values = [int(n) for n in np.ravel(value)]
    _expect(len(values) in (1, 2) and min(values) >= 0, f"{values}; expected two whole numbers")
    return (values[0], values[-1])


def _bias(node: Any, kernel: np.ndarray) -> np.ndarray:
    bias = getattr(node, "bias", None)
    bias = np.zeros(len(kernel), kernel.dtype) if bias is None else np.asarray(bias)
    _expect(bias.shape == kernel.shape[:1], f"bias {list(bias.shape)} for weights {list(kernel.shape)}")
    _expect(bool(np.isfinite(kernel).all() and np.isfinite(bias).all()), "weights that are not finite")
    return bias


def _one(field: str, values: Any) -> Any:
    found = np.unique(values)
    _expect(found.size == 1, f"neurons that differ in {field}; expected one for all of them")
    return found[0]
