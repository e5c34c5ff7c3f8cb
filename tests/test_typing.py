"""What other people's type checkers and loops see: hints on everything public, and a package that loads jax alone."""

import inspect
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import sealkd_jax
from sealkd_jax import diagnostics, losses, neurons, surrogates
from sealkd_jax.export import model_card, streaming
from sealkd_jax.losses import METHODS
from sealkd_jax.plots import comparison, learning, predictions, spikes, timesteps

ROOT = Path(__file__).parents[1]
MODULES = (sealkd_jax, losses, diagnostics, neurons, surrogates, model_card, streaming)
MODULES += (comparison, learning, predictions, spikes, timesteps)


def public(module):
    """Functions and classes without an underscore that this package defines."""
    for name, thing in inspect.getmembers(module, lambda x: inspect.isfunction(x) or inspect.isclass(x)):
        if not name.startswith("_") and thing.__module__.startswith("sealkd_jax"):
            yield f"{thing.__module__}.{name}", thing


FUNCTIONS = {name: thing for module in MODULES for name, thing in public(module) if inspect.isfunction(thing)}


def test_every_public_function_says_what_it_takes_and_gives():
    assert {"sealkd_jax.losses.paper.ela_loss", "sealkd_jax.neurons.lif"} <= FUNCTIONS.keys()
    silent = [
        f"{name}: {parameter}"
        for name, function in [*FUNCTIONS.items(), *METHODS.items()]
        for parameter in [*inspect.signature(function).parameters, "return"]
        if parameter not in function.__annotations__
    ]
    assert silent == []


@pytest.mark.slow
def test_mypy_has_nothing_to_say():
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_package_says_that_it_has_hints():
    assert (Path(sealkd_jax.__file__).parent / "py.typed").exists()


def test_the_package_says_its_version():
    assert sealkd_jax.__version__ == version("sealkd-jax")


def test_losses_and_neurons_load_jax_alone():
    """Beside what importing jax itself loads: no Flax, Optax, NumPy extras, plots, data."""
    code = """
import sys
import jax
before = {name.partition(".")[0] for name in sys.modules}
import sealkd_jax
print(*sorted({name.partition(".")[0] for name in sys.modules} - before))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert set(done.stdout.split()) - sys.stdlib_module_names == {"sealkd_jax"}
