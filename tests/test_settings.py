"""JAX as people set it: losses, neurons, diagnostics, networks and programs work under each of its settings.

Strict promotion of dtypes and ranks is on in all tests.
"""

import os
import shutil
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import jax
import numpy as np
import pytest

from sealkd_jax import diagnostics as d
from sealkd_jax import programs
from sealkd_jax.losses import METHODS
from sealkd_jax.models import STUDENTS
from sealkd_jax.neurons import UNROLL_ON_CPU, iaf, lif
from tests.helpers.programs import read
from tests.helpers.small_students import make_student
from tests.helpers.small_training import make_dataset

slow = pytest.mark.slow
OF_VALUES = {
    "debug_nans": lambda: jax.debug_nans(True),
    "x64": lambda: jax.enable_x64(True),
    "transfer_guard": lambda: jax.transfer_guard("disallow"),
    "threefry": lambda: jax.threefry_partitionable(not jax.config.jax_threefry_partitionable),
    "disable_jit": lambda: jax.disable_jit(),
}
OF_TRACES = {
    "checking_leaks": lambda: jax.checking_leaks(),
    "dtype_promotion": lambda: jax.numpy_dtype_promotion("standard"),
    "rank_promotion": lambda: jax.numpy_rank_promotion("allow"),
}
rng = np.random.default_rng(0)
ARRAYS = (
    rng.normal(size=(3, 4, 5)).astype("float32"),
    rng.normal(size=(4, 5)).astype("float32"),
    np.array([0, 1, 2, 4], "int32"),
    np.array([True, True, False, True]),
    rng.normal(size=(UNROLL_ON_CPU + 1, 2)).astype("float32"),
)


@contextmanager
def at_once():
    """All settings under which values are computed, but for the last."""
    with ExitStack() as stack:
        for setting in list(OF_VALUES.values())[:-1]:
            stack.enter_context(setting())
        yield


def close(found, expected):
    for leaf, value in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert leaf.dtype == value.dtype
        np.testing.assert_allclose(leaf, value, rtol=2e-5, atol=2e-6)


def losses(s, t, y, keep, currents):
    """Every method that draws no random numbers, the neurons with and without a loop, and the diagnostics."""
    values = {name: method(s, t, y, where=keep)[0] for name, method in METHODS.items() if name != "nld"}
    gradient = jax.grad(lambda s: lif(s)[0].sum() + METHODS["seal"](s, t, y)[0])(s)
    of_loop = jax.grad(lambda x: sum(neuron(x, v_reset=None)[0].sum() for neuron in (lif, iaf)))(currents)
    found = d.accuracy_by_timestep(s, y), d.prediction_flips(s), d.expected_calibration_error(s, y)
    return values, gradient, of_loop, found


@pytest.fixture(scope="module")
def expected():
    return jax.jit(losses)(*ARRAYS)


@pytest.mark.parametrize("setting", ["at once", *(pytest.param(name, marks=slow) for name in OF_VALUES)])
def test_losses_neurons_and_diagnostics_have_the_same_values(expected, setting):
    arrays = jax.device_put(ARRAYS)  # explicit, as the guard of transfers wants it
    with OF_VALUES.get(setting, at_once)():
        found = jax.jit(lambda *arrays: losses(*arrays))(*arrays)  # traced and compiled again
    close(found, expected)


@pytest.mark.parametrize("setting", [pytest.param(x, marks=slow) if x == "checking_leaks" else x for x in OF_TRACES])
def test_losses_neurons_and_diagnostics_are_traced(expected, setting):
    with OF_TRACES[setting]():
        found = jax.eval_shape(lambda *arrays: losses(*arrays), *ARRAYS)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), found) == jax.tree.map(lambda x: (x.shape, x.dtype), expected)


@pytest.mark.parametrize("name", [x if x == "spiking-mlp" else pytest.param(x, marks=slow) for x in STUDENTS])
def test_a_student_has_the_same_values_under_all_at_once_and_leaks_no_tracer(name):
    network, variables, images = make_student(name, 16, width=0.1)

    def run(variables, images):
        def loss(params):
            logits, stats = network.train(variables._replace(params=params), images, timesteps=2)
            return logits.sum(), stats

        return jax.grad(loss, has_aux=True)(variables.params), network.predict(variables, images, timesteps=2)

    before = jax.jit(run)(variables, images)
    with at_once():
        close(jax.jit(lambda *arguments: run(*arguments))(variables, images), before)
    with jax.checking_leaks():
        jax.eval_shape(run, variables, images)


