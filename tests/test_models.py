"""Small networks: time, neurons, spikes, the table of layers, memory for recomputation, precision."""

import math
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sealkd_jax.models import LIF, NEURONS, PLIF, Network, SpikingNet, create_student, create_teacher, sum_layers
from sealkd_jax.models.resnets import Block, PreActBlock, ResNet, SEWBlock
from sealkd_jax.neurons import UNROLL, UNROLL_ON_CPU
from sealkd_jax.weights.own import flatten
from tests.helpers.compiling import fused_jit, jitted

IMAGES = jax.random.normal(jax.random.key(1), (3, 8, 8, 1))


def small(**kwargs) -> Network:
    return Network(SpikingNet(5, features=(4, 6), pool=(True, False), **kwargs))


@pytest.fixture(scope="module")
def network():
    """A small student's compiled functions."""
    return jitted(small())


@pytest.fixture(scope="module")
def variables():
    return small().init(jax.random.key(0), IMAGES)


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("name", ["spiking-conv", "spiking-mlp"])
def test_small_students_with_every_neuron_give_logits_and_gradients(name, neuron):
    network = create_student(name, 10, neuron=neuron)
    variables = network.init(jax.random.key(0), IMAGES)

    @jax.jit
    def gradient(params):
        def loss(params):
            logits, _ = network.train(variables._replace(params=params), IMAGES, timesteps=2)
            return jnp.square(logits).mean(), logits

        return jax.grad(loss, has_aux=True)(params)

    grads, logits = gradient(variables.params)
    grads = flatten(variables._replace(params=grads, stats={}))
    assert logits.shape == (2, 3, 10)
    chex.assert_tree_all_finite(grads)
    assert all(jnp.any(g != 0) for path, g in grads.items() if path.endswith("kernel"))
    assert sum(path.endswith("decay_logit") and bool(g != 0) for path, g in grads.items()) == (
        len(network.neurons(variables, IMAGES.shape[1:])) if neuron == "plif" else 0
    )


def test_a_teacher_is_a_network_of_one_timestep():
    network = create_teacher("convnet", 10)
    logits, spikes = jitted(network).spikes(network.init(jax.random.key(0), IMAGES), IMAGES, timesteps=4)
    assert logits.shape == (1, 3, 10) and spikes == {}


def test_one_set_of_variables_serves_any_number_of_timesteps(network, variables):
    long = network.predict(variables, IMAGES, timesteps=7)
    for timesteps in (1, 2, 5):  # causal: the first timesteps do not know how many follow
        np.testing.assert_array_equal(network.predict(variables, IMAGES, timesteps=timesteps), long[:timesteps])


def test_a_static_image_equals_the_same_frame_at_every_timestep(network, variables):
    frames = jnp.broadcast_to(IMAGES, (4, *IMAGES.shape))
    of_image, of_frames = (network.predict(variables, x, timesteps=4) for x in (IMAGES, frames))
    chex.assert_trees_all_close(of_frames, of_image, rtol=1e-5, atol=1e-6)
    of_image, of_frames = (network.train(variables, x, timesteps=4) for x in (IMAGES, frames))
    chex.assert_trees_all_close(of_frames, of_image, rtol=1e-4, atol=1e-5)


def test_the_stem_runs_once_for_a_static_image_and_per_timestep_for_frames(variables):
    network = small()

    def convolved(images):
        _, seen = jax.eval_shape(
            partial(
                network.module.apply,
                timesteps=4,
                capture_intermediates=lambda module, _: type(module).__name__ == "Conv",
            ),
            {"params": variables.params, "batch_stats": variables.stats},
            images,
        )
        return [leaf.shape[0] for leaf in jax.tree.leaves(seen["intermediates"])]

    assert convolved(IMAGES) == [3, 4 * 3]
    assert convolved(jnp.broadcast_to(IMAGES, (4, *IMAGES.shape))) == [4 * 3, 4 * 3]


def test_spikes_of_every_layer_can_be_read_and_are_zero_or_one(network, variables):
    logits, spikes = network.spikes(variables, IMAGES, timesteps=7)
    np.testing.assert_array_equal(logits, network.predict(variables, IMAGES, timesteps=7))
    assert {name: layer.shape for name, layer in spikes.items()} == {
        "block_0/neuron": (7, 3, 8, 8, 4),
        "block_1/neuron": (7, 3, 4, 4, 6),
    }
    assert all(np.isin(layer, [0.0, 1.0]).all() for layer in spikes.values())
    assert small().neurons(variables, (8, 8, 1)) == {"block_0/neuron": 8 * 8 * 4, "block_1/neuron": 4 * 4 * 6}


