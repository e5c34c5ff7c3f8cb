"""Networks: shapes, time, neurons, memory for recomputation, precision."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from sealkd_jax.errors import InputError
from sealkd_jax.layers.convolution import conv_general_dilated
from sealkd_jax.layers.pooling import average_pool, max_pool
from sealkd_jax.models import LIF, NEURONS, PLIF, Network, SpikingNet, create_student, create_teacher
from sealkd_jax.models.resnets import Block, PreActBlock, ResNet, SEWBlock
from sealkd_jax.neurons import UNROLL, UNROLL_ON_CPU
from sealkd_jax.weights.own import flatten
from tests.helpers.compiling import fused_jit

IMAGES = jax.random.normal(jax.random.key(1), (3, 8, 8, 1))


def small(**kwargs) -> Network:
    return Network(SpikingNet(5, features=(4, 6), pool=(True, False), **kwargs))


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("name", ["spiking-conv", "spiking-mlp"])
def test_small_students_with_every_neuron_give_logits_and_gradients(name, neuron):
    network = create_student(name, 10, neuron=neuron)
    variables = network.init(jax.random.key(0), IMAGES)

    def loss(params):
        logits, _ = network.train(variables._replace(params=params), IMAGES, timesteps=2)
        return jnp.square(logits).mean()

    assert network.predict(variables, IMAGES, timesteps=2).shape == (2, 3, 10)
    grads = flatten(variables._replace(params=jax.jit(jax.grad(loss))(variables.params), stats={}))
    assert all(jnp.isfinite(g).all() for g in grads.values())
    assert all(jnp.any(g != 0) for path, g in grads.items() if path.endswith("kernel"))
    assert sum(path.endswith("decay_logit") and bool(g != 0) for path, g in grads.items()) == (
        len(network.neurons(variables, IMAGES.shape[1:])) if neuron == "plif" else 0
    )


def test_a_teacher_is_a_network_of_one_timestep():
    network = create_teacher("convnet", 10)
    variables = network.init(jax.random.key(0), IMAGES)
    assert network.predict(variables, IMAGES, timesteps=4).shape == (1, 3, 10)
    logits, spikes = network.spikes(variables, IMAGES, timesteps=1)
    assert logits.shape == (1, 3, 10) and spikes == {}


def test_one_set_of_variables_serves_any_number_of_timesteps():
    network = small()
    variables = network.init(jax.random.key(0), IMAGES)
    long = network.predict(variables, IMAGES, timesteps=7)
    for timesteps in (1, 2, 5):  # causal: the first timesteps do not know how many follow
        np.testing.assert_array_equal(network.predict(variables, IMAGES, timesteps=timesteps), long[:timesteps])


def test_a_static_image_equals_the_same_frame_at_every_timestep():
    network = small()
    variables = network.init(jax.random.key(0), IMAGES)
    frames = jnp.broadcast_to(IMAGES, (4, *IMAGES.shape))
    static = network.predict(variables, IMAGES, timesteps=4)
    np.testing.assert_allclose(network.predict(variables, frames, timesteps=4), static, rtol=1e-5, atol=1e-6)
    logits, stats = network.train(variables, IMAGES, timesteps=4)
    logits_of_frames, stats_of_frames = network.train(variables, frames, timesteps=4)
    np.testing.assert_allclose(logits_of_frames, logits, rtol=1e-4, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), stats_of_frames, stats)


def test_the_stem_runs_once_for_a_static_image_and_per_timestep_for_frames():
    network = small()
    variables = network.init(jax.random.key(0), IMAGES)

    def convolved(images):
        _, seen = network.module.apply(
            {"params": variables.params, "batch_stats": variables.stats},
            images,
            timesteps=4,
            capture_intermediates=lambda module, _: type(module).__name__ == "Conv",
        )
        return [leaf.shape[0] for leaf in jax.tree.leaves(seen["intermediates"])]

    assert convolved(IMAGES) == [3, 4 * 3]
    assert convolved(jnp.broadcast_to(IMAGES, (4, *IMAGES.shape))) == [4 * 3, 4 * 3]


def test_spikes_of_every_layer_can_be_read_and_are_zero_or_one():
    network = small()
    variables = network.init(jax.random.key(0), IMAGES)
    logits, spikes = network.spikes(variables, IMAGES, timesteps=3)
    np.testing.assert_array_equal(logits, network.predict(variables, IMAGES, timesteps=3))
    assert {name: layer.shape for name, layer in spikes.items()} == {
        "block_0/neuron": (3, 3, 8, 8, 4),
        "block_1/neuron": (3, 3, 4, 4, 6),
    }
    assert all(jnp.isin(layer, jnp.array([0.0, 1.0])).all() for layer in spikes.values())
    assert network.neurons(variables, (8, 8, 1)) == {"block_0/neuron": 8 * 8 * 4, "block_1/neuron": 4 * 4 * 6}


def test_plif_starts_as_lif_with_its_decay():
    lif, plif = small(neuron=partial(LIF, decay=0.3)), small(neuron=partial(PLIF, decay=0.3))
    variables = plif.init(jax.random.key(0), IMAGES)
    params = jax.tree.map(lambda x: x, variables.params)
    for block in ("block_0", "block_1"):
        del params[block]["neuron"]
    expected = lif.predict(variables._replace(params=params), IMAGES, timesteps=3)
    np.testing.assert_allclose(plif.predict(variables, IMAGES, timesteps=3), expected, rtol=1e-6)


@pytest.mark.parametrize("remat", ["spikes", "full"])
@pytest.mark.usefixtures("float64")
def test_recomputing_changes_memory_not_values(remat):
    images = IMAGES.astype(jnp.float64)
    double = {"dtype": jnp.float64, "param_dtype": jnp.float64}
    plain = small(**double)
    other = small(remat=remat, **double)
    variables = plain.init(jax.random.key(0), images)

    def gradient(network):
        def loss(params):
            logits, stats = network.train(variables._replace(params=params), images, timesteps=4)
            return jnp.square(logits).mean(), stats

        return jax.jit(jax.grad(loss, has_aux=True))(variables.params)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(b, a, rtol=1e-10, atol=1e-13), gradient(plain), gradient(other)
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("block", "timesteps"),
    [(Block, UNROLL), (PreActBlock, UNROLL), (SEWBlock, UNROLL), (None, UNROLL), (Block, UNROLL_ON_CPU + 1)],
)
def test_recomputing_saves_memory_in_the_compiled_program(block, timesteps):
    """XLA's own account of it, which sees through a recomputation that the compiler undoes."""

    def temporary(remat):
        shape = {"features": (8, 8), "remat": remat}
        if block is None:
            network = Network(SpikingNet(5, pool=(False, False, False), **shape | {"features": (8, 8, 8)}))
        else:
            network = Network(ResNet(5, block, depths=(4, 1), neuron=LIF, **shape))
        images = jnp.zeros((8, 32, 32, 3))
        variables = jax.eval_shape(network.init, jax.random.key(0), images)

        def gradient(variables, images):
            return jax.grad(
                lambda p: network.train(variables._replace(params=p), images, timesteps=timesteps)[0].sum()
            )(variables.params)

        return fused_jit(gradient).lower(variables, images).compile().memory_analysis().temp_size_in_bytes

    plain = temporary("none")
    share = 0.75 if block is None else 0.6  # a part of the blocks' memory is needed at once
    assert temporary("spikes") < share * plain and temporary("full") < share * plain


