"""Exports of a run: a step that streams without this package, weights with a model card, and the program."""

import json
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from safetensors import safe_open

from sealkd_jax.errors import InputError
from sealkd_jax.export.model_card import describe_file
from sealkd_jax.export.pixels import Pixels, from_pixels
from sealkd_jax.export.streaming import export_step
from sealkd_jax.export.student_graph import student_graph
from sealkd_jax.files import read_npz, write_json
from sealkd_jax.models import Network, create_student
from sealkd_jax.models.graph import GraphNet
from sealkd_jax.programs.commands import export
from sealkd_jax.weights.own import load_weights, save_weights
from tests.helpers.compiling import jitted
from tests.helpers.finished_run import write_student
from tests.helpers.programs import refusal
from tests.helpers.small_students import make_student
from tests.helpers.stored_step import stream

ROOT = Path(__file__).parents[1]
STORED = ROOT / "tests/golden"
SHAPE = (8, 8, 2)
T = 3


@pytest.mark.parametrize(
    ("name", "neuron", "width"),
    [
        ("spiking-conv", "plif", 1 / 4),
        ("spiking-mlp", "iaf", 1 / 16),
        pytest.param("sew-resnet18", "lif", 1 / 16, marks=pytest.mark.slow),
    ],
)
def test_steps_give_the_logits_of_the_whole(name, neuron, width, float64):
    network, variables, images = make_student(name, 8, width=width, neuron=neuron, precision="float64")
    compiled = jitted(network)
    whole, membranes = compiled.predict(variables, images, timesteps=T), {}
    for t in range(T):
        logits, membranes = compiled.step(variables, membranes, images)
        np.testing.assert_allclose(logits, whole[t], rtol=1e-10, atol=1e-10)
    assert np.ptp(whole, axis=0).max() > 0  # the timesteps differ: the membranes matter


def normalised(images):
    return jnp.asarray((images / 255 - [0.5, 0.25]) / [0.2, 0.1], jnp.float32)


@pytest.fixture
def run(tmp_path):
    """The files of a finished run that an export reads."""
    network, variables = write_student(tmp_path, SHAPE, timesteps=T)
    return tmp_path, network, variables


@pytest.mark.slow
def test_a_step_runs_in_a_process_without_this_package(run, tmp_path):
    """The code of docs/export.md, where an import of this package fails."""
    pytest.importorskip("flatbuffers", reason="without flatbuffers: see the extra export")
    directory, network, variables = run
    export.main([str(directory), "--to", "stablehlo"])
    images = np.random.default_rng(1).integers(0, 256, (5, *SHAPE)).astype(np.uint8)
    np.save(tmp_path / "images.npy", images)
    page = (ROOT / "docs/export.md").read_text()
    code = re.search(r"```python\n(import sys\n.*?)```", page, re.DOTALL)[1]
    code = f"import sys\nsys.modules.update(sealkd_jax=None, flax=None)\n{code}"
    (tmp_path / "stream.py").write_text(code)
    files = [str(tmp_path / name) for name in ("export/student.stablehlo", "images.npy", "logits.npy")]
    command = [sys.executable, "stream.py", *files[:2], str(T), files[2]]
    subprocess.run(command, check=True, cwd=tmp_path)
    expected = jitted(network).predict(variables, normalised(images), timesteps=T)
    np.testing.assert_allclose(np.load(files[2]), expected, rtol=1e-5, atol=1e-5)


def test_a_step_is_lowered_for_every_platform():
    network = create_student("spiking-mlp", 3, width=1 / 64)
    variables = network.init(jax.random.key(0), jnp.zeros((1, *SHAPE)))
    assert export_step(network, variables, SHAPE).platforms == ("cpu", "cuda", "tpu")