def test_plif_starts_as_lif_with_its_decay():
    lif, plif = small(neuron=partial(LIF, decay=0.3)), small(neuron=partial(PLIF, decay=0.3))
    variables = plif.init(jax.random.key(0), IMAGES)
    params = jax.tree.map(lambda x: x, variables.params)
    for block in ("block_0", "block_1"):
        del params[block]["neuron"]
    expected = jitted(lif).predict(variables._replace(params=params), IMAGES, timesteps=3)
    np.testing.assert_allclose(jitted(plif).predict(variables, IMAGES, timesteps=3), expected, rtol=1e-6)


def test_neurons_take_threshold_and_reset_from_the_student():
    """At a decay of 1/2 the membrane stays below twice the current; a soft reset keeps what is above the threshold."""

    def fired(current, **kwargs):
        neuron = create_student("spiking-conv", 10, **kwargs).module.neuron()
        return neuron.apply({}, jnp.full((4, 1), current)).squeeze().tolist()

    assert fired(1.0) == [1, 1, 1, 1] and fired(1.0, threshold=2.0) == [0, 0, 0, 0]
    assert fired(0.75) == [0, 1, 0, 1] and fired(0.75, v_reset=0.5) == [1, 1, 1, 1]
    assert fired(1.75, neuron="iaf", threshold=2.0) == [0, 1, 0, 1]
    assert fired(1.75, neuron="iaf", threshold=2.0, v_reset=None) == [0, 1, 1, 1]


def test_layers_have_their_shapes_parameters_and_multiplications():
    network = small(neuron=PLIF)
    layers = network.layers(jax.eval_shape(network.init, jax.random.key(0), IMAGES), (8, 8, 1))
    assert {name: tuple(layer) for name, layer in layers.items()} == {
        "block_0/Conv_0": ((8, 8, 4), 9 * 4, 8 * 8 * 9 * 4, False),
        "block_0/BatchNorm_0": ((8, 8, 4), 2 * 4, 0, False),
        "block_0/neuron": ((8, 8, 4), 1, 0, False),
        "block_1/Conv_0": ((4, 4, 6), 9 * 4 * 6, 4 * 4 * 9 * 4 * 6, True),
        "block_1/BatchNorm_0": ((4, 4, 6), 2 * 6, 0, False),
        "block_1/neuron": ((4, 4, 6), 1, 0, False),
        "readout": ((5,), 4 * 4 * 6 * 5 + 5, 4 * 4 * 6 * 5, True),
    }
    total = sum_layers(layers)
    assert total.shape == (5,) and total.macs == 8 * 8 * 9 * 4 + 4 * 4 * 9 * 4 * 6 + 4 * 4 * 6 * 5
    assert total.parameters == sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(network_shapes(network).params))


def network_shapes(network):
    return jax.eval_shape(network.init, jax.random.key(0), IMAGES)


def test_a_profile_shows_every_layer_by_its_name():
    network = Network(ResNet(5, Block, depths=(1,), features=(4,), neuron=LIF))
    shapes = network_shapes(network)
    text = jax.jit(partial(network.train, timesteps=2)).lower(shapes, IMAGES).as_text(debug_info=True)
    for name in (
        "stem",
        "stem_bn",
        "stem_neuron",
        "layer1_0/conv1",
        "layer1_0/conv2_bn",
        "layer1_0/neuron2",
        "readout",
    ):
        assert f"/{name}/" in text, name
    chain = jax.jit(partial(small().train, timesteps=2)).lower(network_shapes(small()), IMAGES)
    assert "/block_0/max_pool/" in chain.as_text(debug_info=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("block", "timesteps"),
    [(Block, UNROLL), (PreActBlock, UNROLL), (SEWBlock, UNROLL), (None, UNROLL), (Block, UNROLL_ON_CPU + 1)],
)
def test_recomputing_saves_memory_in_the_compiled_program(block, timesteps):
    """By XLA's own account, which also shows if the compiler undoes a recomputation."""

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
    chex.assert_trees_all_close(jax.jit(jax.vmap(network.init, (0, None)))(keys, images), together, atol=1e-6)
    assert float(jnp.abs(each[0].params["readout"]["kernel"] - each[1].params["readout"]["kernel"]).max()) > 0.01


def test_bfloat16_keeps_parameters_and_statistics_in_float32():
    network = create_student("spiking-conv", 10, precision="bfloat16")
    variables = network_shapes(network)
    assert {leaf.dtype for leaf in flatten(variables).values()} == {jnp.dtype("float32")}
    logits, stats = jax.eval_shape(partial(network.train, timesteps=2), variables, IMAGES)
    assert logits.dtype == jnp.bfloat16 and {leaf.dtype for leaf in jax.tree.leaves(stats)} == {jnp.dtype("float32")}
