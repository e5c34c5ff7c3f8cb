"""A batch taken in parts: the same step as the whole, and batches that do not divide are refused."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sealkd_jax.errors import InputError
from sealkd_jax.losses import METHODS, couples_examples
from sealkd_jax.models import Variables
from sealkd_jax.parallel.sharding import Parallel, check_batch
from sealkd_jax.training import Batch, TrainState, init_state, make_step, prepare, train
from sealkd_jax.training.batch import microbatches
from tests.helpers.devices import first_devices
from tests.helpers.small_training import TinyStudent, make_dataset, make_network, make_plan, one_device

T, B, C = 3, 8, 4


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


QUICK = {"seal", "tks"}
# Losses of the whole batch, and one whose microbatches draw other noise.
WHOLE = {*filter(couples_examples, METHODS), "nld"}
SLOW = [pytest.param(method, marks=pytest.mark.slow) for method in sorted(METHODS.keys() - {*QUICK, *WHOLE})]


@pytest.mark.parametrize("method", [*sorted(QUICK), *SLOW])
def test_parts_are_the_step_of_the_whole_batch(float64, method):
    params = {"in": draw(36, 16, seed=1), "out": draw(16, C, seed=2)}
    optimizer = optax.sgd(0.1, momentum=0.9)
    batch = Batch(draw(B, 6, 6, 1), jnp.arange(B) % C, 3 * draw(B, C, seed=3))

    def run(accumulate):
        state = TrainState(Variables(params, {}), optimizer.init(params))
        step = jax.jit(make_step(TinyStudent(), METHODS[method], optimizer, timesteps=T, accumulate=accumulate))
        for _ in range(2):
            state, metrics = step(state, batch, 0.5)
        return state, metrics

    whole = run(1)
    assert float(jnp.abs(whole[0].variables.params["in"] - params["in"]).max()) > 1e-6
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-10), run(4), whole)


def test_running_statistics_move_once_a_part(float64):
    network = make_network(dtype=jnp.float64, param_dtype=jnp.float64)
    batch = Batch(draw(B, 6, 6, 1), jnp.arange(B) % C, None)
    state = init_state(network, optax.sgd(0.1), jax.random.key(0), batch.images)
    new, _ = jax.jit(make_step(network, METHODS["none"], optax.sgd(0.1), timesteps=T, accumulate=2))(state, batch, 0.5)
    stats = state.variables.stats
    for k in range(2):
        part = microbatches(batch, 2).images[k]
        _, stats = network.train(state.variables._replace(stats=stats), part, timesteps=T)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), new.variables.stats, stats)


def test_every_example_is_in_one_part_and_every_device_has_its_share_of_each():
    index = jnp.arange(B)
    labels, still = index, jnp.broadcast_to(index[:, None, None, None], (B, 2, 2, 1))
    frames = jnp.broadcast_to(still[None], (T, B, 2, 2, 1))
    for images, teacher in ((still, jnp.tile(index[:, None], C)), (frames, jnp.tile(index[:, None], (T, 1, C)))):
        parts = microbatches(Batch(images, labels, teacher), 2)
        np.testing.assert_array_equal(parts.labels, [[0, 2, 4, 6], [1, 3, 5, 7]])
        for k in range(2):
            assert parts.images[k].ndim == images.ndim and parts.teacher_logits[k].ndim == teacher.ndim
            np.testing.assert_array_equal(jnp.moveaxis(parts.images[k], -4, 0).reshape(4, -1)[:, 0], parts.labels[k])
            np.testing.assert_array_equal(parts.teacher_logits[k].reshape(-1, 4, C)[-1, :, 0], parts.labels[k])
    assert microbatches(Batch(still, labels, None), 4).teacher_logits is None


@pytest.mark.slow
def test_parts_on_two_devices_are_those_on_one(float64, tmp_path):
    """BatchNorm sees the same small batches, wherever they lie."""
    plan = replace(make_plan(), network=make_network(dtype=jnp.float64, param_dtype=jnp.float64), accumulate=2)
    plan = replace(plan, spec=plan.spec._replace(epochs=1))

    def variables(name, parallel):
        (tmp_path / name).mkdir()
        return train(plan, make_dataset(), tmp_path / name, parallel).variables

    one = variables("one", one_device())
    for mode in ("jit", "pmap"):
        two = variables(mode, Parallel(mode, first_devices(2)))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-10), one, two)


@pytest.mark.parametrize(
    ("batch_size", "devices", "accumulate", "words"),
    [
        (64, 1, 3, "batch_size 64: accumulate 3 on 1 devices does not divide it; the nearest that fits is 63"),
        (64, 2, 3, "the nearest that fits is 66"),
        (8, 8, 2, "the nearest that fits is 16"),
        (8, 1, 0, "accumulate 0: expected at least 1"),
    ],
)
def test_a_batch_that_the_parts_do_not_divide_is_refused(batch_size, devices, accumulate, words):
    with pytest.raises(InputError, match=words):
        check_batch(batch_size, devices, accumulate)
    plan = replace(make_plan(), accumulate=accumulate)
    plan = replace(plan, spec=plan.spec._replace(batch_size=batch_size))
    with pytest.raises(InputError, match=words):
        prepare(plan, make_dataset(100), Parallel("jit", first_devices(devices)))
