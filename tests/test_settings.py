"""JAX as people set it: losses, neurons, diagnostics and networks work under each of its settings."""

import os
import subprocess
import sys
from contextlib import ExitStack

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sealkd_jax import diagnostics as d
from sealkd_jax.losses import METHODS
from sealkd_jax.models import create_student
from sealkd_jax.neurons import lif

SETTINGS = {
    "checking_leaks": lambda: jax.checking_leaks(),
    "debug_nans": lambda: jax.debug_nans(True),
    "rank_promotion": lambda: jax.numpy_rank_promotion("raise"),
    "dtype_promotion": lambda: jax.numpy_dtype_promotion("strict"),
    "x64": lambda: jax.enable_x64(True),
    "disable_jit": lambda: jax.disable_jit(),
    "transfer_guard": lambda: jax.transfer_guard("disallow"),
    "threefry": lambda: jax.threefry_partitionable(not jax.config.jax_threefry_partitionable),
}
rng = np.random.default_rng(0)
ARRAYS = (
    rng.normal(size=(3, 4, 5)).astype("float32"),
    rng.normal(size=(4, 5)).astype("float32"),
    np.array([0, 1, 2, 4], "int32"),
)
NETWORK = create_student("spiking-mlp", 5, width=0.05)


def program(s, t, y, keep, images, variables):
    values = [METHODS[name](s, t, y, where=keep)[0] for name in ("seal", "card", "dkd")]
    gradient = jax.grad(lambda s: lif(s)[0].sum() + METHODS["seal"](s, t, y)[0])(s)
    found = d.accuracy_by_timestep(s, y), d.prediction_flips(s), d.expected_calibration_error(s, y)
    return values, gradient, found, NETWORK.predict(variables, images, timesteps=2)


@pytest.fixture(scope="module")
def expected():
    images = rng.normal(size=(4, 4, 4, 1)).astype("float32")
    variables = NETWORK.init(jax.random.key(0), jnp.asarray(images))
    arguments = (*ARRAYS, np.array([True, True, False, True]), images, variables)
    return arguments, jax.jit(program)(*arguments)


@pytest.mark.parametrize(
    "setting", [pytest.param(x, marks=pytest.mark.slow) if x == "disable_jit" else x for x in SETTINGS]
)
def test_the_numbers_are_the_same(expected, setting):
    arguments, values = expected
    arguments = jax.device_put(arguments)  # explicit, as the guard of transfers wants it
    with ExitStack() as stack:
        stack.enter_context(SETTINGS[setting]())
        found = jax.jit(program)(*arguments)
    for leaf, value in zip(jax.tree.leaves(found), jax.tree.leaves(values), strict=True):
        np.testing.assert_allclose(leaf, value, rtol=2e-5, atol=2e-6)


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
