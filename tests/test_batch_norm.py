"""BatchNorm: Flax's values, statistics and gradients, on one device and several, with less memory."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from sealkd_jax.layers.batch_norm import BatchNorm
from tests.helpers.compiling import fused_jit
from tests.helpers.devices import first_devices


def ours(train=True, axis_name=None, dtype=jnp.float64, param_dtype=jnp.float64):
    return BatchNorm(train, axis_name, dtype, param_dtype)


def flaxs(train=True, dtype=jnp.float64, param_dtype=jnp.float64):
    return nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, dtype=dtype, param_dtype=param_dtype)  # PyTorch's


def some(*shape, seed=0):
    """An array whose features differ in mean and deviation."""
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=shape) * rng.uniform(0.1, 3, shape[-1]) + rng.normal(size=shape[-1]))


def variables(features):
    return {
        "params": {"scale": some(features, seed=1), "bias": some(features, seed=2)},
        "batch_stats": {"mean": some(features, seed=3), "var": jnp.abs(some(features, seed=4)) + 0.1},
    }


def pullback(module, x, dy, given):
    """Result and new statistics, and the gradients of parameters and x."""

    def apply(params, x):
        return module.apply(given | {"params": params}, x, mutable=["batch_stats"])

    y, back, statistics = jax.vjp(apply, given["params"], x, has_aux=True)
    return y, statistics, back(dy)


def assert_close(a, b, tolerance):
    chex.assert_trees_all_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (2, 4, 1), (3, 1, 2, 4), (2, 3, 4, 5, 2)])
@pytest.mark.parametrize("train", [True, False])
def test_it_is_flaxs(shape, train, float64, promoting):
    x, dy = some(*shape), some(*shape, seed=9)
    found, expected = (jax.jit(partial(pullback, make(train)))(x, dy, variables(shape[-1])) for make in (ours, flaxs))
    assert_close(found, expected, 1e-9)


def test_it_starts_as_flaxs(float64, promoting):
    assert_close(ours().init(jax.random.key(0), some(4, 3)), flaxs().init(jax.random.key(0), some(4, 3)), 0)


def test_devices_normalise_by_the_batch_of_all(float64):
    x, dy, given = some(8, 5, 3), some(8, 5, 3, seed=9), variables(3)
    y, statistics, (dparams, dx) = pullback(ours(), x.reshape(40, 3), dy.reshape(40, 3), given)
    module = ours(axis_name="data")
    each = jax.pmap(lambda x, dy: pullback(module, x, dy, given), axis_name="data", devices=first_devices(8))(x, dy)
    assert_close((each[0].reshape(40, 3), each[2][1].reshape(40, 3)), (y, dx), 1e-12)
    assert_close(jax.tree.map(lambda a: a.sum(0), each[2][0]), dparams, 1e-12)
    assert_close(each[1], jax.tree.map(lambda a: jnp.stack([a] * 8), statistics), 1e-12)


def test_second_derivatives_are_flaxs(float64, promoting):
    x, dy, given = some(6, 3), some(6, 3, seed=9), variables(3)

    def of_gradient(module):
        return jax.jit(jax.grad(lambda x: jnp.sin(pullback(module, x, dy, given)[2][1]).sum()))(x)

    assert_close(of_gradient(ours()), of_gradient(flaxs()), 1e-10)


def test_half_precision_has_statistics_of_single():
    """And gradients that are right to a hundredth, three deviations from zero."""
    x, dy = some(64, 4) + 3, some(64, 4, seed=9)
    half, single = jnp.bfloat16, jnp.float32
    given = jax.tree.map(lambda a: a.astype(single), variables(4))
    y, statistics, (dparams, dx) = pullback(
        ours(dtype=half, param_dtype=single), x.astype(half), dy.astype(half), given
    )
    assert (y.dtype, dx.dtype) == (half, half)
    assert {leaf.dtype for leaf in jax.tree.leaves((statistics, dparams))} == {jnp.dtype(single)}
    as_single = [a.astype(half).astype(single) for a in (x, dy)]
    exact = pullback(flaxs(dtype=single, param_dtype=single), *as_single, given)
    for a, b in ((dx, exact[2][1]), (dparams["scale"], exact[2][0]["scale"])):
        a, b = (np.asarray(array, np.float32) for array in (a, b))
        assert np.abs(a - b).max() < 0.01 * np.abs(b).max()


def test_layers_keep_their_inputs_alone():
    """By XLA's own account. Four of Flax's layers keep five arrays besides their arguments."""
    module = ours(dtype=jnp.float32, param_dtype=jnp.float32)
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