def test_fresh_variables_are_the_same_in_a_program_of_ones_own_and_for_several_keys_at_once():
    network, images = create_student("spiking-conv", 10, width=0.25), jnp.zeros((1, 8, 8, 1))
    keys = jax.random.split(jax.random.key(0), 2)
    each = [network.init(key, images) for key in keys]
    together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    for compiled in (jax.jit(jax.vmap(network.init, (0, None))), jax.vmap(network.init, (0, None))):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), compiled(keys, images), together)
    assert float(jnp.abs(each[0].params["readout"]["kernel"] - each[1].params["readout"]["kernel"]).max()) > 0.01


def test_bfloat16_keeps_parameters_and_statistics_in_float32():
    network = create_student("spiking-conv", 10, precision="bfloat16")
    variables = network.init(jax.random.key(0), IMAGES)
    assert {leaf.dtype for leaf in flatten(variables).values()} == {jnp.dtype("float32")}
    logits, _ = network.train(variables, IMAGES, timesteps=2)
    assert logits.dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "resnet"}, "student 'resnet': unknown; expected one of spiking-conv"),
        ({"neuron": "izhikevich"}, "neuron 'izhikevich': unknown; expected one of lif, iaf, plif"),
        ({"precision": "float8"}, "precision 'float8'"),
        ({"remat": "all"}, "remat 'all'"),
    ],
)
def test_unknown_choices_are_named(arguments, words):
    with pytest.raises(InputError, match=words):
        create_student(**{"name": "spiking-conv", "classes": 10} | arguments)


CONVOLUTIONS = [
    (8, 3, 1, "SAME"),
    (8, 3, 2, "SAME"),
    (9, 3, 2, ((1, 1), (1, 1))),
    (8, 1, 2, "VALID"),
    (7, 5, 3, ((2, 1), (0, 2))),
    (4, 3, 1, ((3, 3), (3, 3))),
]


