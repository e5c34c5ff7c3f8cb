"""Wide 3x3 convolutions by Winograd's algorithm: they and their gradients are those of `jax.lax`."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from sealkd_jax.layers import _winograd
from sealkd_jax.layers.convolution import conv_general_dilated
from sealkd_jax.parallel.sharding import DATA_AXIS, Parallel
from tests.helpers.devices import first_devices

SAME = {"window_strides": (1, 1), "padding": "SAME", "dimension_numbers": ("NHWC", "HWIO", "NHWC")}
by_jax = partial(lax.conv_general_dilated, **SAME)


def ours(x, kernel, **options):
    return conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=SAME["dimension_numbers"], **options)


def with_gradients(convolve, x, kernel, dy):
    y, vjp = jax.vjp(convolve, x, kernel)
    return y, *vjp(dy)


def layer(batch=2, height=4, width=6, inputs=64, outputs=72, dtype=np.float64):
    """Spikes, a kernel, and a gradient of the output."""
    rng = np.random.default_rng(0)
    x = (rng.random((batch, height, width, inputs)) < 0.3).astype(dtype)
    kernel = rng.normal(size=(3, 3, inputs, outputs)).astype(dtype)
    return x, kernel, rng.normal(size=(batch, height, width, outputs)).astype(dtype)


@settings(max_examples=30, deadline=None)
@given(
    batch=st.integers(1, 7),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    inputs=st.integers(1, 4),
    outputs=st.integers(1, 4),
    images=st.integers(1, 7),
)
def test_it_is_the_convolution_whatever_the_shape_and_the_pieces(batch, height, width, inputs, outputs, images):
    rng = np.random.default_rng(0)
    x, dy = (rng.normal(size=(batch, height, width, features)) for features in (inputs, outputs))
    kernel = rng.normal(size=(3, 3, inputs, outputs))

    @jax.jit
    def each(x, kernel, dy):
        return _winograd.convolve(x, kernel), _winograd.input_gradient(kernel, dy), _winograd.kernel_gradient(x, dy)

    numbers = images * 16 * -(-height // 2) * -(-width // 2) * max(inputs, outputs)
    with jax.enable_x64(True), pytest.MonkeyPatch.context() as patch:
        patch.setattr(_winograd, "_PIECE", numbers)
        found = each(x, kernel, dy)
        expected = jax.jit(partial(with_gradients, by_jax))(x, kernel, dy)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12), found, expected)


@pytest.mark.parametrize("small_integers", [False, True])
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eagerly", "compiled"])
def test_a_wide_layer_is_that_of_jax(float64, small_integers, transform):
    convolve = partial(with_gradients, partial(ours, small_integers=small_integers))
    found, expected = transform(convolve)(*layer()), with_gradients(by_jax, *layer())
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-11), found, expected)


def test_a_wide_layer_under_vmap_over_kernels(float64):
    x, kernel, dy = layer()
    kernels = np.stack([kernel, 2 - kernel])
    together = jax.vmap(partial(with_gradients, ours), (None, 0, None))(x, kernels, dy)
    apart = [with_gradients(by_jax, x, kernel, dy) for kernel in kernels]
    expected = jax.tree.map(lambda *arrays: jnp.stack(arrays), *apart)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-11), together, expected)


def test_a_second_derivative_is_that_of_jax(float64):
    x, kernel, dy = layer(batch=1, height=3, width=3)

    def of_gradients(convolve):
        return jax.grad(
            lambda x, kernel: sum(jnp.sin(a).sum() for a in with_gradients(convolve, x, kernel, dy)), (0, 1)
        )

    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-10),
        of_gradients(ours)(x, kernel),
        of_gradients(by_jax)(x, kernel),
    )


def test_in_float32_it_is_as_exact_as_a_sum_of_products():
    """Both of what float64 gives; in units of the largest number, which a rounding error of 6e-8 belongs to."""
    arrays = layer(batch=4, inputs=256, outputs=128, dtype=np.float32)
    with jax.enable_x64(True):
        exact = jax.device_get(with_gradients(by_jax, *(array.astype(np.float64) for array in arrays)))
    for convolve in (ours, by_jax):
        with jax.default_device(jax.devices("cpu")[0]):  # GPUs round the products
            found = jax.device_get(with_gradients(convolve, *arrays))
        for a, b in zip(found, exact, strict=True):
            assert np.abs(a - b).max() < 1e-6 * np.abs(b).max()


def of_cpu(function, *arrays):
    """The names of operations in the program for a CPU."""
    with jax.default_device(jax.devices("cpu")[0]):
        text = jax.jit(function).lower(*arrays).compile().as_text()
    return set(re.findall(r" ([a-z-]+)\(", text))


@pytest.mark.parametrize(
    ("options", "is_direct"),
    [({}, False), ({"inputs": 63}, True), ({"outputs": 63}, True), ({"dtype": jnp.bfloat16}, True)],
    ids=["wide", "few inputs", "few outputs", "bfloat16"],
)
def test_only_wide_layers_of_exact_numbers_are_computed_so(options, is_direct):
    operations = of_cpu(partial(with_gradients, ours), *layer(**options))
    assert ("convolution" in operations) == is_direct


@pytest.mark.parametrize(
    ("shape", "strides", "padding"),
    [((3, 3), (2, 2), "SAME"), ((3, 3), (1, 1), "VALID"), ((1, 1), (1, 1), "SAME"), ((5, 5), (1, 1), ((1, 1), (1, 1)))],
    ids=["stride 2", "not padded", "1x1", "5x5"],
)
def test_other_convolutions_are_left_alone(shape, strides, padding):
    x, kernel = jnp.ones((1, 6, 6, 64)), jnp.ones((*shape, 64, 64))
    layout = SAME["dimension_numbers"]
    found, expected = (
        convolve(x, kernel, strides, padding, dimension_numbers=layout)
        for convolve in (conv_general_dilated, lax.conv_general_dilated)
    )
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("batch", [8, 6])
def test_several_devices_give_what_one_gives(float64, batch):
    """Six images four devices do not divide."""
    parallel, arrays = Parallel("jit", first_devices(4)), layer(batch=batch)
    found = parallel.compile(partial(with_gradients, ours))(*arrays)
    expected = with_gradients(by_jax, *arrays)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-11), found, expected)


def test_each_device_computes_its_own_images():
    """Nobody waits for another's, but for the sum which a kernel's gradient is."""
    parallel, (x, kernel, dy) = Parallel("jit", first_devices(4)), layer(batch=8, dtype=np.float32)
    examples = NamedSharding(parallel.replicated.mesh, PartitionSpec(DATA_AXIS))

    def gradients(x, kernel, dy):
        y, dx, dkernel = with_gradients(ours, x, kernel, dy)
        return (y**2 + dy**2).sum() + dx.sum(), dkernel

    arrays = jax.device_put(x, examples), parallel.put(kernel), jax.device_put(dy, examples)
    text = parallel.compile(gradients).lower(*arrays).compile().as_text()
    assert "all-reduce" in text and "all-gather" not in text and "all-to-all" not in text
