"""The paper's losses against vectors of the authors' code: values and gradients, in float64 and float32."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sealkd_jax import losses
from tests.helpers.compiling import optimised_jit

FILES = sorted((Path(__file__).parents[1] / "golden").glob("seal_*.npz"))


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def golden(request):
    with np.load(request.param) as file:
        return {key: file[key] for key in file} | {"huge": "huge" in request.param.stem}


def all_losses(s, t, y, alpha, beta, temperature):
    """The four losses of a file with their gradients, compiled together."""
    functions = {
        "ce": lambda s: losses.ce_loss(s, y),
        "ela": lambda s: losses.ela_loss(s, t, y, temperature=temperature),
        "sta": lambda s: losses.sta_loss(s, temperature=temperature),
        "total": lambda s: losses.seal_kd_loss(s, t, y, alpha=alpha, beta=beta, temperature=temperature),
    }
    return {name: jax.value_and_grad(lambda s, f=f: f(s).mean())(s) for name, f in functions.items()}


quick = jax.jit(all_losses)


def compute(golden, dtype, program=quick):
    hyperparameters = [golden[key] for key in ("alpha", "beta", "temperature")]
    s, t = golden["student"].astype(dtype), golden["teacher"].astype(dtype)
    return program(s, t, golden["labels"].astype("int32"), *hyperparameters)


def test_the_vectors_are_there():
    assert len(FILES) == 12


def test_float64(golden, float64):
    for name, (value, grad) in compute(golden, "float64").items():
        assert value.dtype == grad.dtype == jnp.float64
        rtol, atol = (1e-9, 1e-9) if golden["huge"] else (1e-11, 1e-12)
        np.testing.assert_allclose(value, golden[name], rtol=rtol, atol=1e-14, err_msg=name)
        np.testing.assert_allclose(grad, golden[f"grad_{name}"], rtol=0, atol=atol, err_msg=name)


def test_float32(golden):
    for name, (value, grad) in compute(golden, "float32").items():
        assert value.dtype == grad.dtype == jnp.float32
        np.testing.assert_allclose(value, golden[name], rtol=1e-6, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(value, golden[f"f32_{name}"], rtol=1e-6, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(grad, golden[f"grad_{name}"], rtol=0, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fully_optimised(dtype, float64):
    """The other tests compile quickly; this is the program that users run."""
    with np.load(FILES[0].parent / "seal_random_T4_B16_C10.npz") as file:
        for name, (value, grad) in compute(file, dtype, optimised_jit(all_losses)).items():
            rtol, atol = (1e-6, 2e-6) if dtype == "float32" else (1e-11, 1e-12)
            np.testing.assert_allclose(value, file[name], rtol=rtol, err_msg=name)
            np.testing.assert_allclose(grad, file[f"grad_{name}"], rtol=0, atol=atol, err_msg=name)


def test_confidence_and_weights(golden, float64):
    if golden["student"].shape[0] == 1:
        assert not losses.sta_weights(golden["student"]).any()
        return
    confidence = jax.jit(losses.sta_confidence)(golden["student"])
    weights = jax.jit(losses.sta_weights)(golden["student"])
    np.testing.assert_allclose(confidence, golden["sta_confidence"], rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(weights, golden["sta_weights"], rtol=1e-11, atol=1e-14)


def test_wrong_timesteps(golden, float64):
    s, t, y = golden["student"], golden["teacher"], golden["labels"]
    _, terms = jax.jit(losses.METHODS["seal"])(s, t, y)
    np.testing.assert_allclose(terms["wrong"], golden["wrong_mask"].mean(), rtol=1e-14)
