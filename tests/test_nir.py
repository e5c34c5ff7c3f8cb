"""Students as NIR graphs: their arithmetic by a short interpreter, and by snnTorch where it is installed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sealkd_jax.errors import InputError
from sealkd_jax.export.nir_graph import DT, fold, to_nir
from sealkd_jax.models import Variables, create_student, create_teacher
from tests.helpers.compiling import jitted
from tests.helpers.small_students import make_student

nir = pytest.importorskip("nir", reason="without NIR: see the extra export")

T = 4


class Interpreter:
    """Runs an NIR graph on one image: Euler steps of `DT` in the equations of NIR's documentation."""

    def __init__(self, graph):
        self.graph, self.v = graph, {}

    def step(self, image):
        """`[C, H, W]` -> the output, and the output of every node by its name."""
        out = {"input": image}
        while "output" not in out:
            for name, node in self.graph.nodes.items():
                sources = [a for a, b in self.graph.edges if b == name]
                if name not in out and all(source in out for source in sources):
                    out[name] = self.apply(name, node, sum(out[source] for source in sources))
        return out["output"], out

    def apply(self, name, node, x):
        if isinstance(node, nir.Affine):
            return node.weight @ x + node.bias
        if isinstance(node, nir.Conv2d):
            windows = self.windows(x, node.weight.shape[2:], node.stride, node.padding)
            return np.einsum("chwij,ocij->ohw", windows, node.weight) + node.bias[:, None, None]
        if isinstance(node, nir.AvgPool2d):
            return self.windows(x, node.kernel_size, node.stride, node.padding).mean((3, 4))
        if isinstance(node, nir.Flatten):
            return x.reshape(-1)
        if isinstance(node, nir.Output):
            return x
        v = self.v.get(name, np.zeros_like(x))
        if isinstance(node, nir.LIF):
            v = v + DT / node.tau * (node.v_leak - v + node.r * x)
        else:
            assert isinstance(node, nir.IF)
            v = v + node.r * x
        fires = v > node.v_threshold
        self.v[name] = np.where(fires, node.v_reset, v)
        return fires.astype(x.dtype)

    @staticmethod
    def windows(x, size, stride, padding):
        x = np.pad(x, ((0, 0), *((p, p) for p in padding)))
        windows = np.lib.stride_tricks.sliding_window_view(x, tuple(size), (1, 2))
        return windows[:, :: stride[0], :: stride[1]]


STUDENTS = [
    ("spiking-conv", 9, {"neuron": "lif", "decay": 0.7}),
    ("spiking-conv", 8, {"neuron": "plif"}),
    ("spiking-conv", 8, {"threshold": 1.5, "v_reset": 0.25}),
    ("spiking-mlp", 6, {"width": 1 / 16, "neuron": "iaf", "threshold": 0.75, "v_reset": -0.25}),
    ("spiking-resnet18", 8, {"width": 1 / 16}),
    ("sew-resnet18", 8, {"width": 1 / 16}),
]
MORE_STUDENTS = [
    ("spiking-conv", 8, {"neuron": "iaf"}),
    ("spiking-mlp", 6, {"width": 1 / 16, "neuron": "plif", "decay": 0.25}),
    ("spiking-vgg", 16, {"width": 1 / 16}),
    ("spiking-resnet19", 8, {"width": 1 / 32, "neuron": "plif"}),
    ("spiking-resnet34", 8, {"width": 1 / 16}),
    ("sew-resnet18", 96, {"width": 1 / 32}),
]


SLOW = [pytest.param(*student, marks=pytest.mark.slow) for student in MORE_STUDENTS]


@pytest.mark.parametrize(("name", "size", "kwargs"), [*STUDENTS, *SLOW])
def test_the_graph_computes_what_the_student_computes(name, size, kwargs, float64, tmp_path):
    network, variables, images = make_student(name, size, batch=1, precision="float64", **kwargs)
    logits, spikes = jitted(network).spikes(variables, images, timesteps=T)
    path = tmp_path / "student.nir"
    nir.write(path, to_nir(network, variables, images.shape[1:]))
    graph = nir.read(path)
    assert graph.metadata["dt"] == DT
    run, image = Interpreter(graph), np.asarray(images[0]).transpose(2, 0, 1)
    for t in range(T):
        said, nodes = run.step(image)
        for layer, fired in spikes.items():
            theirs = nodes[layer.replace("/", "_")]
            np.testing.assert_array_equal(theirs, np.moveaxis(fired[t, 0], -1, 0), err_msg=f"{layer} at {t}")
        np.testing.assert_allclose(said, logits[t, 0], rtol=1e-9, atol=1e-9)
    firing = [float(fired.mean()) for fired in spikes.values()]
    assert min(firing) > 0 and max(firing) < 1


