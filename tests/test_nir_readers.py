"""Graphs in the dialect of each reader: run by the reader itself where it is installed, and beside its stored results.

The table in docs/export.md has a row for each case here.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sealkd_jax.errors import InputError
from sealkd_jax.export.dialects import DIALECTS
from sealkd_jax.models import Variables
from tests.helpers.compiling import jitted
from tests.helpers.nir_readers import READERS, run_reader
from tests.helpers.small_students import make_student

nir = pytest.importorskip("nir", reason="without NIR: see the extra export")

from sealkd_jax.export.nir_graph import to_nir  # noqa: E402

GOLDEN = Path(__file__).parent / "golden/nir"
T = 4
MLP, CONV, VGG = ("spiking-mlp", 6, {"width": 1 / 16}), ("spiking-conv", 9, {}), ("spiking-vgg", 16, {"width": 1 / 16})
RESNETS = [(name, 8, {"width": 1 / 16}) for name in ("spiking-resnet18", "sew-resnet18", "spiking-resnet34")]
NEURONS = {"lif": {"decay": 0.7}, "iaf": {}, "plif": {}}
SOFT = {"v_reset": None}
SAME = [
    *((reader, student) for reader in ("snntorch", "spikingjelly") for student in (MLP, CONV, VGG, *RESNETS)),
    *(("norse", student) for student in (MLP, CONV, VGG)),
]
CASES = [
    *(
        (reader, student, {"neuron": neuron, **kwargs})
        for reader, student in SAME
        for neuron, kwargs in NEURONS.items()
    ),
    *(("sinabs", MLP, {"neuron": neuron, **kwargs}) for neuron, kwargs in NEURONS.items()),
    *(("sinabs", student, {"neuron": "iaf"}) for student in (CONV, VGG)),
    ("sinabs", MLP, SOFT),
    *(("rockpool", MLP, {"neuron": neuron, **kwargs, **SOFT}) for neuron, kwargs in NEURONS.items()),
    ("spyx", CONV, {"neuron": "iaf", "width": 1 / 4, **SOFT}),
]
STORED = {
    **dict.fromkeys(("snntorch", "spikingjelly", "norse"), ("spiking-conv", {})),
    "sinabs": ("spiking-conv", {"neuron": "iaf"}),
    "spyx": ("spiking-conv", {"neuron": "iaf", **SOFT}),
    "rockpool": ("spiking-mlp", SOFT),
}


def make(reader, name, size, kwargs, batch=3):
    """A student, its variables, its images, and these as the frames that the reader takes."""
    network, variables, images = make_student(name, size, batch=batch, **kwargs)
    if reader == "spyx":  # which is late by a timestep in each layer of neurons, whose biases come at once

        def unbiased(path, leaf):
            return jnp.zeros_like(leaf) if path[-1].key in ("mean", "bias") else leaf

        variables = Variables(*jax.tree_util.tree_map_with_path(unbiased, tuple(variables)))
    graph = to_nir(network, variables, images.shape[1:], dialect=reader)
    late = sum(isinstance(node, nir.IF | nir.LIF) for node in graph.nodes.values()) if reader == "spyx" else 0
    frames = np.asarray(images).transpose(0, 3, 1, 2)
    return network, variables, images, graph, np.broadcast_to(frames, (T + late, *frames.shape)), late


@pytest.mark.slow
@pytest.mark.usefixtures("promoting")  # Spyx needs it
@pytest.mark.parametrize(("reader", "student", "kwargs"), CASES)
def test_a_reader_gives_the_same_spikes(reader, student, kwargs):
    name, size, width = student
    network, variables, images, graph, frames, late = make(reader, name, size, width | kwargs)
    logits, spikes = jitted(network).spikes(variables, images, timesteps=T)
    outputs, fired = run_reader(reader, graph, frames, soft_reset=kwargs.get("v_reset", 0) is None)
    for layer, ours in spikes.items() if reader != "spyx" else ():
        np.testing.assert_array_equal(fired[layer.replace("/", "_")], np.moveaxis(ours, -1, 2), err_msg=layer)
    np.testing.assert_allclose(outputs[late:], logits, rtol=1e-5, atol=1e-5)
    assert min(float(layer.mean()) for layer in spikes.values()) > 0


@pytest.mark.parametrize("reader", READERS)
def test_a_graph_is_the_one_that_its_reader_ran(reader):
    """`python -m tests.test_nir_readers` stores the graphs, and what the readers made of them."""
    name, kwargs = STORED[reader]
    network, variables, images, graph, _, _ = make(reader, name, 4, {"width": 1 / 16, **kwargs}, batch=2)
    stored = np.load(GOLDEN / f"{reader}.npz")
    arrays = graph_arrays(graph)
    assert arrays.keys() == set(stored) - {"outputs"}
    for key, array in arrays.items():
        np.testing.assert_allclose(array, stored[key], rtol=1e-6, atol=1e-7, err_msg=key)
    np.testing.assert_allclose(
        stored["outputs"], jitted(network).predict(variables, images, timesteps=T), rtol=1e-5, atol=1e-5
    )


def graph_arrays(graph):
    """Every number of a graph by its name."""
    return {
        f"{name}/{field}": np.asarray(value)
        for name, node in graph.nodes.items()
        for field, value in vars(node).items()
        if isinstance(value, int | tuple | np.ndarray)
    }


REFUSED = [
    ("generic", MLP, SOFT, "a soft reset, and NIR 1.0.8 has none"),
    *((reader, MLP, {}, "a hard reset, and") for reader in ("spyx", "rockpool")),
    *((reader, RESNETS[0], {"neuron": "iaf"}, "part of a sum, which") for reader in ("norse", "sinabs")),
    ("spyx", RESNETS[0], {"neuron": "iaf", **SOFT}, "part of a sum, which"),
    ("spyx", MLP, SOFT, "resets after the leak"),
    ("sinabs", CONV, {}, "no leaky neurons of images"),
    ("rockpool", CONV, SOFT, "dense layers alone"),
    ("norse ", MLP, {}, "for norse : unknown; expected one of generic, snntorch"),
]


@pytest.mark.parametrize(("reader", "student", "kwargs", "words"), REFUSED)
def test_what_a_reader_cannot_do_is_refused_by_the_layer(reader, student, kwargs, words):
    name, size, width = student
    with pytest.raises(InputError, match=words):
        make(reader, name, size, width | kwargs)


def test_every_reader_has_a_dialect():
    assert DIALECTS.keys() == {"generic", *READERS}


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for reader, (name, kwargs) in STORED.items():
        *_, graph, frames, late = make(reader, name, 4, {"width": 1 / 16, **kwargs}, batch=2)
        outputs, _ = run_reader(reader, graph, frames, soft_reset=kwargs.get("v_reset", 0) is None)
        np.savez_compressed(GOLDEN / f"{reader}.npz", outputs=outputs[late:], **graph_arrays(graph))
