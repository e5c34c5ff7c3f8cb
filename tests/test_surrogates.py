"""Each surrogate is the formula it states, which is the derivative of a smooth spike."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sealkd_jax.surrogates import arctan, fast_sigmoid, rectangle, sigmoid, triangle

ALL = [sigmoid, arctan, triangle, rectangle, fast_sigmoid]
GRID = np.linspace(-3, 3, 241) + 1e-3  # off the corners

# surrogate, the formula in NumPy, the smooth function whose derivative it is
CASES = [
    (sigmoid(4.0), lambda x: 4 * np.exp(-4 * x) / (1 + np.exp(-4 * x)) ** 2, lambda x: jax.nn.sigmoid(4 * x)),
    (
        sigmoid(2.5),
        lambda x: 2.5 * np.exp(-2.5 * x) / (1 + np.exp(-2.5 * x)) ** 2,
        lambda x: jax.nn.sigmoid(2.5 * x),
    ),
    (
        arctan(3.0),
        lambda x: 1.5 / (1 + (1.5 * np.pi * x) ** 2),
        lambda x: jnp.arctan(1.5 * jnp.pi * x) / jnp.pi + 0.5,
    ),
    (
        triangle(2.0),
        lambda x: np.where(np.abs(x) < 2, (2 - np.abs(x)) / 4, 0),
        lambda x: jnp.where(jnp.abs(x) < 2, x / 2 - x * jnp.abs(x) / 8, jnp.sign(x) / 2) + 0.5,
    ),
    (
        rectangle(0.8),
        lambda x: np.where(np.abs(x) < 0.4, 1.25, 0),
        lambda x: jnp.clip(x / 0.8 + 0.5, 0, 1),
    ),
    (fast_sigmoid(25.0), lambda x: 1 / (1 + 25 * np.abs(x)) ** 2, lambda x: x / (1 + 25 * jnp.abs(x))),
]


@pytest.mark.parametrize(("surrogate", "formula", "primitive"), CASES, ids=[repr(case[0]) for case in CASES])
def test_is_its_formula_and_the_derivative_of_a_smooth_spike(float64, surrogate, formula, primitive):
    values, derivatives = jax.jit(lambda x: (surrogate(x), jax.vmap(jax.grad(primitive))(x)))(GRID)
    np.testing.assert_allclose(values, formula(GRID), rtol=1e-10)
    np.testing.assert_allclose(values, derivatives, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("make", ALL)
def test_is_symmetric_and_largest_at_the_threshold(float64, make):
    right, left, peak = (np.asarray(make()(jnp.asarray(x))) for x in (GRID, -GRID, 0.0))
    np.testing.assert_allclose(right, left, atol=1e-12)
    assert (right <= peak).all() and (right >= 0).all()
    assert peak == 1  # as each states for its default


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_keeps_the_dtype_and_is_finite_far_from_the_threshold(float64, make, dtype):
    far = min(1e30, float(jnp.finfo(dtype).max))  # float16 ends at 65504
    x = jnp.asarray([-far, -1e4, 0, 1e4, far], dtype)
    chex.assert_trees_all_equal_shapes_and_dtypes(make()(x), x)
    chex.assert_tree_all_finite(make()(x))


@pytest.mark.parametrize("make", ALL)
def test_equal_parameters_are_equal_static_arguments(make):
    assert make(2) == make(2.0)
    assert hash(make(2)) == hash(make(2.0))
    assert make(2) != make(3)
    assert len({make(2) for make in ALL}) == len(ALL)

    chex.clear_trace_counter()
    apply = jax.jit(chex.assert_max_traces(lambda x, surrogate: surrogate(x), n=1), static_argnums=1)
    apply(1.0, make(2.0))
    apply(1.0, make(2.0))


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("bad", [0, -1.0, float("nan"), float("inf"), "4", None])
def test_a_parameter_that_is_not_positive_is_refused(make, bad):
    with pytest.raises(ValueError, match=rf"{make.__name__}: (slope|width): expected a positive finite number, got"):
        make(bad)
