"""A loss, an augmentation, a preset, a neuron, a data set and an optimiser, added to a copy of the package.

Each touches as many files as CONTRIBUTING says, and one run uses them all.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# For each addition, the files that it touches, and what is appended to each.
ADDITIONS = {
    "loss": {
        "losses/methods.py": """
import jax.numpy as jnp

@method
def late_ce(student_logits, labels, *, power=2.0):
    weights = jnp.arange(1.0, 1 + len(student_logits)) ** power
    losses = ce_loss(student_logits, labels)
    return {"late": (1.0, losses * (weights / weights.mean())[:, None])}
"""
    },
    "augmentation": {
        "data/image_augmentation.py": """
@augmentation_step("images")
def invert() -> Augmentation:
    return lambda key, image: jnp.where(jax.random.bernoulli(key), 255 - image, image)
"""
    },
    "preset": {
        "programs/presets/tiny_stripes.py": '''
"""Stripes in a second."""

from sealkd_jax.programs.options import make_preset

PRESET = make_preset(
    dataset="stripes", teacher="convnet", epochs=2, batch_size=8, optimizer="still", learning_rate=1e-2,
    weight_decay=0.0, augment="crop(1) | invert",
    for_student={
        "method": "late_ce", "student": "spiking-mlp", "width": 0.25, "neuron": "slow-lif", "timesteps": 2, "views": 2,
        "devices": 1,
    },
)
'''
    },
    "neuron": {
        "neurons.py": """
def slow_lif(currents, v=None, **parameters):
    return lif(currents, v, **parameters, decay=0.9)
""",
        "layers/neurons.py": """
from sealkd_jax.neurons import slow_lif

class SlowLIF(LIF):
    def fire(self, currents, v):
        return slow_lif(currents, v, **self._parameters())

NEURONS["slow-lif"] = SlowLIF
""",
    },
    "data set": {
        "data/stripes.py": '''
"""Images with a bright row or a bright column."""

import numpy as np

from sealkd_jax.data.datasets import Dataset, Split


def load_stripes() -> Dataset:
    def split(seed, size):
        rng = np.random.default_rng(seed)
        images, labels = np.zeros((size, 6, 6, 1), np.uint8), np.arange(size, dtype=np.int32) % 2
        for image, label, at in zip(images, labels, rng.integers(0, 6, size)):
            image[(slice(None), at) if label else at] = 255
        return Split(images, labels)

    return Dataset("stripes", split(0, 32), split(1, 8), split(2, 8), ("row", "column"))
''',
        "data/loading.py": """
from sealkd_jax.data.stripes import load_stripes

DATASETS["stripes"] = Source(lambda request: load_stripes())
""",
    },
    "optimiser": {
        "training/optimizer.py": """
def still(schedule, *, weight_decay, momentum, mask):
    return optax.sgd(0.0)

OPTIMIZERS["still"] = still
"""
    },
}
RUN = """
import jax
from sealkd_jax.programs import distill

short, long = (distill("tiny-stripes", epochs=epochs, out=f"run-{epochs}", log="quiet") for epochs in (1, 2))
jax.tree.map(lambda a, b: (a == b).all() or 1 / 0, short.variables.params, long.variables.params)
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A directory with the package and the additions."""
    directory = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "sealkd_jax", directory / "sealkd_jax", ignore=shutil.ignore_patterns("__pycache__"))
    for files in ADDITIONS.values():
        for name, edit in files.items():
            path = directory / "sealkd_jax" / name
            text = path.read_text() if path.exists() else ""
            path.write_text(text + edit)
    return directory


def test_an_addition_touches_as_many_files_as_contributing_says():
    said = dict(re.findall(r"^\| (?:an? )?([a-z ]+) \| (\d) \|", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE))
    assert said == {name: str(len(files)) for name, files in ADDITIONS.items()}


@pytest.mark.slow
def test_a_run_uses_all_that_was_added(copy):
    """The optimiser keeps the initial weights, so that a longer run reports the same ones."""
    environment = os.environ | {"PYTHONPATH": str(copy), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    done = subprocess.run([sys.executable, "-c", RUN], cwd=copy, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    options = json.loads((copy / "run-2/config.json").read_text())["options"]
    used = {"method": "late_ce", "neuron": "slow-lif", "dataset": "stripes", "augment": "crop(1) | invert"}
    assert options | used == options
    record = json.loads((copy / "run-2/metrics.jsonl").read_text().splitlines()[0])
    assert record["terms"].keys() == {"late", "wrong"}
