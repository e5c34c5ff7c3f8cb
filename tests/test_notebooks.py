"""The notebooks: executed from the first cell to the last, in a tiny setting, and how they are stored."""

import json
import runpy
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TINY = {
    "quickstart": (
        'OUT = "run"\nOPTIONS = "--epochs 2 --student spiking-mlp --width 0.25 --views 1 --timesteps 2 --devices 1'
        ' --teacher-width 0.25".split()'
    ),
}


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """Runs a notebook in an empty directory, as somebody who has installed the package; gives what it shows."""
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
        pictures = [output for output in outputs if "image/png" in output.get("data", {})]
        return "".join(output.get("text", "") for output in outputs), len(pictures)

    return run


def test_quickstart_distils_and_shows_every_plot(execute, tmp_path):
    said, pictures = execute("quickstart")
    plots = list((tmp_path / "run/plots").glob("*.png"))
    assert {"accuracy_by_timestep", "early_exit", "sta_weights"} <= {path.stem for path in plots}
    assert pictures == len(plots)
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert f"{summary['test_accuracy']:.2%}" in said and "timestep variance on which SeAl-KD pays" in said
    card = json.loads((tmp_path / "run/export/model_card.json").read_text())
    assert card["accuracy"]["test"] == summary["test_accuracy"]


def test_inside_seal_kd_says_what_its_text_says(execute):
    """Its own cells compare the losses with what is computed by hand, and fail where they differ."""
    said, pictures = execute("inside_seal_kd")
    assert pictures == 4 and "final answer: ['cat', 'cat']" in said
    pushes = {
        line[:13].strip(): line.split("dog")[1] for line in said.splitlines() if " cat " in line and "dog" in line
    }
    assert pushes["ELA"].strip() in ("+0.000", "-0.000")  # nothing to the winning wrong class
    assert pushes["uniform KD"].strip().startswith("+")  # to the teacher's mistake


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
