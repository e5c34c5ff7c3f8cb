"""Graphs of NIR as students: what comes back, what other tools wrote, and what is refused by its node."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sealkd_jax.errors import InputError
from tests.helpers.compiling import jitted
from tests.helpers.small_students import make_student

nir = pytest.importorskip("nir", reason="without NIR: see the extra export")

from sealkd_jax.export.eight_bits import to_eight_bits, whole_numbers  # noqa: E402
from sealkd_jax.export.from_nir import from_nir, read_graph  # noqa: E402
from sealkd_jax.export.nir_data import example_data, replay  # noqa: E402
from sealkd_jax.export.nir_graph import to_nir, write_nir  # noqa: E402
from sealkd_jax.export.student_graph import student_graph  # noqa: E402

T = 3
CONV = ("spiking-conv", 9, {"width": 1 / 4, "decay": 0.7})


@pytest.mark.parametrize("dialect", ["generic", "norse"])
def test_a_student_comes_back_with_its_spikes(dialect, float64, tmp_path):
    network, variables, images = make_student(CONV[0], CONV[1], precision="float64", **CONV[2])
    logits, spikes = jitted(network).spikes(variables, images, timesteps=T)
    path = tmp_path / "student.nir"
    nir.write(path, to_nir(network, variables, images.shape[1:], dialect=dialect))
    again, found = from_nir(path)
    network64 = type(again)(again.module.clone(dtype=jnp.float64, param_dtype=jnp.float64))
    found = network64.init(jax.random.key(0), images)
    theirs, fired = jitted(network64).spikes(found, images, timesteps=T)
    for layer, ours in spikes.items():
        np.testing.assert_array_equal(fired[layer.replace("/", "_")], ours, err_msg=layer)
    np.testing.assert_allclose(theirs, logits, rtol=1e-9, atol=1e-9)


def test_examples_beside_a_graph_are_replayed(tmp_path):
    network, variables, images = make_student(CONV[0], CONV[1], batch=3, **CONV[2])
    nir.write(tmp_path / "student.nir", to_nir(network, variables, images.shape[1:]))
    data = example_data(network, variables, np.asarray(images), T)
    nir.write_data(tmp_path / "student_data.nir", data)
    found = replay(tmp_path)
    assert {layer.layer for layer in found.layers} >= {"block_0_neuron", "block_1_neuron", "block_2_neuron"}
    assert sum(layer.different for layer in found.layers) == 0 and found.examples == 3
    assert found.logits < 1e-5 and found.other_classes == 0
    graph = nir.read(tmp_path / "student.nir")
    graph.nodes["block_1_Conv_0"].weight *= -1
    nir.write(tmp_path / "student.nir", graph)
    assert sum(layer.different for layer in replay(tmp_path).layers) > 0


def test_eight_bits_are_whole_numbers_by_channel(tmp_path):
    network, variables, images = make_student(CONV[0], CONV[1], **CONV[2])
    graph = student_graph(network, variables, images.shape[1:])
    nir.write(tmp_path / "eight.nir", write_nir(to_eight_bits(graph)))
    for name, node in nir.read(tmp_path / "eight.nir").nodes.items():
        if name in graph.weights:
            kernel, scale = graph.weights[name].kernel, node.metadata["scale"]
            whole = whole_numbers(node.weight, scale)
            scale = scale.reshape(-1, *[1] * (kernel.ndim - 1))
            np.testing.assert_allclose(whole * scale, node.weight, rtol=1e-6, atol=0)
            assert np.abs(whole).max() == 127 and (np.abs(kernel - node.weight) <= scale * 0.5001).all()


def neuron(kind, shape=(3,), **fields):
    values = {"tau": 2e-4, "r": 2.0, "v_leak": 0.0} if kind is nir.LIF else {"r": 1.0}
    values |= {"v_threshold": 1.0} | fields
    return kind(**{name: np.broadcast_to(np.float32(value), shape).copy() for name, value in values.items()})


def chain(*nodes, shape=(3,), edges=()):
    nodes = {"in": nir.Input({"input": np.array(shape)}), **{f"n{k}": n for k, n in enumerate(nodes)}}
    nodes["out"] = nir.Output({"output": np.array([3])})
    names = list(nodes)
    return nir.NIRGraph(nodes, [*pairwise(names), *edges], type_check=False)


def test_currents_that_are_scaled_lower_the_threshold():
    (found,) = read_graph(chain(neuron(nir.LIF, r=1.0))).nodes  # currents come in halved
    assert found.layer.decay == 0.5 and found.layer.threshold == pytest.approx(2, rel=1e-6)
    (found,) = read_graph(chain(neuron(nir.IF, r=1e4))).nodes
    assert found.layer.decay == 1 and found.layer.threshold == np.nextafter(np.float32(1), np.float32(2))


REFUSED = [
    (chain(nir.Threshold(np.ones(3))), "n0: a Threshold; expected Affine, Linear, Conv2d"),
    (chain(nir.Delay(np.ones(3))), "n0: a Delay"),
    (chain(neuron(nir.LIF, v_threshold=[1, 1, 2])), "n0: neurons that differ in v_threshold"),
    (chain(neuron(nir.LIF, v_leak=0.5)), "n0: v_leak 0.5; expected 0"),
    (chain(neuron(nir.LIF, tau=5e-5)), "n0: a time constant of 0.5 timesteps"),
    (chain(neuron(nir.IF, v_threshold=-1)), "n0: a threshold of -"),
    (chain(nir.Linear(np.ones((3, 4)))), r"n0: weights \[3, 4\] for \[3\]"),
    (chain(nir.Affine(np.full((3, 3), np.nan), np.ones(3))), "n0: weights that are not finite"),
    (chain(neuron(nir.IF), neuron(nir.IF), edges=[("n1", "n0")]), "a cycle; expected layers"),
    (chain(neuron(nir.IF), shape=(2, 2)), r"in: of shape \[2, 2\]; expected"),
]


@pytest.mark.parametrize(("graph", "words"), REFUSED)
def test_what_is_none_of_ours_is_refused_by_its_node(graph, words):
    with pytest.raises(InputError, match=words):
        read_graph(graph)


def test_files_that_are_no_graphs_are_refused(tmp_path):
    (tmp_path / "text.nir").write_text("no graph")
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "link.nir", "w") as file:
        file["node"] = h5py.ExternalLink("/etc/passwd", "node")
    with h5py.File(tmp_path / "huge.nir", "w") as file:
        file.create_dataset("node", shape=(2**40,), dtype="f4", chunks=True)
    for name, words in {"text": "cannot be read", "link": "node is a link", "huge": "bytes", "none": "No such"}.items():
        with pytest.raises(InputError, match=words):
            read_graph(tmp_path / f"{name}.nir")
    nir.write(tmp_path / "sinabs.nir", to_nir(*sinabs_student(), dialect="sinabs"))
    with pytest.raises(InputError, match="a graph for sinabs"):
        read_graph(tmp_path / "sinabs.nir")


def sinabs_student():
    network, variables, images = make_student("spiking-mlp", 2, width=1 / 64)
    return network, variables, images.shape[1:]
