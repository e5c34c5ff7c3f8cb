"""A teacher in an ONNX file: how its input is read, and that its logits are those of our own forward pass."""

from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from sealkd_jax.data import Dataset, Split
from sealkd_jax.data.scales import mean_and_std
from sealkd_jax.errors import InputError
from sealkd_jax.models import create_teacher
from sealkd_jax.teachers.onnx import GraphInput, load_onnx, make_prepare, read_input
from sealkd_jax.weights.torch_names import import_torch

RGB, GREY, EVENTS = (32, 32, 3), (8, 8, 1), (4, 34, 34, 2)
FLOAT = "tensor(float)"


def make_dataset(shape, examples=6, classes=10):
    rng = np.random.default_rng(0)
    split = Split(rng.integers(0, 256, (examples, *shape)).astype(np.uint8), np.arange(examples, dtype=np.int32))
    return Dataset("noise", split, split, split, tuple(map(str, range(classes))))


# ---- what a graph takes


@pytest.mark.parametrize(
    ("shape", "image", "expected"),
    [
        (["N", 3, 32, 32], RGB, (True, 3, (32, 32), None)),
        ([1, 3, 224, 224], RGB, (True, 3, (224, 224), 1)),
        (["N", 299, 299, 3], RGB, (False, 3, (299, 299), None)),
        (["N", 3, "h", "w"], RGB, (True, 3, (32, 32), None)),
        ([None, None, None, None], RGB, (True, 3, (32, 32), None)),
        ([-1, "h", "w", 3], RGB, (False, 3, (32, 32), None)),
        (["N", 3, 64, 48], GREY, (True, 3, (64, 48), None)),
        (["N", 1, 28, 28], GREY, (True, 1, (28, 28), None)),
        (["N", 2, 34, 34], EVENTS, (True, 2, (34, 34), None)),
    ],
)
def test_layout_size_and_batch_are_read_from_the_graph(shape, image, expected):
    assert read_input(Path("net.onnx"), FLOAT, shape, image) == GraphInput("float32", *expected)


@pytest.mark.parametrize(
    ("kind", "shape", "image", "words"),
    [
        ("tensor(int64)", ["N", 3, 32, 32], RGB, r"its input is a tensor\(int64\); expected one of tensor\(float\)"),
        (FLOAT, ["N", 1, 28, 28], RGB, r"expected \[B, 3, H, W\] or \[B, H, W, 3\] for images of 3 channels"),
        (FLOAT, ["N", 4, 32, 32], GREY, r"expected \[B, 1, H, W\]"),
        (FLOAT, ["N", 3072], RGB, r"its input is \['N', 3072\]"),
    ],
)
def test_other_inputs_are_refused(kind, shape, image, words):
    with pytest.raises(InputError, match=rf"^net\.onnx: .*{words}"):
        read_input(Path("net.onnx"), kind, shape, image)


# ---- how images become that


