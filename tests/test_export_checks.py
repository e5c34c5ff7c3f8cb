"""The program `export`: examples beside a graph, their replay, ONNX, and weights in eight bits."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from sealkd_jax.data import Split
from sealkd_jax.errors import InputError
from sealkd_jax.programs import export_files
from sealkd_jax.programs.commands import export
from sealkd_jax.programs.finished import load_run
from tests.helpers.finished_run import write_student
from tests.helpers.programs import refusal

nir = pytest.importorskip("nir", reason="without NIR: see the extra export")

T = 2


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A finished run whose data has twelve test images."""
    write_student(tmp_path, (8, 8, 1), timesteps=T)
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 1), np.uint8)
    labels = load_run(tmp_path).logits(images).sum(0).argmax(-1).astype(np.int32)  # the student is right
    data = SimpleNamespace(name="digits", test=Split(images, labels), splits_fingerprint="")
    monkeypatch.setattr(export_files, "load_dataset", lambda options: data)
    return tmp_path, data


@pytest.mark.slow
def test_examples_of_a_graph_are_checked(run, capsys):
    directory, data = run
    export.main([str(directory), "--to", "nir"])
    examples = nir.read_data(directory / "export/student_data.nir").nodes
    shown = examples["input"].observables["images"].data
    np.testing.assert_array_equal(shown[:, 0], data.test.images[:10].reshape(10, -1))
    logits = load_run(directory).logits(data.test.images[:10])
    np.testing.assert_allclose(examples["output"].observables["logits"].data, logits.swapaxes(0, 1), atol=1e-5)
    export.main(["--check", str(directory / "export")])
    assert "block_0_neuron: 0 of" in capsys.readouterr().out
    graph = nir.read(directory / "export/student.nir")
    graph.nodes["readout"].weight *= -1
    nir.write(directory / "export/student.nir", graph)
    capsys.readouterr()
    with pytest.raises(InputError, match="does not give what its examples say"):
        export.main(["--check", str(directory / "export")])
    assert "10 classes differ" in capsys.readouterr().out


@pytest.mark.slow
def test_eight_bits_are_tested_on_the_test_split(run):
    directory, _ = run
    made = export.export(directory, "nir", weights="int8", examples=2)
    card = json.loads(made.model_card.read_text())
    accuracy = card["files"]["student.nir"]["accuracy_by_timestep"]
    assert len(accuracy) == T and accuracy[-1] > 0.5
    assert nir.read(made.path).nodes["readout"].metadata["scale"].shape == (3,)
    assert sum(layer.different for layer in export.check(directory / "export").layers) == 0


def test_both_forms_of_onnx_are_written(run):
    pytest.importorskip("onnx", reason="without onnx: see the extra export")
    runtime = pytest.importorskip("onnxruntime", reason="without ONNX Runtime: see the extra test")
    directory, data = run
    path = export.export(directory, "onnx").path
    (logits,) = runtime.InferenceSession(str(path)).run(["logits"], {"images": data.test.images})
    np.testing.assert_allclose(logits, load_run(directory).logits(data.test.images), rtol=1e-5, atol=1e-5)
    path = export.export(directory, "onnx-step", weights="int8").path
    assert {x.name for x in runtime.InferenceSession(str(path)).get_inputs()} > {"images", "v/block_0_neuron"}


def test_other_data_and_formats_are_refused(run, capsys):
    directory, data = run
    with pytest.raises(InputError, match="not for safetensors; expected one of nir, onnx"):
        export.export(directory, "safetensors", weights="int8")
    data.splits_fingerprint = "others"
    assert "digits is not the data of this run" in refusal([str(directory), "--to", "nir"], capsys, main=export.main)
    assert "run: none given" in refusal(["--to", "nir"], capsys, main=export.main)
