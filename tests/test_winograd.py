"""Wide 3x3 convolutions by Winograd's algorithm: they and their gradients equal those of `jax.lax`."""

import re
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from sealkd_jax.layers.convolution import conv_general_dilated
from sealkd_jax.parallel.sharding import DATA_AXIS, Parallel
from tests.helpers.devices import first_devices

LAYOUT = ("NHWC", "HWIO", "NHWC")


def ours(x, kernel, strides=(1, 1)):
    return conv_general_dilated(x, kernel, strides, "SAME", dimension_numbers=LAYOUT)


def by_jax(x, kernel):
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=LAYOUT)


def with_gradients(convolve, x, kernel, dy):
    y, vjp = jax.vjp(convolve, x, kernel)
    return y, *vjp(dy)


def layer(batch=2, height=4, width=6, inputs=64, outputs=72, dtype=np.float64):
    """Spikes, a kernel, and a gradient of the output."""
    rng = np.random.default_rng(0)
    x = (rng.random((batch, height, width, inputs)) < 0.3).astype(dtype)
    kernel = rng.normal(size=(3, 3, inputs, outputs)).astype(dtype)
    return x, kernel, rng.normal(size=(batch, height, width, outputs)).astype(dtype)


assert_close = partial(chex.assert_trees_all_close, rtol=1e-12, atol=1e-11)


@settings(max_examples=4, deadline=None)
@given(
    batch=st.integers(1, 3),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    inputs=st.sampled_from([64, 67]),
    outputs=st.sampled_from([64, 72]),
)
def test_it_is_the_convolution_for_any_shape(batch, height, width, inputs, outputs):
    with jax.enable_x64(True):
        arrays = layer(batch, height, width, inputs, outputs)
        found, expected = (jax.jit(partial(with_gradients, convolve))(*arrays) for convolve in (ours, by_jax))
        assert_close(found, expected)


def test_a_batch_of_several_chunks_gives_what_its_parts_give(float64):
    """Eight images of this size make a chunk."""
    x, kernel, dy = layer(batch=9, height=32, width=32, outputs=64)
    compiled = jax.jit(partial(with_gradients, ours))
    parts = [compiled(x[start : start + 4], kernel, dy[start : start + 4]) for start in range(0, 9, 4)]
    y, dx, dkernel = zip(*parts, strict=True)
    assert_close(compiled(x, kernel, dy), (jnp.concatenate(y), jnp.concatenate(dx), sum(dkernel)), atol=1e-9)


def test_it_is_the_convolution_under_vmap_over_kernels(float64):
    x, kernel, dy = layer()
    kernels = np.stack([kernel, 2 - kernel])
    together = jax.jit(jax.vmap(partial(with_gradients, ours), (None, 0, None)))(x, kernels, dy)
    of_jax = jax.jit(partial(with_gradients, by_jax))
    apart = [of_jax(x, kernel, dy) for kernel in kernels]
    assert_close(together, jax.tree.map(lambda *arrays: jnp.stack(arrays), *apart))


def test_a_second_derivative_is_that_of_jax(float64):
    x, kernel, dy = layer(batch=1, height=3, width=3)

    def of_gradients(convolve):
        def loss(x, kernel):
            return sum(jnp.sin(a).sum() for a in with_gradients(convolve, x, kernel, dy))

        return jax.jit(jax.grad(loss, (0, 1)))(x, kernel)

    assert_close(of_gradients(ours), of_gradients(by_jax), rtol=1e-10, atol=1e-10)


def test_in_float32_it_is_as_exact_as_a_sum_of_products():
    """Beside float64, in units of the largest number; a rounding error is 6e-8 of that."""
    arrays = layer(batch=2, inputs=256, outputs=128, dtype=np.float32)
    with jax.enable_x64(True):
        exact = jax.device_get(
            jax.jit(partial(with_gradients, by_jax))(*(array.astype(np.float64) for array in arrays))
        )
    for convolve in (ours, by_jax):
        with jax.default_device(jax.devices("cpu")[0]):  # GPUs round the products
            found = jax.device_get(jax.jit(partial(with_gradients, convolve))(*arrays))
        for a, b in zip(found, exact, strict=True):
            assert np.abs(a - b).max() < 1e-6 * np.abs(b).max()


@pytest.mark.parametrize(
    ("strides", "options", "is_direct"),
    [((1, 1), {}, False), ((1, 1), {"inputs": 63}, True), ((1, 1), {"dtype": jnp.bfloat16}, True), ((2, 2), {}, True)],
    ids=["wide", "narrow", "bfloat16", "stride 2"],
)
def test_only_wide_layers_of_stride_1_and_exact_numbers_use_it(strides, options, is_direct):
    x, kernel, _ = layer(dtype=options.pop("dtype", np.float32), **options)
    with jax.default_device(jax.devices("cpu")[0]):
        text = jax.jit(partial(ours, strides=strides)).lower(x, kernel).compile().as_text()
    assert bool(re.search(r" convolution\(", text)) == is_direct


def test_several_devices_give_what_one_gives(float64):
    """Four devices do not divide six images."""
    parallel, arrays = Parallel("jit", first_devices(4)), layer(batch=6)
    assert_close(
        parallel.compile(partial(with_gradients, ours))(*arrays), jax.jit(partial(with_gradients, by_jax))(*arrays)
    )


def test_each_device_computes_its_own_images():
    """They communicate for the kernel's gradient alone, which is a sum over all images."""
    parallel, (x, kernel, dy) = Parallel("jit", first_devices(4)), layer(batch=8, dtype=np.float32)
    examples = NamedSharding(parallel.replicated.mesh, PartitionSpec(DATA_AXIS))

    def gradients(x, kernel, dy):
        y, dx, dkernel = with_gradients(ours, x, kernel, dy)
        return (y**2 + dy**2).sum() + dx.sum(), dkernel

    arrays = jax.device_put(x, examples), parallel.put(kernel), jax.device_put(dy, examples)
    text = parallel.compile(gradients).lower(*arrays).compile().as_text()
    assert "all-reduce" in text and "all-gather" not in text and "all-to-all" not in text


def test_a_wide_layer_is_exported_for_any_number_of_images():
    x, kernel, _ = layer(dtype=np.float32)
    (batch,) = jax.export.symbolic_shape("batch")
    any_batch = jax.ShapeDtypeStruct((batch, *x.shape[1:]), np.float32)
    exported = jax.export.export(jax.jit(lambda x: ours(x, kernel)), platforms=("cpu",))(any_batch)
    for images in (x, x[:1]):
        np.testing.assert_allclose(exported.call(images), by_jax(images, kernel), rtol=1e-4, atol=1e-4)
