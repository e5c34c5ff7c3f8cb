"""Convolution and pooling: JAX's and Flax's values and gradients."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from sealkd_jax.layers.convolution import conv_general_dilated
from sealkd_jax.layers.pooling import average_pool, max_pool

LAYOUT = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def assert_as_jax(x, kernel, strides, padding, *, small_integers=False, **options):
    """Values and both gradients, those that depend on the values."""

    def both(convolve):
        def loss(x, kernel):
            return jnp.sin(convolve(x, kernel, strides, padding, **LAYOUT, **options)).sum()

        return jax.jit(jax.value_and_grad(loss, (0, 1)))(x, kernel)

    ours = both(partial(conv_general_dilated, small_integers=small_integers))
    chex.assert_trees_all_close(ours, both(lax.conv_general_dilated), rtol=1e-11, atol=1e-11)


CONVOLUTIONS = [
    (8, 3, 1, "SAME"),
    (8, 3, 2, "SAME"),
    (9, 3, 2, ((1, 1), (1, 1))),
    (8, 1, 2, "VALID"),
    (7, 5, 3, ((2, 1), (0, 2))),
    (4, 3, 1, ((3, 3), (3, 3))),
]


@pytest.mark.parametrize(("size", "width", "stride", "padding"), CONVOLUTIONS)
def test_convolution_and_its_gradients_equal_those_of_jax(float64, size, width, stride, padding):
    assert_as_jax(normal(2, size, size + 1, 3), normal(width, width, 3, 4, seed=1), (stride, stride), padding)


@pytest.mark.parametrize(
    ("strides", "options"),
    [((2, 1), {}), ((1, 1), {"rhs_dilation": (2, 2)}), ((1, 1), {"feature_group_count": 2})],
    ids=["rows and columns differ", "dilated", "grouped"],
)
def test_so_do_the_less_common_ones(float64, strides, options):
    features = 4 // options.get("feature_group_count", 1)
    assert_as_jax(normal(2, 9, 8, 4), normal(3, 2, features, 6, seed=1), strides, "SAME", **options)


def test_small_integers_are_kept_as_a_byte_each(float64):
    x = jnp.asarray(np.random.default_rng(0).integers(-128, 128, (2, 8, 9, 3)), float)
    kernel = normal(3, 3, 3, 4)
    assert_as_jax(x, kernel, (2, 2), "SAME", small_integers=True)
    convolve = partial(conv_general_dilated, small_integers=True, **LAYOUT)
    kept = jax.vjp(lambda x, kernel: convolve(x, kernel, (1, 1), "SAME"), x, kernel)[1]
    assert [leaf.dtype for leaf in jax.tree.leaves(kept) if leaf.shape == x.shape] == [jnp.int8]


def test_a_kernels_gradient_is_summed_in_float32():
    x, kernel = jnp.ones((1, 32, 32, 1), jnp.bfloat16), jnp.ones((1, 1, 1, 1), jnp.bfloat16)
    total = jax.grad(lambda kernel: conv_general_dilated(x, kernel, (1, 1), "SAME", **LAYOUT).sum())(kernel)
    assert float(total.squeeze()) == 1024  # a sum of ones in bfloat16 ends at 256


def test_a_kernels_gradient_is_summed_over_chunks_of_the_batch(float64):
    """Two images of this size make a chunk; of seven, one is left over."""
    assert_as_jax(normal(7, 64, 64, 16), normal(3, 3, 16, 4, seed=1), (2, 2), "SAME")


def test_convolution_under_vmap_over_kernels(float64):
    x, kernels = normal(2, 6, 6, 3), normal(2, 3, 3, 3, 4, seed=1)

    def gradient(convolve, kernel):
        return jax.grad(lambda kernel: jnp.sin(convolve(x, kernel, (1, 1), "SAME", **LAYOUT)).sum())(kernel)

    together = jax.jit(jax.vmap(partial(gradient, conv_general_dilated)))(kernels)
    apart = [jax.jit(partial(gradient, lax.conv_general_dilated))(kernel) for kernel in kernels]
    chex.assert_trees_all_close(together, jnp.stack(apart), rtol=1e-12)


@pytest.mark.parametrize("shape", [(2, 6, 6, 3), (3, 2, 3, 1), (2, 3, 4, 5, 2)])
@pytest.mark.parametrize(("ours", "flaxs"), [(max_pool, nn.max_pool), (average_pool, nn.avg_pool)])
def test_pooling_and_its_gradient_are_flaxs_also_where_maxima_are_equal(shape, ours, flaxs, float64, promoting):
    x = jnp.asarray(np.random.default_rng(0).integers(0, 3, shape), float)
    weights = normal(*shape)

    def both(pool):
        def loss(x):
            y = pool(x)
            return (y * weights[..., : y.shape[-3], : y.shape[-2], :]).sum(), y

        return jax.jit(jax.grad(loss, has_aux=True))(x)

    theirs = both(lambda x: flaxs(x, (2, 2), strides=(2, 2)))
    exactly = {"rtol": 0 if ours is max_pool else 1e-14, "atol": 0}  # a mean may be summed in another order
    chex.assert_trees_all_close(both(ours), theirs, **exactly)
