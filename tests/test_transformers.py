"""Transformers, spiking and not: attention, counting, patches, single timesteps, recomputation, lowering, programs.

`test_parity.py` compares them with the authors' network and with timm's.
"""

import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits

from sealkd_jax.diagnostics import energy
from sealkd_jax.errors import InputError
from sealkd_jax.layers.product import Product
from sealkd_jax.models import Network, Variables, create_student, create_teacher
from sealkd_jax.programs.commands import distill
from sealkd_jax.programs.results import energy_of
from tests.helpers.compiling import jitted
from tests.helpers.programs import refusal

IMAGES = jax.random.normal(jax.random.key(1), (2, 8, 8, 1))
T = 3


def small(**kwargs) -> Network:
    """A stage with Q-K attention and one with spiking self-attention, two heads, and neurons that fire often."""
    network = create_student("qkformer", 5, **({"threshold": 0.5} | kwargs))
    return replace(network, module=network.module.clone(depths=(1, 1), features=(4, 8), heads=2))


@pytest.fixture(scope="module")
def variables():
    return small().init(jax.random.key(0), IMAGES)


@pytest.fixture(scope="module")
def activity(variables):
    return jitted(small()).observe(variables, IMAGES, timesteps=T)


def test_attention_follows_its_equations(activity):
    """From the observed spikes of queries, keys and values, by loops over heads; h = v/2 + x fires at 1/4."""

    def fired(currents):
        v, spikes = np.zeros_like(currents[0]), []
        for x in currents:
            h = v / 2 + x
            spikes.append(h >= 0.25)
            v = np.where(spikes[-1], 0, h)
        return np.stack(spikes)

    spikes = {name: np.asarray(layer) for name, layer in activity.spikes.items()}
    q = spikes["stage1_0/tssa/q_lif"]
    expected = fired(np.stack([q[..., :2].sum(-1), q[..., 2:].sum(-1)], -1))
    np.testing.assert_array_equal(spikes["stage1_0/tssa/attn_lif"], expected)
    q, k, v = (spikes[f"stage2_0/ssa/{name}_lif"] for name in "qkv")
    heads = [
        0.125 * q[..., part] @ (k[..., part].swapaxes(-1, -2) @ v[..., part]) for part in (slice(0, 4), slice(4, 8))
    ]
    expected = fired(np.concatenate(heads, -1))
    np.testing.assert_array_equal(spikes["stage2_0/ssa/attn_lif"], expected)
    assert all(0 < spikes[f"stage{n}_0/{kind}/attn_lif"].mean() < 1 for n, kind in ((1, "tssa"), (2, "ssa")))


def test_single_timesteps_of_one_image_give_the_logits_that_it_has_in_a_batch(variables, activity):
    step, membranes, each = jax.jit(small().step), {}, []
    for _ in range(T):
        logits, membranes = step(variables, membranes, IMAGES[1:])
        each.append(logits)
    np.testing.assert_allclose(jnp.stack(each), activity.logits[:, 1:], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_static_image_equals_the_same_frame_at_every_timestep(variables, activity):
    frames = jnp.broadcast_to(IMAGES, (T, *IMAGES.shape))
    of_frames = jitted(small()).predict(variables, frames, timesteps=T)
    np.testing.assert_allclose(of_frames, activity.logits, rtol=1e-5, atol=1e-6)


def test_products_of_attention_are_counted_by_their_spikes(variables, activity):
    """q_sum adds each query spike once; in the other products each spike meets the d = 4 channels of its head."""
    layers = small().synapses(variables, IMAGES.shape[1:])
    assert layers["stage1_0/tssa/q_sum"].macs == 64 * 4 and layers["stage1_0/tssa/q_sum"].shape == (64, 2)
    assert layers["stage2_0/ssa/kv"].macs == layers["stage2_0/ssa/q_kv"].macs == 16 * 8 * 4
    assert [name for name, layer in layers.items() if not layer.spikes] == ["patch_embed1/proj_conv"]
    inputs = {name: np.asarray(share).sum(1) for name, share in activity.inputs.items()}
    found = energy_of(small(), variables, IMAGES.shape[1:], inputs, len(IMAGES))
    fired = {name: float(layer.sum()) / len(IMAGES) for name, layer in activity.spikes.items()}
    for product, neurons, meets in (
        ("stage1_0/tssa/q_sum", "stage1_0/tssa/q_lif", 1),
        ("stage2_0/ssa/kv", "stage2_0/ssa/k_lif", 4),
        ("stage2_0/ssa/q_kv", "stage2_0/ssa/q_lif", 4),
    ):
        assert found["layers"][product] == pytest.approx(0.9 * fired[neurons] * meets, rel=1e-5)
    expected = energy({"proj": float(layers["patch_embed1/proj_conv"].macs)}, {})
    assert found["layers"]["patch_embed1/proj_conv"] == pytest.approx(expected["snn_picojoule"])


def test_a_product_is_an_einsum_for_each_example():
    a, b = (jax.random.normal(jax.random.key(k), (3, 2, 4, 5, 6)) for k in (0, 1))
    product = Product("nhd,nhe->hde")
    expected = np.einsum("tbnhd,tbnhe->tbhde", a, b)
    np.testing.assert_allclose(product.apply({}, a, b), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(product.apply({}, a[0], b[0]), expected[0], rtol=1e-5, atol=1e-5)
    assert product.macs(a.shape, b.shape) == 4 * 5 * 6 * 6 and product.leading(a.shape) == 2


def test_qkformer_has_the_size_of_the_authors_network():
    network = create_student("qkformer", 10)
    variables = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables.params)) == 6_706_234


