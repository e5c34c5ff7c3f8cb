"""The published files: the sdist is the repository; the wheel has losses that need jax alone, and the programs."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(
    not (ROOT / ".git").exists(), reason="builds the files that git has; this is no checkout"
)

LOSS = """
import sys
target, vector, *absent = sys.argv[1:]
sys.modules |= dict.fromkeys(absent)  # importing one of them is an ImportError
sys.path.insert(0, target)
import numpy as np
import sealkd_jax

assert sealkd_jax.__file__.startswith(target), sealkd_jax.__file__
v = np.load(vector)
loss = sealkd_jax.ela_loss(v["student"], v["teacher"], v["labels"])
np.testing.assert_allclose(loss.mean(), v["ela"], rtol=1e-11)
spikes, _ = sealkd_jax.lif(np.ones((4, 2)))
assert spikes.sum() == 8
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Sdist and wheel, built by `python -m build` from a copy of the files that git has; nothing is downloaded."""
    copy, out = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("dist")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    run("-m", "build", "--no-isolation", "--outdir", out, copy)
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


def run(*arguments, **variables):
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | variables)
    assert done.returncode == 0, done.stdout + done.stderr


def modules(folder):
    return {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*.py")}


def test_the_wheel_holds_the_library_and_its_programs(built):
    names = set(zipfile.ZipFile(built[1]).namelist())
    library = {name for name in names if ".dist-info/" not in name}
    assert library == modules("sealkd_jax") | {
        "sealkd_jax/py.typed",
        *(f"sealkd_jax/data/events/cifar10_dvs_{split}.json" for split in ("split", "seal", "tet")),
    }
    assert {"sealkd_jax/programs/commands/distill.py", "sealkd_jax/programs/presets/digits.py"} <= library
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_sdist_has_what_the_tests_need(built):
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for folder in ("sealkd_jax", "train", "tests", "docs"):
        assert modules(folder) <= names
    golden = {
        path.relative_to(ROOT).as_posix() for kind in ("npz", "json") for path in (ROOT / "tests").rglob(f"*.{kind}")
    }
    assert len(golden) > 1 and golden <= names
    assert {"README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "mkdocs.yml", "docs/method.md"} <= names


@pytest.mark.slow
def test_the_installed_wheel_has_its_losses_where_jax_alone_is(built, tmp_path):
    run("-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", tmp_path, built[1])
    absent = ("flax", "optax", "orbax", "safetensors", "sklearn", "tensorflow_datasets", "grain", "PIL", "matplotlib")
    vector = ROOT / "tests/golden/seal_random_T4_B16_C10.npz"
    run("-c", LOSS, tmp_path, vector, *absent, "rich", "train", JAX_ENABLE_X64="1")


def sealkd(environment, place, *arguments):
    """Runs the console script of a virtual environment in an otherwise empty directory."""
    place.mkdir(exist_ok=True)
    settings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"JAX_PLATFORMS": "cpu"}
    command = [environment / "bin" / "sealkd", *arguments]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, env=settings)


def check_run(place):
    """Whether `sealkd distill --out run` has made what it promises."""
    summary = json.loads((place / "run/summary.json").read_text())
    assert summary["epochs_done"] == 1 and summary["test_accuracy"] > 0.2
    assert (place / "run/report.html").stat().st_size > 10_000
    assert json.loads((place / "run/config.json").read_text())["command"].startswith("sealkd distill --epochs 1")


TINY = ("distill", "--epochs", "1", "--student", "spiking-mlp", "--timesteps", "2", "--devices", "1", "--out", "run")


@pytest.mark.slow
def test_the_wheel_installed_by_pip_distils_with_its_extra_and_names_it_without(built, tmp_path):
    """Into a clean environment, from the package index."""
    environment, place = tmp_path / "environment", tmp_path / "work"
    run("-m", "venv", environment)
    install = ("-m", "pip", "--python", environment / "bin/python", "install", "--quiet", "--no-compile")
    run(*install, built[1])
    assert sealkd(environment, place, "--version").stdout.startswith("sealkd-jax 0.")
    done = sealkd(environment, place, *TINY)
    assert (done.returncode, list(place.iterdir())) == (2, [])
    assert done.stderr.endswith('is not installed: pip install "sealkd-jax[train]"\n') and done.stderr.count("\n") == 1
    run(*install, f"{built[1]}[train]")
    done = sealkd(environment, place, *TINY, "--teacher-width", "0.25", "--views", "1")
    assert done.returncode == 0 and "student (SNN)" in done.stdout, done.stderr
    check_run(place)


@pytest.mark.slow
def test_the_lowest_versions_that_are_admitted_install_together_and_distil(built, tmp_path):
    """On the lowest Python, too; from the package index."""
    if (oldest := shutil.which("python3.11")) is None:
        pytest.skip("Python 3.11 is not installed")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11"
    admitted = [*project["dependencies"], *project["optional-dependencies"]["train"]]
    assert all(requirement.count(">=") == 1 for requirement in admitted)
    environment, place = tmp_path / "environment", tmp_path / "work"
    subprocess.run([oldest, "-m", "venv", environment], check=True)
    lowest = [requirement.replace(">=", "==") for requirement in admitted]
    pip = ("-m", "pip", "--python", environment / "bin/python")
    run(*pip, "install", "--quiet", "--no-compile", built[1], *lowest)
    done = sealkd(environment, place, *TINY, "--teacher-width", "0.25", "--views", "1")
    assert done.returncode == 0 and "student (SNN)" in done.stdout, done.stderr
    check_run(place)
    for words in (("evaluate", "run"), ("export", "run", "--to", "safetensors")):
        done = sealkd(environment, place, *words)
        assert done.returncode == 0, done.stderr
