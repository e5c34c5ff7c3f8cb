"""BatchNorm: Flax's values, statistics and gradients, on one device and several, with less memory."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st

from sealkd_jax.layers.batch_norm import BatchNorm
from tests.helpers.compiling import fused_jit
from tests.helpers.devices import first_devices


def make(kind, train=True, axis_name=None, dtype=jnp.float64, param_dtype=jnp.float64):
    if kind == "ours":
        return BatchNorm(train, axis_name, dtype, param_dtype)
    kwargs = {"axis_name": axis_name, "dtype": dtype, "param_dtype": param_dtype}
    return nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, **kwargs)  # PyTorch's


def some(*shape, seed=0):
    """Of features that differ in mean and deviation."""
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=shape) * rng.uniform(0.1, 3, shape[-1]) + rng.normal(size=shape[-1]))


def variables(features):
    return {
        "params": {"scale": some(features, seed=1), "bias": some(features, seed=2)},
        "batch_stats": {"mean": some(features, seed=3), "var": jnp.abs(some(features, seed=4)) + 0.1},
    }


def pullback(module, x, dy, given):
    """Result and new statistics, and the gradients of parameters and x."""

    def normalise(params, x):
        return module.apply(given | {"params": params}, x, mutable=["batch_stats"])

    y, back, statistics = jax.vjp(normalise, given["params"], x, has_aux=True)
    return y, statistics, back(dy)


def assert_close(ours, theirs, tolerance):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), ours, theirs)


@settings(deadline=None, max_examples=20)
@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    features=st.integers(1, 4),
    train=st.booleans(),
    seed=st.integers(0, 99),
)
def test_it_is_flaxs(shape, features, train, seed):
    with jax.enable_x64(True):
        x, dy = some(*shape, features, seed=seed), some(*shape, features, seed=seed + 100)
        ours, theirs = (
            jax.jit(partial(pullback, make(kind, train)))(x, dy, variables(features)) for kind in ("ours", "flax")
        )
        assert_close(ours, theirs, 1e-9)


def test_it_starts_as_flaxs(float64):
    ours, theirs = (make(kind).init(jax.random.key(0), some(4, 3)) for kind in ("ours", "flax"))
    assert_close(ours, theirs, 0)


def test_devices_normalise_by_the_batch_of_all(float64):
    x, dy, given = some(8, 5, 3), some(8, 5, 3, seed=9), variables(3)
    y, statistics, (dparams, dx) = pullback(make("ours"), x.reshape(40, 3), dy.reshape(40, 3), given)
    module = make("ours", axis_name="data")
    each = jax.pmap(lambda x, dy: pullback(module, x, dy, given), axis_name="data", devices=first_devices(8))(x, dy)
    assert_close((each[0].reshape(40, 3), each[2][1].reshape(40, 3)), (y, dx), 1e-12)
    assert_close(jax.tree.map(lambda a: a.sum(0), each[2][0]), dparams, 1e-12)
    for device in range(8):
        assert_close(jax.tree.map(lambda a, device=device: a[device], each[1]), statistics, 1e-12)


def test_second_derivatives_are_flaxs(float64):
    x, dy, given = some(6, 3), some(6, 3, seed=9), variables(3)

    def of_gradient(module):
        return jax.grad(lambda x: (jnp.sin(pullback(module, x, dy, given)[2][1])).sum())(x)

    assert_close(of_gradient(make("ours")), of_gradient(make("flax")), 1e-10)


def test_half_precision_has_statistics_of_single():
    """And gradients that are right to a hundredth, three deviations from zero."""
    x, dy = some(64, 4) + 3, some(64, 4, seed=9)
    half, single = jnp.bfloat16, jnp.float32
    given = jax.tree.map(lambda a: a.astype(single), variables(4))
    y, statistics, (dparams, dx) = pullback(
        make("ours", dtype=half, param_dtype=single), x.astype(half), dy.astype(half), given
    )
    assert (y.dtype, dx.dtype) == (half, half)
    assert {leaf.dtype for leaf in jax.tree.leaves((statistics, dparams))} == {jnp.dtype(single)}
    as_single = [a.astype(half).astype(single) for a in (x, dy)]
    exact = pullback(make("flax", dtype=single, param_dtype=single), *as_single, given)
    for ours, theirs in ((dx, exact[2][1]), (dparams["scale"], exact[2][0]["scale"])):
        ours, theirs = (np.asarray(a, np.float32) for a in (ours, theirs))
        assert np.abs(ours - theirs).max() < 0.01 * np.abs(theirs).max()


def test_layers_keep_their_inputs_alone():
    """By XLA's own account; four layers of Flax's keep five arrays besides their arguments."""
    module = make("ours", dtype=jnp.float32, param_dtype=jnp.float32)
    given = jax.tree.map(lambda a: a.astype(jnp.float32), variables(16))

    def gradient(x, dy):
        def layers(params, x):
            for _ in range(4):
                x = jnp.abs(module.apply(given | {"params": params}, x, mutable=["batch_stats"])[0])
            return x

        return jax.vjp(layers, given["params"], x)[1](dy)

    x = jax.ShapeDtypeStruct((64, 32, 32, 16), jnp.float32)
    temporary = fused_jit(gradient).lower(x, x).compile().memory_analysis().temp_size_in_bytes
    assert temporary < 3.1 * x.size * 4
