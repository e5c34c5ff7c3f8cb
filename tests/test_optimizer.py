"""The optimiser: momentum, decay of kernels, the schedule."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sealkd_jax.errors import InputError
from sealkd_jax.models import PLIF
from sealkd_jax.training import create_optimizer, learning_rate_schedule, prepare
from sealkd_jax.training.optimizer import kernels
from tests.helpers.small_training import make_dataset, make_network, make_plan, one_device


def test_weight_decay_is_on_kernels_only():
    params = make_network(neuron=PLIF).init(jax.random.key(0), jnp.zeros((1, 6, 6, 1))).params
    assert jax.tree.map(bool, kernels(params)) == {
        "block_0": {
            "Conv_0": {"kernel": True},
            "BatchNorm_0": {"scale": False, "bias": False},
            "neuron": {"decay_logit": False},
        },
        "readout": {"kernel": True, "bias": False},
    }


@pytest.mark.parametrize("momentum", [0.9, 0.5])
def test_sgd_has_momentum_with_weight_decay_of_kernels_in_the_gradient(float64, momentum):
    """v = momentum v + g, p = p - lr v, with g = gradient + decay * p of kernels: PyTorch's SGD."""
    optimizer = create_optimizer("sgd", lambda _: 0.1, weight_decay=0.01, momentum=momentum)
    params, expected = {"kernel": jnp.array(2.0), "bias": jnp.array(2.0)}, {"kernel": 2.0, "bias": 2.0}
    state, v = optimizer.init(params), {"kernel": 0.0, "bias": 0.0}
    for gradient in (1.0, -0.5, 0.25):
        updates, state = optimizer.update({name: jnp.array(gradient) for name in params}, state, params)
        params = optax.apply_updates(params, updates)
        for name, decay in (("kernel", 0.01), ("bias", 0.0)):
            v[name] = momentum * v[name] + gradient + decay * expected[name]
            expected[name] -= 0.1 * v[name]
            assert float(params[name]) == pytest.approx(expected[name], rel=1e-12)


def test_adamw_is_adam_with_its_moments_corrected(float64):
    """Kingma & Ba: m and v of gradients, beta_1 = `momentum`, beta_2 = 0.999; p = p - lr m' / (sqrt(v') + 1e-8)."""
    optimizer = create_optimizer("adamw", lambda _: 0.1, weight_decay=0.0, momentum=0.8)
    params, m, v, expected = {"kernel": jnp.array(2.0)}, 0.0, 0.0, 2.0
    state = optimizer.init(params)
    for step, gradient in enumerate((1.0, -0.5, 0.001), 1):
        updates, state = optimizer.update({"kernel": jnp.array(gradient)}, state, params)
        params = optax.apply_updates(params, updates)
        m, v = 0.8 * m + 0.2 * gradient, 0.999 * v + 0.001 * gradient**2
        expected -= 0.1 * m / (1 - 0.8**step) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
        assert float(params["kernel"]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_plan_is_trained_with_its_own_optimiser(name):
    """Where there is no gradient, the first step takes rate * decay of each kernel."""
    recipe = {"optimizer": name, "weight_decay": 0.25, "learning_rate": 0.1, "warmup_epochs": 0}
    program = prepare(make_plan(**recipe), make_dataset(), one_device())
    own = create_optimizer(name, lambda _: 0.1, weight_decay=0.25)
    params = {"kernel": jnp.array(2.0), "bias": jnp.array(2.0)}
    for gradient in (0.0, 1.0):
        gradients = {"kernel": jnp.array(gradient), "bias": jnp.array(gradient)}
        found, _ = program.optimizer.update(gradients, program.optimizer.init(params), params)
        expected, _ = own.update(gradients, own.init(params), params)
        assert float(found["kernel"]) == pytest.approx(float(expected["kernel"]), rel=1e-6) != 0
        assert float(found["bias"]) == pytest.approx(float(expected["bias"]), rel=1e-6)


def test_adamw_decays_weights_apart_from_the_gradient(float64):
    """With no gradient only the decay acts: p = p (1 - lr * decay)."""
    optimizer = create_optimizer("adamw", lambda _: 0.1, weight_decay=0.01)
    params = {"kernel": jnp.array(2.0), "bias": jnp.array(2.0)}
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    params = optax.apply_updates(params, updates)
    assert float(params["kernel"]) == pytest.approx(2 * (1 - 0.1 * 0.01), rel=1e-12)
    assert float(params["bias"]) == 2.0


def test_learning_rate_rises_in_a_line_and_falls_along_a_cosine():
    schedule = learning_rate_schedule(0.4, steps=100, warmup_steps=20)
    for step in (0, 5, 20):
        assert float(schedule(step)) == pytest.approx(0.4 * step / 20, abs=1e-7)
    for step in (40, 60, 99, 100):
        assert float(schedule(step)) == pytest.approx(0.2 * (1 + np.cos(np.pi * (step - 20) / 80)), abs=1e-7)
    assert float(learning_rate_schedule(0.4, steps=100, warmup_steps=0)(0)) == pytest.approx(0.4)


def test_unknown_optimizer_is_named():
    with pytest.raises(InputError, match="optimizer 'adam': unknown; expected one of sgd, adamw"):
        create_optimizer("adam", lambda _: 0.1, weight_decay=0)