@pytest.mark.parametrize("integers", [False, True])
@pytest.mark.parametrize(("size", "width", "stride", "padding"), CONVOLUTIONS)
def test_convolution_and_its_gradients_equal_those_of_jax(float64, size, width, stride, padding, integers):
    x = jax.random.normal(jax.random.key(0), (2, size, size + 1, 3))
    if integers:
        x = jax.random.randint(jax.random.key(0), x.shape, -128, 128).astype(x.dtype)
    kernel = jax.random.normal(jax.random.key(1), (width, width, 3, 4))
    layout = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}

    def both(convolve):
        def loss(x, kernel):
            return jnp.sin(convolve(x, kernel, (stride, stride), padding, **layout)).sum()

        return jax.jit(jax.value_and_grad(loss, (0, 1)))(x, kernel)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12),
        both(partial(conv_general_dilated, small_integers=integers)),
        both(lax.conv_general_dilated),
    )


@pytest.mark.parametrize(
    ("stride", "options"),
    [((2, 1), {}), ((1, 1), {"rhs_dilation": (2, 2)}), ((1, 1), {"feature_group_count": 2})],
    ids=str,
)
def test_so_they_do_where_rows_and_columns_differ_and_what_is_left_to_jax(float64, stride, options):
    features = 4 // options.get("feature_group_count", 1)
    x = jax.random.normal(jax.random.key(0), (2, 9, 8, 4))
    kernel = jax.random.normal(jax.random.key(1), (3, 2, features, 6))
    layout = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}

    def both(convolve):
        return jax.value_and_grad(
            lambda x, kernel: jnp.sin(convolve(x, kernel, stride, "SAME", **layout, **options)).sum(), (0, 1)
        )(x, kernel)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11),
        both(conv_general_dilated),
        both(lax.conv_general_dilated),
    )


def test_a_kernels_gradient_is_summed_in_float32():
    x, kernel = jnp.ones((1, 32, 32, 1), jnp.bfloat16), jnp.ones((1, 1, 1, 1), jnp.bfloat16)
    layout = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
    total = jax.grad(lambda kernel: conv_general_dilated(x, kernel, (1, 1), "SAME", **layout).sum())(kernel)
    assert float(total.squeeze()) == 1024  # a sum of ones in bfloat16 ends at 256


def test_of_small_integers_a_convolution_keeps_a_byte_each():
    x, kernel = jnp.ones((2, 6, 6, 3)), jnp.ones((3, 3, 3, 4))
    layout = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
    convolve = partial(conv_general_dilated, small_integers=True)
    kept = jax.vjp(lambda x, kernel: convolve(x, kernel, (1, 1), "SAME", **layout), x, kernel)[1]
    assert [leaf.dtype for leaf in jax.tree.leaves(kept) if leaf.shape == x.shape] == [jnp.int8]


@pytest.mark.parametrize("batch", [1, 6, 7])
def test_a_kernels_gradient_is_summed_over_chunks_of_the_batch(batch, float64):
    """Two images of this size make a chunk; of seven, one is left over."""
    x = jax.random.normal(jax.random.key(0), (batch, 64, 64, 16))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 16, 4))

    def gradient(convolve):
        def loss(kernel):
            return jnp.sin(convolve(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))).sum()

        return jax.jit(jax.grad(loss))(kernel)

    np.testing.assert_allclose(
        gradient(conv_general_dilated), gradient(lax.conv_general_dilated), rtol=1e-11, atol=1e-11
    )


@pytest.mark.parametrize("shape", [(2, 6, 6, 3), (1, 5, 7, 2), (3, 2, 3, 1), (2, 3, 4, 5, 2)])
@pytest.mark.parametrize(("ours", "flaxs"), [(max_pool, nn.max_pool), (average_pool, nn.avg_pool)])
@pytest.mark.parametrize("binary", [True, False])
def test_pooling_and_its_gradient_are_flaxs_also_where_maxima_are_equal(shape, ours, flaxs, binary, float64):
    x = jax.random.normal(jax.random.key(0), shape)
    x = (x > 0).astype(x.dtype) if binary else x
    weights = jax.random.normal(jax.random.key(1), shape)

    def both(pool):
        def loss(x):
            y = pool(x)
            return (y * weights[..., : y.shape[-3], : y.shape[-2], :]).sum()

        return pool(x), jax.grad(loss)(x)

    theirs = both(lambda x: flaxs(x, (2, 2), strides=(2, 2)))
    exactly = {"rtol": 0 if ours is max_pool else 1e-14, "atol": 0}  # a mean may be summed in another order
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **exactly), both(ours), theirs)


def test_convolution_under_vmap_over_kernels(float64):
    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 3))
    kernels = jax.random.normal(jax.random.key(1), (2, 3, 3, 3, 4))

    def loss(kernel, convolve):
        return jnp.sin(convolve(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))).sum()

    together = jax.vmap(jax.grad(loss), (0, None))(kernels, conv_general_dilated)
    apart = jnp.stack([jax.grad(loss)(kernel, lax.conv_general_dilated) for kernel in kernels])
    np.testing.assert_allclose(together, apart, rtol=1e-12)
