"""Examples beside a graph of NIR, in NIR's own format for data, with which a user of a chip can check the chip.

Axis legend: T timesteps, N examples, C channels or classes, H height, W width. NIR has `[N, T, neurons]`, where an
image is flattened as `[C, H, W]`.
"""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import nir
import numpy as np

from sealkd_jax.diagnostics import accumulate
from sealkd_jax.errors import InputError, reason
from sealkd_jax.export.dialects import DT
from sealkd_jax.export.from_nir import check_size, from_nir
from sealkd_jax.export.nir_graph import OUTPUT
from sealkd_jax.models import Network, Variables
from sealkd_jax.models.graph import INPUT

GRAPH, DATA = "student.nir", "student_data.nir"


class Difference(NamedTuple):
    """What a replay gave, beside what the file says: a layer, and how many of its spikes differ."""

    layer: str
    different: int
    spikes: int


class Replay(NamedTuple):
    """All layers, the largest difference of a logit, and how many of the N examples end with another class."""

    layers: list[Difference]
    logits: float
    other_classes: int
    examples: int


def example_data(
    network: Network, variables: Variables, images: np.ndarray, timesteps: int, *, shown: np.ndarray | None = None
) -> nir.NIRGraphData:
    """Images with the spikes of each layer and the logits, timestep by timestep.

    Args:
        network: a student.
        variables: its parameters and running statistics.
        images: `[N, H, W, C]`, or frames `[T, N, H, W, C]`, normalised as in training.
        timesteps: T.
        shown: the same as the graph takes them; as `images` if not given.
    """
    logits, spikes = jax.jit(lambda v, x: network.spikes(v, x, timesteps=timesteps))(variables, jnp.asarray(images))
    frames = np.broadcast_to(images if shown is None else shown, (timesteps, *images.shape[-4:]))
    nodes = {INPUT: _observed("images", frames), OUTPUT: _observed("logits", np.asarray(logits))}
    for layer, fired in spikes.items():
        nodes[layer.replace("/", "_")] = _observed("spikes", np.asarray(fired) != 0)
    return nir.NIRGraphData(nodes)


def replay(directory: Path) -> Replay:
    """Runs the graph of an export on the examples beside it, in the equations of NIR.

    Args:
        directory: of the export, with `student.nir` and `student_data.nir`.

    Raises:
        InputError: if a file is missing or damaged, or the graph is for a reader that has other equations.
    """
    network, variables = from_nir(directory / GRAPH)
    data = _read(directory / DATA)
    channels, height, width = network.module.graph.input_shape
    try:
        flat = data[INPUT]
        images = np.moveaxis(flat.reshape(*flat.shape[:2], channels, height, width), 2, -1)
        expected = data[OUTPUT]
    except (KeyError, ValueError) as error:
        raise InputError(f"{directory / DATA}: not the examples of {GRAPH} ({reason(error)}); export again") from error
    frames = jnp.asarray(images.swapaxes(0, 1))
    logits, spikes = jax.jit(lambda v, x: network.spikes(v, x, timesteps=len(frames)))(variables, frames)
    layers = []
    for layer, fired in spikes.items():
        if layer in data:
            ours = _flat(np.asarray(fired) != 0)
            if ours.shape != data[layer].shape:
                raise InputError(f"{directory / DATA}: {layer}: not the examples of {GRAPH}; export again")
            layers.append(Difference(layer, int((ours != data[layer]).sum()), ours.size))
    answers, told = (np.argmax(accumulate(x)[-1], -1) for x in (logits, jnp.asarray(expected.swapaxes(0, 1))))
    difference = float(np.abs(np.asarray(logits).swapaxes(0, 1) - expected).max())
    return Replay(layers, difference, int((answers != told).sum()), len(expected))


def _observed(name: str, values: np.ndarray) -> nir.NIRNodeData:
    return nir.NIRNodeData({name: nir.TimeGriddedData(_flat(values), DT)})


def _flat(values: np.ndarray) -> np.ndarray:
    """`[T, N, ...]` as `[N, T, neurons]`."""
    values = values.swapaxes(0, 1)
    values = np.moveaxis(values, -1, 2) if values.ndim == 5 else values
    return np.ascontiguousarray(values.reshape(*values.shape[:2], -1))


def _read(path: Path) -> dict[str, np.ndarray]:
    """The one array of each node."""
    check_size(path)
    try:
        nodes = nir.read_data(path).nodes
        return {name: next(iter(node.observables.values())).data for name, node in nodes.items()}
    except Exception as error:  # h5py and nir raise whatever they meet
        raise InputError(f"{path}: cannot be read as data of NIR: {reason(error)}") from error
