"""The how-tos of docs/bring_your_own, run as they stand, with a small student for two epochs."""

import json
import runpy
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from sealkd_jax import programs
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
def test_logits_from_elsewhere(summary, monkeypatch):
    """The last code of the page: a student takes what `write_logits` wrote as verified."""
    text = (FOLDER / "teacher.md").read_text().split("## Logits from elsewhere")[1]
    code, distill = text.split("```python\n")[1].split("```")[0], programs.distill
    monkeypatch.setattr(programs, "distill", lambda *preset, **given: distill(*preset, **MLP | SMALL | given))
    exec(code, {})
    found = json.loads(Path("runs/from-logits/summary.json").read_text())
    assert (found["method"], found["teacher"]) == ("seal", "logits.safetensors")  # not "unverified"
    assert not Path("runs/teachers").exists()  # ours was not needed


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
