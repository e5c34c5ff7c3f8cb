"""Evaluation: every example counts once, whatever the batches and the devices; NaN is never right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sealkd_jax.diagnostics import accuracy_by_timestep, accuracy_of_timestep
from sealkd_jax.parallel.sharding import Parallel
from sealkd_jax.training import compile_evaluation, count_activity, firing_rates, on_devices, view_batch
from tests.helpers.devices import first_devices
from tests.helpers.small_training import make_dataset, make_network, make_spec, one_device


@pytest.fixture(scope="module")
def observed():
    """A network, its 17 test images' split, and what it does with all of them at once."""
    network, test = make_network(), make_dataset().test
    images = view_batch(make_spec(), on_devices(test, one_device()), 0).images
    variables = network.init(jax.random.key(0), images)
    return network, variables, test, jax.jit(lambda v, x: network.observe(v, x, timesteps=3)[:3])(variables, images)


@pytest.mark.parametrize(("batch_size", "devices"), [(4, 1), (8, 4), (17, 1), (40, 1)])
def test_every_example_counts_once(observed, batch_size, devices):
    network, variables, test, (logits, spikes, inputs) = observed
    parallel, spec = Parallel("jit", first_devices(devices)), make_spec(batch_size=batch_size)
    evaluate = compile_evaluation(network, spec, 3, parallel, test, lambda a: (count_activity(a), firing_rates(a)))
    found, (counts, rates) = evaluate(parallel.put(variables))
    np.testing.assert_allclose(found, logits, rtol=1e-5, atol=1e-5)
    for name, layer in spikes.items():
        np.testing.assert_array_equal(counts.spikes[name], layer.sum(1))
        np.testing.assert_allclose(rates[name], layer.reshape(3, 17, -1).mean(-1).sum(1), rtol=1e-5)
    for name, fraction in inputs.items():
        np.testing.assert_allclose(counts.inputs[name], fraction.sum(1), rtol=1e-5)


def test_sums_of_a_bfloat16_network_are_float32(observed):
    _, variables, test, _ = observed
    evaluate = compile_evaluation(
        make_network(dtype=jnp.bfloat16), make_spec(), 3, one_device(), test, lambda a: (firing_rates(a), a.inputs)
    )
    assert all(total.dtype == np.float32 for total in jax.tree.leaves(evaluate(variables).sums))


def test_nan_is_never_right():
    """Whichever class argmax names."""
    logits = np.array([[[np.nan, 1.0], [2.0, np.nan], [2.0, 1.0]], [[3.0, 1.0]] * 3])
    labels = np.zeros(3, int)
    np.testing.assert_allclose(accuracy_of_timestep(logits, labels), [1 / 3, 1])
    np.testing.assert_allclose(accuracy_by_timestep(logits, labels), [1 / 3, 1 / 3])
