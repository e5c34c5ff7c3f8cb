"""The notebooks: executed from the first cell to the last, with tiny networks, and how they are stored."""

import json
import os
import runpy
import shutil
import zipfile
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from safetensors.numpy import load_file
from sklearn.datasets import load_digits

from sealkd_jax.data.events.recordings import Events
from tests.helpers import event_files as formats
from tests.helpers.prepared_data import write_prepared

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TINY = {
    "quickstart": (
        'OUT = "run"\nOPTIONS = {"epochs": 2, "student": "spiking-mlp", "width": 0.25, "views": 1, "timesteps": 2,'
        ' "devices": 1, "teacher_width": 0.25}'
    ),
    "cifar10_tpu": (
        'PRESET, OUT, DATA_DIR, KEEP = "cifar10-cpu", "runs/tiny", "data", "../outlasts"\nOPTIONS = {"epochs": 2,'
        ' "student": "spiking-mlp", "width": 0.25, "views": 1, "timesteps": 2, "teacher": "convnet",'
        ' "teacher_width": 0.25, "batch_size": 50}'
    ),
    "events": (
        'DATA_DIR, OUT = "recordings", "run"\nOPTIONS = {"timesteps": 3, "frame_size": 17, "devices": 1}\n'
        'TEACHER = {"epochs": 1, "teacher": "convnet", "teacher_width": 0.25}\n'
        'STUDENT = {"epochs": 2, "student": "spiking-mlp", "width": 0.25, "views": 1}'
    ),
}


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """Runs a notebook in an empty directory, as a user of the installed package does; returns what it shows."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / ".ipython"))

    def run(name):
        notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
        for cell in notebook.cells:
            if "parameters" in cell.metadata.get("tags", ()):
                cell.source = TINY[name]
        resources = {"metadata": {"path": str(tmp_path)}}
        NotebookClient(notebook, timeout=None, kernel_name="python3", resources=resources).execute()
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
        assert [output["text"] for output in outputs if output.get("name") == "stderr"] == []  # shown in red
        pictures = [output for output in outputs if "image/png" in output.get("data", {})]
        return "".join(output.get("text", "") for output in outputs), len(pictures)

    return run


@pytest.mark.slow
def test_quickstart_distils_and_shows_every_plot(execute, tmp_path):
    said, pictures = execute("quickstart")
    plots = list((tmp_path / "run/plots").glob("*.png"))
    assert {"accuracy_by_timestep", "early_exit", "sta_weights"} <= {path.stem for path in plots}
    assert pictures == len(plots)
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert f"{summary['test_accuracy']:.2%}" in said and "timestep variance on which SeAl-KD pays" in said
    card = json.loads((tmp_path / "run/export/model_card.json").read_text())
    assert card["accuracy"]["test"] == summary["test_accuracy"]


@pytest.mark.slow
def test_inside_seal_kd_says_what_its_text_says(execute):
    """Its own cells compare the losses with what is computed by hand, and fail where they differ."""
    said, pictures = execute("inside_seal_kd")
    assert pictures == 4 and "final answer: ['cat', 'cat']" in said
    pushes = {
        line[:13].strip(): line.split("dog")[1] for line in said.splitlines() if " cat " in line and "dog" in line
    }
    assert pushes["ELA"].strip() in ("+0.000", "-0.000")  # nothing to the winning wrong class
    assert pushes["uniform KD"].strip().startswith("+")  # to the teacher's mistake


@pytest.mark.slow
def test_cifar10_runs_on_two_devices_and_goes_on_from_what_outlasts_the_session(execute, tmp_path, monkeypatch):
    """Digits stand in for CIFAR-10's images, prepared as by TFDS."""
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "2")
    digits = load_digits()
    images = np.kron(digits.images[:300, ..., None] * 15, np.ones((1, 4, 4, 3))).astype(np.uint8)
    splits = {"train": slice(200), "test": slice(200, 300)}
    write_prepared("cifar10", tmp_path / "data", {k: (images[part], digits.target[part]) for k, part in splits.items()})

    said, pictures = execute("cifar10_tpu")
    assert "2 x cpu" in said and "2 epochs of 50 images a step, 25 on each device" in said and pictures == 4
    summary, metrics = ((tmp_path / "runs/tiny" / name).read_text() for name in ("summary.json", "metrics.jsonl"))
    shutil.rmtree(tmp_path / "runs")  # the session ends
    (tmp_path / "runs.tar").unlink()
    said, _ = execute("cifar10_tpu")
    assert "continues from ../outlasts/runs.tar" in said
    assert (tmp_path / "runs/tiny/summary.json").read_text() == summary
    assert (tmp_path / "runs/tiny/metrics.jsonl").read_text() == metrics  # seconds too: nothing was trained again


def film_digits(directory):
    """Recordings in N-MNIST's archives: digits that a camera moves along, and an event wherever ink comes or goes."""
    digits, path = load_digits(), [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (4, 2), (4, 0)]
    directory.mkdir()
    for part, which in (("Train", range(200)), ("Test", range(200, 250))):
        with zipfile.ZipFile(directory / f"{part}.zip", "w") as archive:
            for n in which:
                ink = np.pad(np.kron(digits.images[n] > 7, np.ones((3, 3), int)), 5)
                change = np.diff([np.roll(ink, shift, (0, 1)) for shift in path], axis=0)
                step, y, x = np.nonzero(change)
                events = Events(x, y, (change[step, y, x] > 0).astype(int), 50_000 * step)
                archive.writestr(f"{part}/{digits.target[n]}/{n:05d}.bin", formats.nmnist(events))


@pytest.mark.slow
def test_events_go_from_recordings_to_answers_that_stop_early(execute, tmp_path):
    """Real recordings where they are at hand, otherwise digits that were filmed here."""
    if "SEALKD_TEST_DATA" in os.environ:
        (tmp_path / "recordings").symlink_to(Path(os.environ["SEALKD_TEST_DATA"], "nmnist").absolute())
    else:
        film_digits(tmp_path / "recordings")
    said, pictures = execute("events")
    assert pictures == 5 and "the first three" in said
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert f"{summary['test_accuracy']:.2%} after all" in said and summary["timesteps"] == 3
    (logits,) = tmp_path.glob("runs/teachers/nmnist-convnet-*/logits-*.safetensors")
    assert load_file(logits)["logits"].shape[2:] == (3, 10)  # the teacher saw each frame


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs_and_with_the_repositorys_address(path):
    text = path.read_text()
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert f"/blob/main/notebooks/{path.name})" in notebook.cells[0].source  # its badge
    assert runpy.run_path(str(ROOT / "notebooks/address.py"))["addressed"](text) == text
    assert (path.stem in TINY) == any("parameters" in cell.metadata.get("tags", ()) for cell in code)
