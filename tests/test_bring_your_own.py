"""The how-tos of docs/bring_your_own, run as they stand, with a small student for two epochs."""

import json
import runpy
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from sealkd_jax.losses import METHODS
from sealkd_jax.models import STUDENTS
from sealkd_jax.programs import presets

FOLDER = Path(__file__).parents[1] / "docs/bring_your_own"
SMALL = {"epochs": 2, "devices": 1, "timesteps": 2}


@pytest.fixture
def summary(tmp_path, monkeypatch):
    """Runs a how-to in an empty directory, with a small teacher where it needs one; gives the summary of its run."""
    monkeypatch.chdir(tmp_path)
    preset = presets.PRESETS["digits"]
    hurried = replace(preset.teacher, epochs=1, warmup_epochs=0)
    monkeypatch.setitem(presets.PRESETS, "digits", preset._replace(teacher=hurried))
    for registry in (METHODS, STUDENTS):  # what a how-to adds is gone after the test
        for name in ("late_kd", "two-dense"):
            monkeypatch.setitem(registry, name, None)
            del registry[name]

    def run(name, **options):
        runpy.run_path(str(FOLDER / name))["main"](**SMALL, **options)
        (path,) = Path("runs").glob("*/summary.json")
        return json.loads(path.read_text())

    return run


MLP = {"student": "spiking-mlp", "width": 0.25}


@pytest.mark.slow
def test_teacher(summary):
    found = summary("teacher.py", **MLP)
    assert found["method"] == "seal" and found["test_accuracy"] > 0.5
    assert Path("my_teacher.npz").exists() and not Path("runs/teachers").exists()  # ours was not needed


@pytest.mark.slow
def test_student(summary):
    found = summary("student.py")
    assert list(found["firing_rates"]) == ["neuron"] and found["test_accuracy"] > 0.5


@pytest.mark.slow
def test_data(summary):
    found = summary("data.py", **MLP)
    assert found["input"]["shape"] == [12, 12, 1] and found["n_test"] == 300 and len(found["classes"]) == 3


@pytest.mark.slow
def test_loss(summary):
    found = summary("loss.py", **MLP)
    assert (found["method"], found["hyper"]) == ("late_kd", ["power=2"])
    line = json.loads(next(Path("runs").glob("*/metrics.jsonl")).read_text().splitlines()[0])
    assert line["terms"].keys() == {"ce", "kd", "wrong"}


def test_the_citation_names_this_version_and_the_paper():
    root = Path(__file__).parents[1]
    citation, project = (root / "CITATION.cff").read_text(), tomllib.loads((root / "pyproject.toml").read_text())
    assert f"\nversion: {project['project']['version']}\n" in citation
    assert f"\nlicense: {project['project']['license']}\n" in citation
    assert "2605.14252" in citation
