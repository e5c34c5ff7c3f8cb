"""Targets of the cross-entropy, the penalty on firing rates, clipping: each against a hand value or optax's own."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from sealkd_jax import lif
from sealkd_jax.errors import InputError
from sealkd_jax.losses import METHODS, mean_ce_loss
from sealkd_jax.models import Variables
from sealkd_jax.programs.plans import read_spike_rate
from sealkd_jax.training import Batch, SpikeRate, Targets, TrainState, balanced_weights, create_optimizer, make_step
from sealkd_jax.training.targets import make_targets
from tests.helpers.devices import first_devices
from tests.helpers.small_training import TinyStudent

LABELS = np.array([0, 1, 2, 1, 0, 2, 1, 1], np.int32)
KEY = jax.random.key(3)


def batch():
    rng = np.random.default_rng(0)
    return Batch(rng.normal(size=(8, 2, 2, 1)), LABELS)


def test_smoothed_labels_are_those_of_optax(float64):
    found = make_targets(Targets(3, smoothing=0.3), batch(), KEY)
    np.testing.assert_allclose(found.labels, optax.smooth_labels(jnp.eye(3)[LABELS], 0.3), rtol=1e-12)
    np.testing.assert_allclose(found.labels[0], [0.8, 0.1, 0.1], rtol=1e-12)
    np.testing.assert_array_equal(found.images, batch().images)


def test_two_examples_become_one(float64):
    given = batch()
    found = make_targets(Targets(3, mixup=0.4), given, KEY)
    share = jax.random.beta(KEY, 0.4, 0.4)
    np.testing.assert_allclose(found.images, share * given.images + (1 - share) * given.images[::-1], rtol=1e-12)
    np.testing.assert_allclose(found.labels, share * np.eye(3)[LABELS] + (1 - share) * np.eye(3)[LABELS[::-1]])
    s = np.random.default_rng(1).normal(size=(2, 8, 3))
    of = [mean_ce_loss(s, labels) for labels in (LABELS, LABELS[::-1])]
    np.testing.assert_allclose(mean_ce_loss(s, found.labels), share * of[0] + (1 - share) * of[1], rtol=1e-12)
    frames = Batch(np.stack([given.images, 2 * given.images]), LABELS)
    np.testing.assert_allclose(make_targets(Targets(3, mixup=0.4), frames, KEY).images[1], 2 * found.images)


def test_rare_classes_count_more(float64):
    weights = balanced_weights(LABELS, 4)
    np.testing.assert_allclose(weights, [8 / (3 * 2), 8 / (3 * 4), 8 / (3 * 2), 0])
    np.testing.assert_allclose(weights[LABELS].mean(), 1)
    s = np.random.default_rng(1).normal(size=(2, 8, 4))
    found = make_targets(Targets(4, weights=weights), batch(), KEY)
    np.testing.assert_allclose(mean_ce_loss(s, found.labels), weights[LABELS] * mean_ce_loss(s, LABELS), rtol=1e-12)


def test_stored_logits_of_single_images_are_refused():
    with pytest.raises(InputError, match="mixup: the stored teacher logits are of single images"):
        make_targets(Targets(3, mixup=0.4), batch()._replace(teacher_logits=np.zeros((8, 3))), KEY)


class Observed(TinyStudent):
    def train_and_observe(self, variables, images, *, timesteps, axis_name=None):
        currents = images.reshape(len(images), -1) @ variables.params["in"]
        spikes, _ = lif(jnp.broadcast_to(currents, (timesteps, *currents.shape)))
        return spikes @ variables.params["out"], variables.stats, {"hidden": spikes, "all": jnp.ones((2, 4))}


def make(**options):
    rng = np.random.default_rng(2)
    params = {"in": jnp.asarray(rng.normal(size=(4, 5))), "out": jnp.asarray(rng.normal(size=(5, 3)))}
    optimizer = optax.sgd(1.0)
    state = TrainState(Variables(params, {}), optimizer.init(params))
    return state, make_step(Observed(), METHODS["mean_ce"], optimizer, timesteps=2, **options)


def test_the_penalty_is_the_squared_distance_of_the_rates_from_the_target(float64):
    (state, step), (_, plain) = make(spike_rate=SpikeRate(0.25, 7.0)), make()
    new, metrics = jax.jit(step)(state, batch(), 0.5)
    old, without = jax.jit(plain)(state, batch(), 0.5)

    def penalty(params):
        spikes = Observed().train_and_observe(Variables(params, {}), batch().images, timesteps=2)[2]["hidden"]
        return ((spikes.mean() - 0.25) ** 2 + 0.75**2) / 2

    value, gradient = jax.value_and_grad(penalty)(state.variables.params)
    np.testing.assert_allclose(metrics["terms"]["spike_rate"], value, rtol=1e-12)
    np.testing.assert_allclose(metrics["loss"], without["loss"] + 7 * value, rtol=1e-12)
    expected = jax.tree.map(lambda p, g: p - 7 * g, old.variables.params, gradient)
    chex.assert_trees_all_close(new.variables.params, expected, rtol=1e-12)
    assert optax.tree.norm(gradient) > 1e-3


@pytest.mark.slow
def test_devices_agree_with_one(float64):
    options = {"targets": Targets(3, 0.1, 0.4, balanced_weights(LABELS, 3)), "spike_rate": SpikeRate(0.1, 2.0)}
    (state, step), (_, whole) = make(**options, axis_name="data"), make(**options)
    mesh, given = Mesh(np.array(first_devices(4)), ("data",)), batch()
    mapped = jax.shard_map(
        lambda images, labels: step(state, Batch(images, labels), 0.5, KEY),
        mesh=mesh,
        in_specs=P("data"),
        out_specs=P(),
        check_vma=False,
    )
    found, expected = jax.jit(mapped)(given.images, given.labels), jax.jit(whole)(state, given, 0.5, KEY)
    chex.assert_trees_all_close(found, expected, rtol=1e-11)


def test_the_gradient_is_clipped_before_the_decay(float64):
    params = {"kernel": jnp.array([3.0, 4.0]), "bias": jnp.array([12.0])}
    optimizer = create_optimizer("sgd", lambda _: 1.0, weight_decay=0.5, clip_norm=2.0, momentum=0.0)
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    expected = {"kernel": -params["kernel"] * (2 / 13 + 0.5), "bias": -params["bias"] * 2 / 13}
    chex.assert_trees_all_close(updates, expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_all_parameters_may_decay(name, float64):
    params = {"kernel": jnp.array(2.0), "bias": jnp.array(2.0)}
    optimizer = create_optimizer(name, lambda _: 0.1, weight_decay=0.25, decay_all=True)
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    assert float(updates["kernel"]) == float(updates["bias"]) == pytest.approx(-0.05, rel=1e-12)


def test_a_penalty_is_a_share_and_a_weight():
    assert read_spike_rate("0.1=10") == SpikeRate(0.1, 10.0) and read_spike_rate(None) is None
    for text in ("0.1", "2=1", "0.1=0", "0.1=nan", "a=b", "=", "0.1=1=2", "-0.1=1"):
        with pytest.raises(InputError, match=f"--spike-rate {text}: expected TARGET=WEIGHT, such as 0.1=10"):
            read_spike_rate(text)
