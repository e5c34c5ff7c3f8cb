"""The loss of the method card: against vectors of the card's own class, and over split batches."""

from functools import partial
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from sealkd_jax.losses import METHODS, card_seal_kd_loss, ce_loss, mean_ce_loss
from tests.helpers.devices import first_devices

FILES = sorted((Path(__file__).parents[1] / "golden").glob("card_*.npz"))


def test_the_vectors_are_there():
    assert len(FILES) == 6


@jax.jit
def value_and_grads(z, t, y, temperature):
    loss = lambda z, t: card_seal_kd_loss(z, t, y, temperature=temperature)  # noqa: E731
    return jax.value_and_grad(loss, argnums=(0, 1))(z, t)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_golden(path, float64):
    with np.load(path) as file:
        golden = {key: file[key] for key in file}
    arguments = [golden[key] for key in ("timestep_predictions", "teacher_spikes", "target", "temperature")]
    value, (grad_student, grad_teacher) = value_and_grads(*arguments)
    np.testing.assert_allclose(value, golden["loss"], rtol=1e-11)
    np.testing.assert_allclose(grad_student, golden["grad_predictions"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(grad_teacher, golden["grad_teacher"], rtol=0, atol=1e-12)


def test_all_correct_at_one_timestep_is_zero():
    student = jnp.array([[[3.0, 0.0], [0.0, 2.0]]])
    assert jax.jit(card_seal_kd_loss)(student, -student, jnp.array([0, 1])) == 0


def test_confidence_gradient_on_ties_goes_to_the_lowest_index():
    """With q = softmax(z/τ) and the prediction 0, d q_0 / d z_k = q_0 (1[k = 0] − q_k) / τ, ties or not."""
    z = jnp.array([[[2.0, 2.0, 0.0]], [[2.0, 2.0, 0.0]]])  # the same twice: cosine 1, gradient 0
    grad = jax.jit(jax.grad(lambda z: card_seal_kd_loss(z, z, jnp.array([0]))))(z)[1, 0]  # all right: no KD
    q = np.exp(z[1, 0] / 2) / np.exp(z[1, 0] / 2).sum()
    expected = 0.01 / (1 + np.exp(-1)) * q[0] * (np.array([1, 0, 0]) - q) / 2
    np.testing.assert_allclose(grad, expected, atol=1e-8)


def test_method_with_a_task_loss():
    s, t, y, _ = problem()
    parts = jax.jit(lambda: (card_seal_kd_loss(s, t, y), ce_loss(s, y).mean(), mean_ce_loss(s, y).mean()))
    card, ce, mean_ce = parts()
    for task, total, reported in (
        ("none", card, ce),
        ("timestep", card + ce, ce),
        ("mean", card + mean_ce, mean_ce),
    ):
        result, terms = jax.jit(partial(METHODS["card"], task=task))(s, t, y)
        np.testing.assert_allclose(result, total, rtol=1e-6)
        np.testing.assert_allclose(terms["ce"], reported, rtol=1e-6)
        np.testing.assert_allclose(terms["card"], card, rtol=1e-6)


# A linear student on a batch split over devices: loss and weight gradient are those of the whole batch.


def problem(timesteps=3, batch=16, classes=5, features=7):
    rng = np.random.default_rng(0)
    s, t = 3 * rng.normal(size=(2, timesteps, batch, classes))
    return s, t, rng.integers(0, classes, batch), rng.normal(size=(timesteps, batch, features))


def linear_loss(weights, x, t, y, axis_name=None):
    return card_seal_kd_loss(jnp.einsum("tbf,fc->tbc", x, weights), t, y, axis_name=axis_name)


@pytest.fixture
def linear(float64):
    _, t, y, x = problem()
    weights = np.random.default_rng(9).normal(size=(x.shape[-1], t.shape[-1]))
    value, grad = jax.jit(jax.value_and_grad(linear_loss))(weights, x, t, y)
    return weights, x, t, y, value, grad


def split(x, axis):
    return np.stack(np.split(x, 4, axis=axis))


@pytest.mark.parametrize("per_timestep", [True, False])
def test_pmap(linear, per_timestep):
    weights, x, t, y, value, grad = linear
    if not per_timestep:
        t = t[0]
        value, grad = jax.jit(jax.value_and_grad(linear_loss))(weights, x, t, y)

    def step(x, t, y):
        value, grad = jax.value_and_grad(linear_loss)(weights, x, t, y, "data")
        return value, jax.lax.pmean(grad, "data")

    shards = split(x, 1), split(t, 1 if per_timestep else 0), split(y, 0)
    values, grads = jax.pmap(step, axis_name="data", devices=first_devices(4))(*shards)
    np.testing.assert_allclose(values, np.full(4, value), rtol=0, atol=1e-12)
    np.testing.assert_allclose(grads, np.broadcast_to(grad, grads.shape), rtol=0, atol=1e-12)


def test_shard_map(linear):
    weights, x, t, y, value, grad = linear
    mesh = Mesh(np.array(first_devices(4)), ("data",))

    def whole_loss(weights, x, t, y):
        mapped = jax.shard_map(
            lambda *shard: jax.lax.pmean(linear_loss(*shard, axis_name="data"), "data"),
            mesh=mesh,
            in_specs=(P(), P(None, "data"), P(None, "data"), P("data")),
            out_specs=P(),
        )
        return mapped(weights, x, t, y)

    mapped = jax.jit(jax.value_and_grad(whole_loss))(weights, x, t, y)
    chex.assert_trees_all_close(mapped, (value, grad), rtol=0, atol=1e-12)


def test_jit_with_a_sharded_batch(linear):
    weights, x, t, y, value, grad = linear
    mesh = Mesh(np.array(first_devices(4)), ("data",))
    specs = P(), P(None, "data"), P(None, "data"), P("data")
    arguments = [jax.device_put(a, NamedSharding(mesh, s)) for a, s in zip((weights, x, t, y), specs, strict=True)]
    sharded = jax.jit(jax.value_and_grad(linear_loss))(*arguments)
    chex.assert_trees_all_close(sharded, (value, grad), rtol=0, atol=1e-12)


def test_named_vmap(linear):
    weights, x, t, y, value, _ = linear
    one = jax.vmap(lambda x, t, y: linear_loss(weights, x, t, y, "data"), axis_name="data")
    values = jax.jit(one)(split(x, 1), split(t, 1), split(y, 0))
    np.testing.assert_allclose(values, np.full(4, value), rtol=0, atol=1e-12)


def test_without_the_axis_name_a_shard_has_its_own_loss(linear):
    """The loss is coupled over the batch: what the gathering is for."""
    weights, x, t, y, value, _ = linear
    alone = jax.vmap(lambda x, t, y: linear_loss(weights, x, t, y))
    values = jax.jit(alone)(split(x, 1), split(t, 1), split(y, 0))
    assert abs(values.mean() - value) > 1e-4


def test_the_examples_of_the_page_run(capsys):
    page = (Path(__file__).parents[2] / "docs" / "method-card.md").read_text(encoding="utf-8")
    first_devices(2)
    names = {}
    for block in page.split("```python\n")[1:]:
        exec(block.split("```")[0], names)
    assert "'card'" in capsys.readouterr().out
    x, w = np.ones((4, 2, 3), "float32"), np.ones((3, 10), "float32")
    shards = [np.stack([a] * 2) for a in (w, x, names["teacher"][:, :2], names["labels"][:2])]
    losses, grads = names["step"](*shards)
    assert losses[0] == losses[1] and (grads[0] == grads[1]).all()