def test_folding_is_batch_norm_after_the_layer(float64):
    rng = np.random.default_rng(0)
    x, kernel, bias = rng.normal(size=(5, 4)), rng.normal(size=(4, 3)), rng.normal(size=3)
    norm = {"scale": rng.normal(size=3), "bias": rng.normal(size=3), "mean": rng.normal(size=3), "var": rng.random(3)}
    expected = (x @ kernel + bias - norm["mean"]) / np.sqrt(norm["var"] + 1e-5) * norm["scale"] + norm["bias"]
    folded, shift = fold(kernel, bias, norm)
    np.testing.assert_allclose(x @ folded + shift, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("network", "size", "words"),
    [
        (create_student("spiking-resnet34", 3, width=1 / 64), 96, "no max-pooling of currents"),
        (create_student("spiking-mlp", 3, width=1 / 64, v_reset=None), 8, "no soft reset"),
        (create_teacher("convnet", 3, width=1 / 16), 8, "expected one of the spiking students"),
    ],
)
def test_what_nir_cannot_describe_is_refused(network, size, words):
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, size, size, 1)))
    with pytest.raises(InputError, match=words):
        to_nir(network, jax.tree.map(lambda leaf: np.ones(leaf.shape), shapes), (size, size, 1))


# ---- snnTorch


@pytest.fixture(scope="module")
def import_from_nir():
    pytest.importorskip("torch", reason="without PyTorch: see the extra parity")
    return pytest.importorskip(
        "snntorch.import_nir", reason="without snnTorch: pip install --no-deps snntorch==1.0.0"
    ).import_from_nir


def run_torch(module, images):
    """Logits `[T, B, C]` and the spikes `[T, B, ...]` of every neuron by its name."""
    import snntorch
    import torch

    spikes = {}
    for name, child in module.named_modules():
        if isinstance(child, snntorch.Leaky):
            child.register_forward_hook(lambda _m, _x, out, name=name: spikes.setdefault(name, []).append(out))
    x = torch.from_numpy(np.array(images).transpose(0, 3, 1, 2))
    with torch.no_grad():
        logits = torch.stack([module(x)[0] for _ in range(T)]).numpy()
    return logits, {name: torch.stack(fired).numpy() for name, fired in spikes.items()}


@pytest.mark.parametrize(
    ("name", "size", "kwargs"), [case for case in STUDENTS if case[2].get("neuron") != "iaf" and case[1] < 96]
)
def test_snntorch_gives_the_same_spikes(import_from_nir, name, size, kwargs):
    network, variables, images = make_student(name, size, batch=3, **kwargs)
    logits, spikes = jitted(network).spikes(variables, images, timesteps=T)
    theirs, fired = run_torch(import_from_nir(to_nir(network, variables, images.shape[1:])), images)
    for layer, ours in spikes.items():
        np.testing.assert_array_equal(fired[layer.replace("/", "_")], np.moveaxis(ours, -1, 2), err_msg=layer)
    np.testing.assert_allclose(theirs, logits, rtol=1e-4, atol=1e-4)


def test_a_membrane_at_the_threshold_fires_in_snntorch_too(import_from_nir):
    """Currents of exactly 1, 0.5 and 0.25: at the threshold at once, after infinitely many timesteps, never."""
    network, variables, _ = make_student("spiking-mlp", 1, channels=3, width=3 / 256)
    params = jax.tree.map(jnp.zeros_like, variables.params)
    params["block_0"]["BatchNorm_0"]["bias"] = jnp.array([1.0, 0.5, 0.25])
    graph = to_nir(network, Variables(params, variables.stats), (1, 1, 3))
    images = np.zeros((1, 1, 1, 3), np.float32)
    _, fired = run_torch(import_from_nir(graph), images)
    np.testing.assert_array_equal(fired["block_0_neuron"][:, 0].sum(0), [T, 0, 0])


def test_snntorch_reads_neurons_without_leak_as_leaky_ones(import_from_nir):
    """Named in docs/export.md; where this fails, snnTorch has learned IF, and the students with it belong above."""
    network, variables, images = make_student("spiking-mlp", 2, width=1 / 64, neuron="iaf")
    module = import_from_nir(to_nir(network, variables, images.shape[1:]))
    assert module.block_0_neuron.beta == pytest.approx(0.9) and module.block_0_neuron.reset_mechanism == "subtract"
