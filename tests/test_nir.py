"""Students as NIR graphs: their arithmetic by a short interpreter of NIR's own equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sealkd_jax.errors import InputError
from sealkd_jax.export.dialects import DT
from sealkd_jax.export.nir_graph import to_nir
from sealkd_jax.export.student_graph import fold
from sealkd_jax.models import Variables, create_student, create_teacher
from tests.helpers.compiling import jitted
from tests.helpers.nir_readers import run_reader
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
            v = v + DT * node.r * x
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
        (create_student("spiking-mlp", 3, width=1 / 64, v_reset=None), 8, "a soft reset, and NIR 1.0.8 has none"),
        (create_teacher("convnet", 3, width=1 / 16), 8, "expected a spiking student without attention"),
    ],
)
def test_what_nir_cannot_describe_is_refused(network, size, words):
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, size, size, 1)))
    with pytest.raises(InputError, match=words):
        to_nir(network, jax.tree.map(lambda leaf: np.ones(leaf.shape), shapes), (size, size, 1))


@pytest.mark.parametrize("reader", ["snntorch", "spikingjelly", "norse"])
def test_a_membrane_at_the_threshold_fires_in_readers_too(reader):
    """Currents of exactly 1, 0.5 and 0.25: at the threshold at once, after infinitely many timesteps, never."""
    network, variables, _ = make_student("spiking-mlp", 1, channels=3, width=3 / 256)
    params = jax.tree.map(jnp.zeros_like, variables.params)
    params["block_0"]["BatchNorm_0"]["bias"] = jnp.array([1.0, 0.5, 0.25])
    graph = to_nir(network, Variables(params, variables.stats), (1, 1, 3), dialect=reader)
    _, fired = run_reader(reader, graph, np.zeros((T, 1, 3, 1, 1), np.float32))
    np.testing.assert_array_equal(fired["block_0_neuron"][:, 0].sum(0), [T, 0, 0])
