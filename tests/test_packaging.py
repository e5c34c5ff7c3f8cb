"""What is published: the sdist is the repository; the wheel is the library, whose losses run where jax alone is."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="builds what git has; this is no checkout")

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
    """Sdist and wheel, by `python -m build` from a copy of what git has; nothing is downloaded."""
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


def test_the_wheel_holds_the_library_alone(built):
    names = set(zipfile.ZipFile(built[1]).namelist())
    library = {name for name in names if ".dist-info/" not in name}
    assert library == modules("sealkd_jax") | {
        "sealkd_jax/py.typed",
        "sealkd_jax/data/events/cifar10_dvs_split.json",
    }
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


def test_the_installed_wheel_has_its_losses_where_jax_alone_is(built, tmp_path):
    run("-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", tmp_path, built[1])
    absent = ("flax", "optax", "orbax", "safetensors", "sklearn", "tensorflow_datasets", "grain", "PIL", "matplotlib")
    vector = ROOT / "tests/golden/seal_random_T4_B16_C10.npz"
    run("-c", LOSS, tmp_path, vector, *absent, "rich", "train", JAX_ENABLE_X64="1")
