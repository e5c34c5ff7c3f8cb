"""Graphs of NIR as students: what comes back, what other tools wrote, and what is refused by its node."""

import warnings
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sealkd_jax.data import Framing, load
from sealkd_jax.errors import InputError
from sealkd_jax.programs.networks import named_student
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


@pytest.mark.slow
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


# ---- graphs that other tools wrote


def test_the_graph_of_the_nir_paper_classifies_real_recordings(real_data, tmp_path):
    """N-MNIST, 10 recordings; the paper has 98.5 % (Sinabs, soft reset) and 98.1 % (Norse, hard) of all 10,000."""
    path = real_data / "cnn_sinabs.nir"
    if not path.exists():
        pytest.skip("the graph paper/02_cnn/cnn_sinabs.nir of github.com/neuromorphs/NIR is not among the real data")
    dataset = load(
        "nmnist", data_dir=real_data / "nmnist", framing=Framing(300, "time"), cache_dir=path.parent / "none"
    )
    frames = jnp.asarray(np.asarray(dataset.test.images[::10]).swapaxes(0, 1).astype(np.float32))
    for soft_reset in (True, False):
        network, variables = from_nir(path, soft_reset=soft_reset)
        spikes = jitted(network).predict(variables, frames, timesteps=300)
        assert (spikes.sum(0).argmax(-1) == dataset.test.labels[::10]).mean() >= 0.9


def run_torch(module, images, step):
    import torch

    state, outputs = None, []
    with torch.no_grad():
        for _ in range(T):
            out, state = step(module, torch.from_numpy(np.array(images).transpose(0, 3, 1, 2)), state)
            outputs.append(out.numpy())
    return np.stack(outputs)


@pytest.mark.slow
def test_a_graph_that_snntorch_wrote_gives_its_spikes(promoting):
    torch = pytest.importorskip("torch", reason="without PyTorch: see the extra parity")
    why = "without snnTorch: pip install --no-deps snntorch==1.0.0"
    write = pytest.importorskip("snntorch.export_nir", reason=why).export_to_nir
    import snntorch

    torch.manual_seed(0)

    def leaky(neurons):  # with numbers in place of arrays it makes a graph that NIR refuses
        kwargs = {"init_hidden": True, "reset_mechanism": "zero", "reset_delay": False}
        return snntorch.Leaky(beta=torch.full((neurons,), 0.8), threshold=torch.ones(neurons), **kwargs)

    module = torch.nn.Sequential(torch.nn.Linear(128, 20), leaky(20), torch.nn.Linear(20, 3), leaky(3))
    for weights in module[::2]:
        torch.nn.init.normal_(weights.weight)
    images = np.asarray(jax.random.normal(jax.random.key(0), (3, 1, 1, 128)))
    with warnings.catch_warnings(action="ignore"):
        graph = write(module, torch.zeros(128))  # of a batch it makes another shape
    for layer in module:
        if isinstance(layer, snntorch.Leaky):
            layer.reset_mem()
    expected = run_torch(module, images, lambda net, x, _: (net(x.reshape(3, 128)), None))
    network, variables = from_nir(graph)
    np.testing.assert_array_equal(jitted(network).predict(variables, images, timesteps=T), expected)
    assert 0 < expected.mean() < 1


@pytest.mark.slow
def test_a_graph_that_spikingjelly_wrote_gives_its_spikes(promoting):
    torch = pytest.importorskip("torch", reason="without PyTorch: see the extra parity")
    why = "without SpikingJelly 2: pip install --no-deps spikingjelly==2.0.0"
    write = pytest.importorskip("spikingjelly.activation_based.nir_exchange", reason=why).export_to_nir
    from spikingjelly.activation_based import layer, neuron

    torch.manual_seed(0)
    layers = [layer.Conv2d(2, 4, 3, padding=1), neuron.LIFNode(tau=2.5, decay_input=False), layer.AvgPool2d(2, 2)]
    module = torch.nn.Sequential(*layers, layer.Flatten(), layer.Linear(64, 3), neuron.IFNode())
    for weights in (module[0], module[4]):
        torch.nn.init.normal_(weights.weight)
    images = np.asarray(jax.random.normal(jax.random.key(0), (3, 8, 8, 2)))
    graph = write(module, torch.zeros(1, 2, 8, 8))
    expected = run_torch(module, images, lambda net, x, _: (net(x), None))
    network, variables = from_nir(graph)
    np.testing.assert_array_equal(jitted(network).predict(variables, images, timesteps=T), expected)
    assert 0 < expected.mean() < 1


# ---- students of the programs


def test_a_graph_is_a_student_of_the_programs(tmp_path):
    network, variables, images = make_student("spiking-conv", 8, channels=1, width=1 / 4)
    path = tmp_path / "a.nir"
    nir.write(path, to_nir(network, variables, images.shape[1:]))
    kwargs = {"mean": (0.5,), "std": (0.25,), "frames": None}
    student = named_student(f"nir:{path}", 3, (8, 8, 1), **kwargs)
    found = student.init(jax.random.key(0), images)
    normalised = (images - 0.5) / 0.25
    np.testing.assert_allclose(
        jitted(student).predict(found, normalised, timesteps=T),
        jitted(network).predict(variables, images, timesteps=T),
        rtol=1e-4,
        atol=1e-4,
    )
    with pytest.raises(InputError, match=r"takes \[1, 8, 8\]; expected the images of the data, \[1, 9, 9\]"):
        named_student(f"nir:{path}", 3, (9, 9, 1), **kwargs)
    with pytest.raises(InputError, match=r"gives \[3\]; expected 10 classes"):
        named_student(f"nir:{path}", 10, (8, 8, 1), **kwargs)