def test_weights_come_with_a_card(run):
    directory, network, variables = run
    export.main([str(directory), "--to", "safetensors"])
    path = directory / "export/student.safetensors"
    card = json.loads((directory / "export/model_card.json").read_text())
    with safe_open(path, framework="numpy") as file:
        assert json.loads(file.metadata()["facts"])["model_card"] == card
    like = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, *SHAPE)))
    chex.assert_trees_all_equal(load_weights(path, like), variables)
    assert card["model"]["student"] == "spiking-conv" and card["timesteps"] == T
    assert card["data"] == {"dataset": "digits", "preset": "digits", "classes": ["a", "b", "c"]}
    assert card["input"] == dict(height=8, width=8, channels=2, frames=None, mean=[0.5, 0.25], std=[0.2, 0.1])
    assert card["method"] == dict(name="seal", hyper=["alpha=0.5"], seed=7, epochs=2, teacher="convnet")
    assert card["accuracy"]["test"] == 0.75 and card["accuracy"]["by_timestep"] == [0.75] * T
    assert card["energy"]["picojoule_per_example"] == 500.0


def test_weights_and_card_make_the_network_again(run, monkeypatch):
    """The code of docs/export.md."""
    directory, network, variables = run
    export.main([str(directory), "--to", "safetensors"])
    monkeypatch.chdir(directory / "export")
    names = {"images": jax.random.normal(jax.random.key(1), (5, *SHAPE))}
    page = (ROOT / "docs/export.md").read_text()
    exec(re.search(r"```python\n(import json\n.*?)```", page, re.DOTALL)[1], names)
    expected = jitted(network).predict(variables, names["images"], timesteps=T)
    np.testing.assert_allclose(names["logits"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("student", ["spiking-conv", "spiking-mlp"])
def test_a_graph_of_pixels_computes_what_that_of_normalised_images_does(student, float64):
    """A 1x1 convolution before padding; dense layers take the normalisation into their weights."""
    network, variables, _ = make_student(student, 8, width=1 / 16, neuron="iaf", precision="float64")
    pixels = Pixels((0.5, 0.25), (0.2, 0.1), "uint8")
    graphs = [student_graph(network, variables, SHAPE)]
    graphs.append(from_pixels(graphs[0], pixels))
    assert len(graphs[1].nodes) - len(graphs[0].nodes) == (student == "spiking-conv")
    raw = np.random.default_rng(0).integers(0, 256, (3, *SHAPE)).astype(np.uint8)
    images = pixels.normalise(jnp.asarray(raw), jnp.float64), jnp.asarray(raw, jnp.float64)
    logits = []
    for graph, x in zip(graphs, images, strict=True):
        net = Network(GraphNet(graph, dtype=jnp.float64, param_dtype=jnp.float64))
        logits.append(jitted(net).predict(net.init(jax.random.key(0), x), x, timesteps=T))
    np.testing.assert_allclose(*logits, rtol=1e-10, atol=1e-10)
    assert np.ptp(logits[0]) > 0


def test_what_was_exported_is_made_anew(run):
    """Without a format: the same files, with the choices of the card. It says what they take and how long they live."""
    pytest.importorskip("nir", reason="without NIR: see the extra export")
    directory, *_ = run
    out = directory / "export"
    with pytest.raises(InputError, match="export: nothing to export again; choose a format with --to: nir, onnx"):
        export.export(directory)
    export.main([str(directory), "--to", "safetensors"])
    export.main([str(directory), "--to", "nir", "--no-pixels", "--for", "snntorch", "--examples", "0"])
    before = {name: (out / name).read_bytes() for name in ("student.nir", "student.safetensors", "README.md")}
    (out / "student.nir").write_bytes(b"damaged")
    made = export.export(directory)
    assert [path.name for path in made.paths] == ["student.safetensors", "student.nir"]
    files = json.loads(made.model_card.read_text())["files"]
    assert files["student.nir"]["dialect"] == "snntorch" and not files["student.nir"]["pixels"]
    assert "normalised" in files["student.nir"]["input"] and "lifetime" not in files["student.nir"]
    assert (out / "README.md").read_bytes() == before["README.md"]
    nir = sys.modules["nir"]
    assert set(nir.read(out / "student.nir").nodes) >= {"input", "output"}
    write_json(made.model_card, {"files": {"student.nir": {"to": "exe"}}})
    with pytest.raises(InputError, match=r"model_card\.json: damaged: files: "):
        export.export(directory)


@pytest.mark.parametrize(
    ("day", "until"), [("2026-12-01", "2027-06-01"), ("2026-08-31", "2027-02-28"), ("2027-01-15", "2027-07-15")]
)
def test_a_compiled_step_expires_after_six_months(day, until):
    card = {"input": {"frames": None}}
    about = describe_file(card, to="stablehlo", pixels=True, today=date.fromisoformat(day))
    assert about["input"] == "pixels from 0 to 255, as they are"
    assert (about["lifetime"]["from"], about["lifetime"]["until"]) == (day, until)


def test_a_stored_step_is_still_read():
    """One that an older jax wrote: helpers/stored_step.py writes it again when its guarantee ends."""
    pytest.importorskip("flatbuffers", reason="without flatbuffers: see the extra export")
    about = json.loads((STORED / "step.json").read_text())
    if date.today().isoformat() > about["lifetime"]["until"]:
        pytest.skip("the stored step is past its guarantee: python -m tests.helpers.stored_step tests/golden")
    step = jax.export.deserialize(bytearray((STORED / "step.stablehlo").read_bytes()))
    stored = read_npz(STORED / "step.npz", ("images", "logits"))
    found = stream(step, stored["images"], len(stored["logits"]))
    np.testing.assert_allclose(found, stored["logits"], rtol=1e-5, atol=1e-6)


def test_the_readme_of_an_export_has_yaml_that_hubs_read(run):
    directory, *_ = run
    made = export.export(directory, "safetensors")
    _, front, text = (directory / "export/README.md").read_text().split("---\n", 2)
    head, card = yaml.safe_load(front), json.loads(made.model_card.read_text())
    assert head["datasets"] == ["digits"] and head["data_license"] == "cc-by-4.0" and head["method"] == "seal"
    (result,) = head["model-index"][0]["results"]
    assert [metric["value"] for metric in result["metrics"]] == card["accuracy"]["by_timestep"][::-1]
    assert result["metrics"][0]["name"] == "accuracy after 3 of 3 timesteps"
    assert "| 3 | 75.00% |" in text and "student.safetensors" in text and "0.0005 µJ" in text
    hub = pytest.importorskip("huggingface_hub", reason="without huggingface_hub: see the extra hub")
    (evaluation, *_) = hub.ModelCard.load(directory / "export/README.md").data.eval_results
    assert evaluation.metric_value == 0.75 and evaluation.dataset_name == "digits"


def test_a_graph_is_written_for_nir(run):
    nir = pytest.importorskip("nir", reason="without NIR: see the extra export")
    directory, *_ = run
    export.main([str(directory), "--to", "nir", "--examples", "0"])
    graph = nir.read(directory / "export/student.nir")
    np.testing.assert_array_equal(graph.input_type["input"], [2, 8, 8])
    np.testing.assert_array_equal(graph.output_type["output"], [3])


def test_what_cannot_be_exported_is_named(run, tmp_path, capsys, monkeypatch):
    directory, _, variables = run

    def said(folder, to):
        return refusal([str(folder), "--to", to, "--examples", "0"], capsys, main=export.main)

    assert "none: no finished run there" in said(tmp_path / "none", "nir")
    monkeypatch.setitem(sys.modules, "nir", None)
    assert 'pip install "sealkd-jax[export]"' in said(directory, "nir")
    others = jax.tree.map(lambda leaf: leaf + 1, variables)
    save_weights(directory / "weights.safetensors", others, {})
    assert "not the weights of summary.json" in said(directory, "safetensors")
    summary = json.loads((directory / "summary.json").read_text())
    del summary["input"]
    write_json(directory / "summary.json", summary)
    assert "summary.json: damaged: input: missing" in said(directory, "safetensors")
