"""Residual networks, and the widths of all networks: published sizes, time, recomputation, precision, frames."""

import math
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from sealkd_jax.errors import InputError
from sealkd_jax.models import LIF, STUDENTS, TEACHERS, Network, SpikingNet, create_student, create_teacher
from sealkd_jax.models.resnets import Block, Bottleneck, PaddedBlock, PreActBlock, ResNet, SEWBlock
from sealkd_jax.weights.own import flatten
from tests.helpers.compiling import jitted, optimised_jit
from tests.helpers.small_students import shallow

IMAGES = jax.random.normal(jax.random.key(1), (3, 8, 8, 2))
FRAMES = jax.random.normal(jax.random.key(2), (2, *IMAGES.shape))


def small(block, neuron=LIF, **kwargs) -> Network:
    """One stage with the shape of its input, one that changes it."""
    return Network(ResNet(5, block, depths=(1, 1), features=(4, 6), neuron=neuron, **kwargs))


def slow(*values):
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


def shapes(network: Network, size: int, channels: int = 3):
    return jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, size, size, channels)))


def parameters(variables) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(variables.params))


# Parameters and multiply-accumulates in millions: He et al. (section 4.2 and table 1) and torchvision's model cards;
# a CIFAR stem has 9 * 3 * 64 weights for 49 * 3 * 64, and a read-out of 513 * 10 for 513 * 1000.
TEACHER_SIZES = [
    ("resnet20", 32, 10, 269_722, 40.55),
    ("resnet32", 32, 10, 464_154, 68.86),
    ("resnet44", 32, 10, 658_586, 97.17),
    ("resnet56", 32, 10, 853_018, 125.49),
    ("resnet18", 224, 1000, 11_689_512, 1814),
    ("resnet34", 224, 1000, 21_797_672, 3664),
    ("resnet50", 224, 1000, 25_557_032, 4089),
    ("resnet18", 32, 10, 11_689_512 - 40 * 3 * 64 - 513 * 990, 555.4),
    # timm's model card; DeiT's paper, which counts the products of attention.
    ("vit-small-patch16", 224, 1000, 22_050_664, 4599),
]


@pytest.mark.parametrize(("name", "size", "classes", "count", "millions"), TEACHER_SIZES)
def test_teachers_have_the_published_size(name, size, classes, count, millions):
    network = create_teacher(name, classes)
    variables = shapes(network, size)
    assert parameters(variables) == count
    macs = sum(layer.macs for layer in network.synapses(variables, (size, size, 3)).values())
    assert macs / 1e6 == pytest.approx(millions, rel=5e-4)


@pytest.mark.parametrize(
    ("name", "size", "like"),
    [("spiking-resnet18", 32, "resnet18"), ("spiking-resnet19", 32, "resnet19"), ("sew-resnet34", 224, "resnet34")],
)
def test_neurons_take_the_place_of_relu_and_add_no_parameters(name, size, like):
    assert parameters(shapes(create_student(name, 10), size)) == parameters(shapes(create_teacher(like, 10), size))


@pytest.mark.slow
def test_compiled_as_a_whole_a_network_in_bfloat16_gives_what_it_gives_step_by_step():
    """With jaxlib 0.11.2 the logits were NaN."""
    network = create_teacher("resnet18", 10, width=0.1, precision="bfloat16")
    images = jax.random.normal(jax.random.key(1), (8, 32, 32, 3))
    variables = network.init(jax.random.key(0), images[:1])
    predict = partial(network.predict, timesteps=1)
    step_by_step, as_a_whole = (
        np.asarray(function(variables, images), np.float32) for function in (predict, optimised_jit(predict))
    )
    np.testing.assert_allclose(as_a_whole, step_by_step, rtol=0, atol=0.05 * np.abs(step_by_step).max())


def create(name, **kwargs) -> Network:
    return (create_student if name in STUDENTS else create_teacher)(name, 7, **kwargs)