@pytest.mark.slow
def test_python_without_asserts():
    """Flax takes an interceptor away in an assert; without it, a second look must not see the first one's."""
    code = """if True:
        import jax, jax.numpy as jnp
        from sealkd_jax.models import create_student
        network = create_student("spiking-mlp", 4, width=0.05)
        variables = network.init(jax.random.key(0), jnp.ones((1, 4, 4, 3)))
        for batch in (6, 2):
            print(network.observe(variables, jnp.ones((batch, 4, 4, 3)), timesteps=2).logits.shape)
    """
    done = subprocess.run([sys.executable, "-O", "-c", code], capture_output=True, text=True, env=os.environ)
    assert (done.stdout, done.returncode) == ("(2, 6, 4)\n(2, 2, 4)\n", 0), done.stderr


# ---- a program

OPTIONS = {"dataset": "npz:thirds.npz", "student": "spiking-mlp", "width": 0.05, "teacher_width": 0.05, "views": 2}
OPTIONS |= {"timesteps": 2, "batch_size": 8, "epochs": 2, "augment": "flip", "devices": 1, "log": "quiet"}
HOMELESS = """if True:
    import pwd
    def unknown(user): raise KeyError(user)
    pwd.getpwuid = unknown  # as in a container whose user has no entry in /etc/passwd
    import jax
    from sealkd_jax import programs
    from sealkd_jax.data import load
    assert len(load("digits").classes) == 10  # needs no directory
    programs.distill(out="run", **{options})
    assert jax.config.jax_debug_nans and not jax.config.jax_threefry_partitionable
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A current directory with data and a finished run, which has a checkpoint of each of its two epochs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("settings"))
        data = make_dataset(80)  # a batch of the teacher has 64
        splits = {"train": data.train, "val": data.validation, "test": data.test}
        arrays = {f"x_{name}": split.images for name, split in splits.items()}
        np.savez("thirds.npz", **arrays, **{f"y_{name}": split.labels for name, split in splits.items()})
        programs.distill(out="run", **OPTIONS)
        yield Path.cwd()


def digest(run):
    return read(run / "summary.json")["params_digest"]


@slow
def test_a_program_gives_the_same_student_under_all_at_once_without_a_home(place, tmp_path):
    """From the training of the teacher on."""
    shutil.copy("thirds.npz", tmp_path)
    settings = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    settings |= {"JAX_DEBUG_NANS": "1", "JAX_ENABLE_X64": "1", "JAX_TRANSFER_GUARD": "disallow"}
    settings |= {"JAX_THREEFRY_PARTITIONABLE": "0", "JAX_NUMPY_RANK_PROMOTION": "raise"}
    settings |= {"JAX_NUMPY_DTYPE_PROMOTION": "strict", "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-O", "-c", HOMELESS.format(options=OPTIONS)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=settings)
    assert done.returncode == 0, done.stderr
    assert digest(tmp_path / "run") == digest(place / "run")


@slow
def test_a_program_leaks_no_tracer(place):
    with jax.checking_leaks():
        programs.distill(out="leaks", **OPTIONS)
    assert digest(place / "leaks") == digest(place / "run")


@slow
def test_a_run_resumes_to_the_same_student_with_another_random_generator(place):
    shutil.copytree("run", "resumed")
    shutil.rmtree("resumed/checkpoints/2")
    with jax.threefry_partitionable(False):
        programs.distill(out="resumed", resume=True, **OPTIONS)
    assert digest(place / "resumed") == digest(place / "run")
    assert (place / "resumed/metrics.jsonl").read_text().count("\n") == 2


@slow
def test_a_program_works_without_compiling(place):
    options = OPTIONS | {"method": "none", "epochs": 1}
    compiled = programs.distill(out="compiled", **options)
    with jax.disable_jit():
        found = programs.distill(out="eager", **options)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), found.variables, compiled.variables
    )