@pytest.mark.parametrize(
    ("network", "shape", "words"),
    [
        (create_student("qkformer", 10), (1, 34, 34, 2), "images of 34x34 pixels: patches of 4x4 do not divide them"),
        (create_student("qkformer", 10), (3, 1, 32, 30, 2), "such as to 32x32"),
        (create_teacher("vit-small-patch4", 10), (1, 2, 2, 3), "such as to 4x4"),
        (create_teacher("vit-small-patch16", 10), (1, 32, 40, 3), "patches of 16x16 do not divide them"),
    ],
)
def test_images_that_patches_do_not_divide_are_refused(network, shape, words):
    with pytest.raises(InputError, match=words):
        jax.eval_shape(network.init, jax.random.key(0), jnp.zeros(shape))


def test_a_program_refuses_such_images_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (20, 6, 6, 1), np.uint8)
    labels = np.arange(20) % 2
    np.savez("own.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    arguments = ["--dataset", "npz:own.npz", "--batch-size", "4", "--devices", "1"]
    said = refusal([*arguments, "--student", "qkformer"], capsys, chatty=True)
    assert "images of 6x6 pixels: patches of 4x4 do not divide them" in said
    assert [path.name for path in Path().iterdir()] == ["own.npz"]


def test_attention_needs_no_lower_threshold_than_rest():
    """Its threshold lies halfway between rest and the threshold of the others."""
    network = small(v_reset=0.4, detach_reset=True)
    shapes = jax.eval_shape(network.init, jax.random.key(0), IMAGES)
    assert jax.eval_shape(partial(network.predict, timesteps=2), shapes, IMAGES).shape == (2, 2, 5)


def gradient(network, variables, images):
    def loss(params):
        logits, stats = network.train(variables._replace(params=params), images, timesteps=2)
        return jnp.square(logits).mean(), stats

    return jax.jit(jax.grad(loss, has_aux=True))(variables.params)


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
def test_recomputing_changes_no_value():
    double = {"precision": "float64", "neuron": "plif"}
    images = IMAGES.astype(jnp.float64)
    variables = small(**double).init(jax.random.key(0), images)
    expected = gradient(small(**double), variables, images)
    chex.assert_tree_all_finite(expected)
    for remat in ("spikes", "full"):
        found = gradient(small(**double, remat=remat), variables, images)
        chex.assert_trees_all_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_a_small_qkformer_learns_the_digits():
    digits = load_digits()
    images, labels = jnp.asarray(digits.images[:320, :, :, None] / 8 - 1, jnp.float32), jnp.asarray(digits.target[:320])
    network = create_student("qkformer", 10)
    network = replace(network, module=network.module.clone(depths=(1, 1), features=(16, 32), heads=2))
    optimizer = optax.sgd(0.2, momentum=0.9)

    def step(carry, batch):
        variables, opt_state = carry

        def loss(params):
            logits, stats = network.train(variables._replace(params=params), images[batch], timesteps=2)
            return optax.softmax_cross_entropy_with_integer_labels(logits.mean(0), labels[batch]).mean(), stats

        (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(variables.params)
        updates, opt_state = optimizer.update(grads, opt_state, variables.params)
        return (Variables(optax.apply_updates(variables.params, updates), stats), opt_state), value

    variables = network.init(jax.random.key(0), images[:1])
    batches = jax.random.permutation(jax.random.key(1), jnp.tile(jnp.arange(256), 20)).reshape(-1, 32)
    (variables, _), losses = jax.jit(partial(jax.lax.scan, step))(
        (variables, optimizer.init(variables.params)), batches
    )
    assert losses[-10:].mean() < 0.5 * losses[:10].mean()
    predicted = jitted(network).predict(variables, images[256:], timesteps=2).mean(0).argmax(-1)
    assert float((predicted == labels[256:]).mean()) > 0.6  # one in ten by chance


@pytest.mark.slow
def test_a_run_reports_the_layers_of_attention(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["--student", "qkformer", "--width", "0.1", "--timesteps", "1", "--epochs", "1", "--method", "none"]
    distill.main([*arguments, "--devices", "1", "--out", "run", "--log", "quiet"])
    summary = json.loads(Path("run/summary.json").read_text())
    assert {"stage1_0/tssa/q_sum", "stage3_0/ssa/kv"} <= summary["energy"]["layers"].keys()
    assert "stage3_1/ssa/attn_lif" in summary["firing_rates"]
    assert "stage3_1/ssa/attn_lif" in Path("run/report.html").read_text()


@pytest.mark.slow
def test_the_page_on_transformers_makes_the_authors_student():
    page = (Path(__file__).parents[1] / "docs" / "transformers.md").read_text()
    names = {}
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], names)
    assert names["logits"].shape == (2, 2, 10)