@pytest.mark.parametrize("name", [*STUDENTS, *TEACHERS])
@pytest.mark.usefixtures("float64")
def test_every_network_takes_images_and_frames(name):
    network = shallow(create(name, width=0.25, precision="float64"))
    variables = shapes(network, 48, channels=2)
    assert {leaf.dtype for leaf in flatten(variables).values()} == {jnp.dtype("float64")}
    for shape in ((2, 48, 48, 2), (3, 2, 48, 48, 2)):
        logits = jax.eval_shape(partial(network.predict, timesteps=3), variables, jnp.zeros(shape))
        assert logits.shape == (3 if name in STUDENTS else 1, 2, 7) and logits.dtype == "float64"


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("spiking-conv", {"neuron": "plif", "remat": "spikes"}),
        ("spiking-mlp", {"neuron": "iaf", "remat": "full"}),
        ("spiking-resnet18", {"neuron": "plif", "remat": "spikes"}),
        ("spiking-resnet34", {"neuron": "iaf", "remat": "full"}),
        ("sew-resnet18", {"neuron": "plif"}),
        ("resnet20", {"frame_mode": "each"}),
        ("resnet50", {}),
        pytest.param("qkformer", {"neuron": "plif", "remat": "spikes"}, marks=pytest.mark.slow),
        ("vit-small-patch4", {"frame_mode": "each"}),
    ],
)
def test_networks_in_bfloat16_promote_no_dtype_implicitly(name, kwargs):
    """Their gradients, what is observed, and their single steps."""
    images = jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.float32)
    network = shallow(create(name, width=1 / 16, precision="bfloat16", **kwargs))
    variables = shapes(network, 16)

    def gradient(variables, images):
        def loss(params):
            logits, stats = network.train(variables._replace(params=params), images, timesteps=2)
            assert logits.dtype == "bfloat16"
            return logits.sum(), stats

        return jax.grad(loss, has_aux=True)(variables.params)

    jax.eval_shape(gradient, variables, images)
    jax.eval_shape(partial(network.observe, timesteps=2), variables, images)
    if name in STUDENTS:
        _, membranes = jax.eval_shape(partial(network.step, membranes={}), variables, images=images)
        jax.eval_shape(network.step, variables, membranes, images)


@pytest.mark.parametrize("block", [SEWBlock, *slow(Block, PreActBlock)])
def test_a_static_image_equals_the_same_frame_at_every_timestep(block):
    network = jitted(small(block))
    variables = network.init(jax.random.key(0), IMAGES)
    frames = jnp.broadcast_to(IMAGES, (3, *IMAGES.shape))
    of_image, of_frames = (network.train(variables, x, timesteps=3) for x in (IMAGES, frames))
    chex.assert_trees_all_close(of_frames, of_image, rtol=1e-4, atol=1e-5)


def two_steps(network, variables, images):
    """Variables after two steps of gradient descent in a loop, and the gradients of both."""

    def loss(params, variables):
        logits, stats = network.train(variables._replace(params=params), images, timesteps=2)
        return jnp.square(logits - 1).mean(), stats

    def step(variables, _):
        grads, stats = jax.grad(loss, has_aux=True)(variables.params, variables)
        params = jax.tree.map(lambda p, g: p - 0.1 * g, variables.params, grads)
        return variables._replace(params=params, stats=stats), grads

    return jax.jit(lambda variables: lax.scan(step, variables, length=2))(variables)


