"""Students as ONNX models: their outputs in ONNX Runtime, and their spikes in float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from sealkd_jax.errors import InputError
from sealkd_jax.export.pixels import Pixels, from_pixels
from sealkd_jax.export.student_graph import student_graph
from tests.helpers.compiling import jitted
from tests.helpers.small_students import make_student

onnx = pytest.importorskip("onnx", reason="without onnx: see the extra export")
runtime = pytest.importorskip("onnxruntime", reason="without ONNX Runtime: see the extra test")

from onnx.reference import ReferenceEvaluator  # noqa: E402

from sealkd_jax.export.onnx_graph import OPSET, step_to_onnx, to_onnx  # noqa: E402

T = 4
SMALL = [("spiking-mlp", 4, {"width": 1 / 32, "neuron": "iaf"}), ("spiking-conv", 9, {"width": 1 / 4, "decay": 0.7})]
MORE = [
    ("spiking-mlp", 4, {"width": 1 / 16, "v_reset": None}),
    ("spiking-conv", 8, {"neuron": "plif", "v_reset": 0.25}),
    ("spiking-vgg", 16, {"width": 1 / 16, "neuron": "plif"}),
    ("spiking-resnet18", 8, {"width": 1 / 16}),
    ("spiking-resnet19", 8, {"width": 1 / 32, "neuron": "iaf"}),
    ("sew-resnet18", 96, {"width": 1 / 32}),
    ("spiking-resnet34", 96, {"width": 1 / 32}),
]
STUDENTS = [*SMALL, *(pytest.param(*student, marks=pytest.mark.slow) for student in MORE)]


def session(model):
    return runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(("name", "size", "kwargs"), STUDENTS)
def test_all_timesteps_give_the_logits(name, size, kwargs):
    network, variables, images = make_student(name, size, **kwargs)
    model = to_onnx(student_graph(network, variables, images.shape[1:]), T)
    assert model.opset_import[0].version == OPSET >= 17
    (logits,) = session(model).run(["logits"], {"images": np.asarray(images)})
    np.testing.assert_allclose(logits, jitted(network).predict(variables, images, timesteps=T), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "size", "kwargs"), STUDENTS)
def test_steps_give_the_logits_and_the_spikes_in_float64(name, size, kwargs, float64):
    """ONNX Runtime has no convolutions in float64; `onnx` computes them itself."""
    network, variables, images = make_student(name, size, precision="float64", **kwargs)
    graph = student_graph(network, variables, images.shape[1:])
    logits, spikes = jitted(network).spikes(variables, images, timesteps=T)
    model = step_to_onnx(graph)
    for layer in spikes:
        name = layer.replace("/", "_")
        shape = ["batch", *graph.shapes[name]]
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, shape))
    has_images = any(node.op_type in ("Conv", "AveragePool") for node in model.graph.node)
    run = (ReferenceEvaluator(model) if has_images else session(model)).run
    names = [output.name for output in model.graph.output]
    states = {x.name: [2, *(d.dim_value for d in x.type.tensor_type.shape.dim[1:])] for x in model.graph.input}
    given = {name: np.zeros(shape) for name, shape in states.items()} | {"images": np.asarray(images)}
    for t in range(T):
        found = dict(zip(names, run(names, given), strict=True))
        np.testing.assert_allclose(found["logits"], logits[t], rtol=1e-9, atol=1e-9)
        for layer, fired in spikes.items():
            theirs = found[layer.replace("/", "_")]
            np.testing.assert_array_equal(theirs, np.moveaxis(fired[t], -1, 1), err_msg=f"{layer} at {t}")
        given |= {f"v/{name.removeprefix('v_next/')}": found[name] for name in names if name.startswith("v_next/")}


def test_frames_are_taken_one_a_timestep_and_images_as_they_are():
    network, variables, images = make_student("spiking-conv", 9, width=1 / 4)
    frames = np.random.default_rng(0).integers(0, 256, (T, 2, 9, 9, 2), np.uint8)
    mean, std = np.array([0.25, 0.5], np.float32), np.array([0.5, 0.25], np.float32)
    graph = from_pixels(student_graph(network, variables, images.shape[1:]), Pixels((0.25, 0.5), (0.5, 0.25), "uint8"))
    model = to_onnx(graph, T, frames=True, images="uint8")
    (logits,) = session(model).run(["logits"], {"images": frames})
    normalised = jnp.asarray((frames.astype(np.float32) / 255 - mean) / std)
    expected = jitted(network).predict(variables, normalised, timesteps=T)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)


def test_too_many_timesteps_are_refused():
    network, variables, images = make_student("spiking-mlp", 2, width=1 / 64)
    with pytest.raises(InputError, match="export one timestep"):
        to_onnx(student_graph(network, variables, images.shape[1:]), 1001)
