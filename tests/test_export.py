"""Exports of a run: a step that streams without this package, weights with a model card, and the program."""

import json
import re
import subprocess
import sys
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open

from sealkd_jax.export.streaming import export_step
from sealkd_jax.files import write_json
from sealkd_jax.models import create_student
from sealkd_jax.programs.commands import export
from sealkd_jax.weights.own import load_weights, save_weights
from tests.helpers.compiling import jitted
from tests.helpers.finished_run import write_student
from tests.helpers.programs import refusal
from tests.helpers.small_students import make_student

ROOT = Path(__file__).parents[1]
SHAPE = (8, 8, 2)
T = 3


@pytest.mark.parametrize(
    ("name", "neuron", "width"),
    [("spiking-conv", "plif", 1 / 4), ("spiking-mlp", "iaf", 1 / 16), ("sew-resnet18", "lif", 1 / 16)],
)
def test_steps_give_the_logits_of_the_whole(name, neuron, width, float64):
    network, variables, images = make_student(name, 8, width=width, neuron=neuron, precision="float64")
    compiled = jitted(network)
    whole, membranes = compiled.predict(variables, images, timesteps=T), {}
    for t in range(T):
        logits, membranes = compiled.step(variables, membranes, images)
        np.testing.assert_allclose(logits, whole[t], rtol=1e-10, atol=1e-10)
    assert np.ptp(whole, axis=0).max() > 0  # the timesteps differ: the membranes matter


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
    images = np.asarray(2 * jax.random.normal(jax.random.key(1), (5, *SHAPE)))
    np.save(tmp_path / "images.npy", images)
    page = (ROOT / "docs/export.md").read_text()
    code = re.search(r"```python\n(import sys\n.*?)```", page, re.DOTALL)[1]
    code = f"import sys\nsys.modules.update(sealkd_jax=None, flax=None)\n{code}"
    (tmp_path / "stream.py").write_text(code)
    files = [str(tmp_path / name) for name in ("export/student.stablehlo", "images.npy", "logits.npy")]
    command = [sys.executable, "stream.py", *files[:2], str(T), files[2]]
    subprocess.run(command, check=True, cwd=tmp_path)
    expected = jitted(network).predict(variables, jnp.asarray(images), timesteps=T)
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


def test_a_graph_is_written_for_nir(run):
    nir = pytest.importorskip("nir", reason="without NIR: see the extra export")
    directory, *_ = run
    export.main([str(directory), "--to", "nir"])
    graph = nir.read(directory / "export/student.nir")
    np.testing.assert_array_equal(graph.input_type["input"], [2, 8, 8])
    np.testing.assert_array_equal(graph.output_type["output"], [3])


def test_what_cannot_be_exported_is_named(run, tmp_path, capsys, monkeypatch):
    directory, _, variables = run

    def said(folder, to):
        return refusal([str(folder), "--to", to], capsys, main=export.main)

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