@pytest.mark.parametrize("scale", ["imagenet", "unit", "symmetric", "pixels", "dataset"])
def test_images_are_scaled_and_laid_out(scale):
    data = make_dataset(RGB)
    mean, std = mean_and_std(data, scale, 3)
    seen = make_prepare(GraphInput("float32", True, 3, (32, 32), None), mean, std, "mean")(data.test.images)
    pixels = data.test.images / 255.0
    by_hand = {
        "imagenet": (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
        "unit": pixels,
        "symmetric": 2 * pixels - 1,
        "pixels": 255 * pixels,
        "dataset": (pixels - pixels.mean((0, 1, 2))) / pixels.std((0, 1, 2)),
    }
    np.testing.assert_allclose(seen, by_hand[scale].transpose(0, 3, 1, 2), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("size", [(16, 24), (64, 48)])
def test_images_are_resized_as_by_pillow(size):
    """A grey one for a graph of RGB images, smaller with antialiasing and larger."""
    data = make_dataset((32, 32, 1))
    takes = GraphInput("uint8", False, 3, size, None)
    seen = make_prepare(takes, np.zeros(3), np.ones(3), "mean")(data.test.images)
    assert seen.dtype == np.uint8 and seen.shape == (6, *size, 3)
    for image, given in zip(seen, data.test.images, strict=True):
        pillow = np.asarray(Image.fromarray(given[..., 0]).resize(size[::-1], Image.Resampling.BILINEAR), int)
        assert abs(image.astype(int) - pillow[..., None]).max() <= 1  # Pillow rounds after each axis


def test_frames_are_averaged_or_seen_one_by_one():
    frames = make_dataset(EVENTS).test.images
    takes = GraphInput("float32", False, 2, (34, 34), None)
    seen = {mode: make_prepare(takes, np.zeros(2), np.ones(2), mode)(frames) for mode in ("mean", "each")}
    np.testing.assert_allclose(seen["mean"], frames.mean(1) / 255, rtol=1e-5)
    np.testing.assert_allclose(seen["each"], frames.reshape(24, 34, 34, 2) / 255.0, rtol=1e-6)


# ---- files


def save_graph(path, shape, classes, flatten=True, external=False, kind="FLOAT", weights=None):
    """A graph of one matrix product."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    size = int(np.prod([each for each in shape[1:] if isinstance(each, int)]))
    weights = np.random.default_rng(1).normal(size=(size, classes)).astype(np.float32) if weights is None else weights
    nodes = [helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT), helper.make_node("Flatten", ["f"], ["y"])]
    nodes += [helper.make_node("MatMul", ["y", "w"], ["logits"])]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", getattr(TensorProto, kind), shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [shape[0], classes])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path, save_as_external_data=external, location="weights.bin", size_threshold=0)
    return weights


@pytest.fixture
def runtime():
    pytest.importorskip("onnx")
    return pytest.importorskip("onnxruntime")


def test_without_the_runtime_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r'^onnx:net\.onnx: needs onnxruntime: pip install "sealkd-jax\[onnx\]"'):
        load_onnx(Path("net.onnx"), make_dataset(RGB))


@pytest.mark.parametrize(
    ("batch", "external", "kind"), [("N", False, "FLOAT"), (4, True, "FLOAT"), (1, False, "UINT8")]
)
def test_a_graph_gives_its_logits_whatever_its_batch(runtime, tmp_path, batch, external, kind):
    path, data = tmp_path / "net.onnx", make_dataset((8, 8, 3))
    weights = save_graph(path, [batch, 3, 8, 8], 10, external=external, kind=kind)
    taught = load_onnx(path, data, scale=None if kind == "UINT8" else "pixels")
    expected = data.test.images.transpose(0, 3, 1, 2).reshape(6, -1).astype(np.float64) @ weights
    np.testing.assert_allclose(taught(data.test.images).logits, expected, rtol=1e-4, atol=1e-2)
    before = taught.digest
    save_graph(path, [batch, 3, 8, 8], 10, external=external, kind=kind, weights=weights + 1)  # in the file beside it
    assert load_onnx(path, data, scale=None if kind == "UINT8" else "pixels").digest != before


def test_graphs_of_other_classes_or_scales_and_other_files_are_refused(runtime, tmp_path):
    path, data = tmp_path / "net.onnx", make_dataset((8, 8, 3))
    with pytest.raises(InputError, match=r"net\.onnx: no such file"):
        load_onnx(path, data)
    path.write_text("no network")
    with pytest.raises(InputError, match=r"net\.onnx: ONNX Runtime cannot read it \(.*\); expected an ONNX network"):
        load_onnx(path, data)
    save_graph(path, ["N", 3, 8, 8], 1000)
    with pytest.raises(InputError, match=r"outputs are logits \['N', 1000\]; expected logits \[B, 10\]"):
        load_onnx(path, data)
    save_graph(path, ["N", 3, 8, 8], 10, kind="UINT8")
    with pytest.raises(InputError, match=r"^scale unit: .*net\.onnx takes uint8 images, which are not scaled"):
        load_onnx(path, data, scale="unit")
    save_graph(path, ["N", 1, 8, 8], 10)
    with pytest.raises(InputError, match=r"^scale imagenet: expected RGB images"):
        load_onnx(path, make_dataset(GREY))


# ---- a real network


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of PyTorch's exporter
def test_a_real_resnet56_exported_by_pytorch_has_the_logits_of_our_forward_pass(tmp_path, real_data):
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from tests.helpers.torch_resnet import load_resnet

    weights, data = real_data / "resnet56-4bfd9763.th", make_dataset(RGB, examples=10)
    module, path = load_resnet(weights), tmp_path / "resnet56.onnx"
    sample, batch = torch.zeros(2, 3, 32, 32), torch.export.Dim("batch")
    torch.onnx.export(module, (sample,), path, dynamo=True, dynamic_shapes=({0: batch},), verbose=False)
    taught = load_onnx(path, data)
    logits = taught(data.test.images).logits
    network = create_teacher("resnet56", 10)
    images = (data.test.images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    images = images.astype(np.float32)
    like = jax.eval_shape(network.init, jax.random.key(0), images[:1])
    ours = jax.jit(lambda v, x: network.predict(v, x, timesteps=1)[0])(import_torch(weights, network, like), images)
    np.testing.assert_allclose(logits, ours, rtol=0, atol=1e-3)
    assert abs(logits).max() > 5