@pytest.mark.parametrize("kind", [SpikingNet, *slow(Block, PreActBlock, SEWBlock)])
@pytest.mark.usefixtures("float64")
def test_gradients_reach_every_weight_and_recomputing_changes_no_value(kind):
    def make(**kwargs):
        kwargs |= {"dtype": jnp.float64, "param_dtype": jnp.float64}
        if kind is SpikingNet:
            return Network(SpikingNet(5, features=(4, 6), pool=(True, False), **kwargs))
        return small(kind, **kwargs)

    plain, images = make(), IMAGES.astype(jnp.float64)
    variables = plain.init(jax.random.key(0), images)
    expected = two_steps(plain, variables, images)
    grads = flatten(variables._replace(params=expected[1], stats={}))
    chex.assert_tree_all_finite(grads)
    assert all(jnp.any(g != 0) for path, g in grads.items() if path.endswith("kernel"))
    for remat in ("spikes", "full"):
        chex.assert_trees_all_close(two_steps(make(remat=remat), variables, images), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("block", [Block, *slow(PaddedBlock, Bottleneck)])
@pytest.mark.usefixtures("float64")  # a GPU rounds the operands of float32 convolutions to fewer bits
def test_an_ann_sees_the_mean_of_the_frames_or_each(block):
    double = {"neuron": None, "dtype": jnp.float64, "param_dtype": jnp.float64}
    mean, each = jitted(small(block, **double)), jitted(small(block, frame_mode="each", **double))
    frames = FRAMES.astype(jnp.float64)
    variables = mean.init(jax.random.key(0), frames[0])
    alone = jnp.concatenate([mean.predict(variables, frame, timesteps=1) for frame in frames])
    of_mean = mean.predict(variables, frames.mean(0), timesteps=1)
    np.testing.assert_allclose(mean.predict(variables, frames, timesteps=2), of_mean, rtol=1e-10)
    np.testing.assert_allclose(each.predict(variables, frames, timesteps=2), alone, rtol=1e-10)
    assert each.spikes(variables, frames, timesteps=2)[1] == {}


@pytest.mark.parametrize(
    ("block", "values", "currents"),
    [(Block, {0, 1}, []), (SEWBlock, {0, 1, 2}, []), (PreActBlock, None, ["layer2_0/shortcut", "readout"])],
)
def test_what_goes_from_block_to_block(block, values, currents):
    network = small(block)
    variables = network.init(jax.random.key(0), IMAGES)
    apply = partial(
        network.module.apply,
        timesteps=4,
        capture_intermediates=lambda module, method: isinstance(module, Block) and method == "__call__",
    )
    _, seen = jax.jit(apply)({"params": variables.params, "batch_stats": variables.stats}, IMAGES)
    first = np.unique(seen["intermediates"]["layer1_0"]["__call__"][0])
    assert set(first) == values if values else len(first) > 100
    synapses = network.synapses(variables, (8, 8, 2))
    assert [name for name, layer in synapses.items() if not layer.spikes] == ["stem", *currents]


@pytest.mark.parametrize(("height", "features", "stride"), [(5, 6, 2), (4, 9, 2), (4, 4, 1)])
def test_a_padded_shortcut_takes_every_second_pixel_and_adds_channels_of_zeros(height, features, stride):
    x = np.random.default_rng(0).normal(size=(1, 2, height, 4, 4))
    block = PaddedBlock(features, None, stride)
    out = np.asarray(block.apply({}, x, features, method="skip"))
    before = (features - 4) // 2
    np.testing.assert_allclose(out[..., before : before + 4], x[:, :, ::stride, ::stride], rtol=1e-6)
    assert out.shape[-1] == features and np.count_nonzero(out) == np.count_nonzero(x[:, :, ::stride, ::stride])


def test_large_images_get_the_stem_of_imagenet():
    def stem(name, size):
        network = create_student(name, 10)
        variables = shapes(network, size)
        return variables.params["stem"]["kernel"].shape[:2], network.neurons(variables, (size, size, 3))

    assert stem("sew-resnet18", 95)[0] == (3, 3)
    kernel, neurons = stem("sew-resnet18", 96)
    assert kernel == (7, 7) and neurons["stem_neuron"] == 48 * 48 * 64
    assert neurons["layer1_0/neuron1"] == 24 * 24 * 64 and neurons["layer4_1/neuron2"] == 3 * 3 * 512
    assert stem("spiking-resnet18", 96)[0] == (3, 3)


def test_width_scales_every_layer_but_the_last():
    full, narrow = (shapes(create_student("spiking-resnet19", 10, width=width), 32) for width in (1, 0.25))
    for (path, a), b in zip(flatten(full).items(), flatten(narrow).values(), strict=True):
        if a.ndim == 4:
            assert a.shape[:2] == b.shape[:2] and b.shape[3] * 4 == a.shape[3], path
    assert narrow.params["hidden"]["kernel"].shape == (128, 64)
    assert narrow.params["readout"]["kernel"].shape == (64, 10)
    assert shapes(create_student("spiking-mlp", 10, width=0.01), 8).params["readout"]["kernel"].shape == (3, 10)


def test_weights_begin_as_pytorch_begins_them():
    network = shallow(create_student("spiking-resnet18", 10))
    params = network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3))).params
    conv, dense = params["layer2_0"]["conv2"]["kernel"], params["readout"]
    for weights, inputs in ((conv, 9 * 128), (dense["kernel"], 128)):  # uniform: variance bound²/3
        assert jnp.abs(weights).max() <= inputs**-0.5
        assert float(weights.var() * 3 * inputs) == pytest.approx(1, abs=5 / math.sqrt(weights.size))
    assert 0 < jnp.abs(dense["bias"]).max() <= 128**-0.5
    he = shallow(create_teacher("resnet18", 10)).init(jax.random.key(0), jnp.zeros((1, 8, 8, 3))).params
    kernel = he["layer2_0"]["conv2"]["kernel"]  # normal of variance 2 / (9 * outputs)
    assert float(kernel.var() * 9 * 128 / 2) == pytest.approx(1, abs=5 * math.sqrt(2 / kernel.size))


def test_images_too_small_to_pool_are_refused():
    with pytest.raises(InputError, match="images: nothing left to pool at 1x1"):
        shapes(create_student("spiking-vgg", 10), 8)
