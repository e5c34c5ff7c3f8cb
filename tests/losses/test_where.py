"""`where` and `time_axis`: a loss of some examples is that of those examples alone, on whichever axis their time is."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from sealkd_jax import losses
from sealkd_jax.losses import METHODS, hyperparameters, method
from tests.helpers.devices import first_devices

LOSSES = {
    "ce_loss": lambda s, t, y, **k: losses.ce_loss(s, y, **k),
    "mean_ce_loss": lambda s, t, y, **k: losses.mean_ce_loss(s, y, **k),
    "ela_loss": losses.ela_loss,
    "ela_loss of the best two": partial(losses.ela_loss, top_k=2),
    "seal_kd_loss": losses.seal_kd_loss,
    "card_seal_kd_loss": losses.card_seal_kd_loss,
    "uniform_kd_loss": lambda s, t, y, **k: losses.uniform_kd_loss(s, t, **k),
    "mean_kd_loss": lambda s, t, y, **k: losses.mean_kd_loss(s, t, **k),
    "sta_loss": lambda s, t, y, **k: losses.sta_loss(s, **k),
    "sta_weights": lambda s, t, y, **k: losses.sta_weights(s, **k),
    "sta_confidence": lambda s, t, y, **k: losses.sta_confidence(s, **k),
    "self_distillation_loss": lambda s, t, y, **k: losses.self_distillation_loss(s, **k),
}
KEEP = np.array([True, False, True, True, False, False, True, False])


def problem(per_timestep=False, classes=5):
    rng = np.random.default_rng(0)
    shape = 3, len(KEEP), classes
    s, t = 2 * rng.normal(size=shape), 2 * rng.normal(size=shape if per_timestep else shape[1:])
    return s, t, rng.integers(0, classes, len(KEEP))


def padded(s, t, y):
    """The same, with rubbish in the examples that do not count."""
    s, t, y = s.copy(), t.copy(), y.copy()
    s[:, ~KEEP], t[..., ~KEEP, :], y[~KEEP] = np.nan, np.inf, -1
    s[:, 1], y[4] = -np.inf, 255
    return s, t, y


def every_loss(s, t, y, **arguments):
    """The value of each loss and its gradients by student and teacher, as one program."""

    def one(loss):
        result, pull = jax.vjp(lambda s, t: loss(s, t, y, **arguments), s, t)
        return result, pull(jnp.ones_like(result))

    return {name: one(loss) for name, loss in LOSSES.items()}


FEW = ("seal", "card", "dkd", "esd", "dist")  # of timesteps, of the final output, and coupled over the batch


def every_method(s, t, y, names=tuple(METHODS), **arguments):
    def one(name):
        noise = {"noise": jnp.ones(s.shape[1:])} if name == "nld" else {}  # drawn, it would go by place in the batch
        return jax.value_and_grad(partial(METHODS[name], **arguments, **noise), (0, 1), has_aux=True)(s, t, y)

    return {name: one(name) for name in names}


@pytest.mark.parametrize("per_timestep", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_each_loss_is_that_of_the_examples_that_count(float64, per_timestep):
    s, t, y = problem(per_timestep)
    alone = jax.jit(every_loss)(s[:, KEEP], t[..., KEEP, :], y[KEEP])
    with jax.debug_nans(True):
        found = jax.jit(lambda s, t, y, keep: every_loss(s, t, y, where=keep))(*padded(s, t, y), KEEP)
    for name, (result, gradients) in found.items():
        expected, expected_gradients = alone[name]
        if result.ndim:
            np.testing.assert_array_equal(result[..., ~KEEP], 0, err_msg=name)
        np.testing.assert_allclose(result[..., KEEP] if result.ndim else result, expected, atol=1e-12, err_msg=name)
        for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
            np.testing.assert_array_equal(gradient[..., ~KEEP, :], 0, err_msg=name)
            np.testing.assert_allclose(gradient[..., KEEP, :], expected_gradient, atol=1e-12, err_msg=name)


def test_each_method_is_the_mean_over_the_examples_that_count(float64):
    s, t, y = problem()
    alone = jax.jit(every_method)(s[:, KEEP], t[KEEP], y[KEEP])
    found = jax.jit(lambda s, t, y, keep: every_method(s, t, y, where=keep))(*padded(s, t, y), KEEP)
    for name, (outcome, gradients) in found.items():
        chex.assert_trees_all_close(outcome, alone[name][0], atol=1e-12, rtol=0)
        for gradient, expected in zip(gradients, alone[name][1], strict=True):
            np.testing.assert_array_equal(gradient[..., ~KEEP, :], 0, err_msg=name)
            np.testing.assert_allclose(gradient[..., KEEP, :], expected, atol=1e-12, err_msg=name)


def test_shards_with_different_numbers_of_examples_that_count(float64):
    """Their average is the mean over all; the third of the four shards has none."""
    s, t, y = problem()
    expected = jax.jit(partial(every_method, names=FEW))(s[:, KEEP], t[KEEP], y[KEEP])

    def one_device(s, t, y, keep):
        return jax.tree.map(lambda x: x[None], every_method(s, t, y, FEW, where=keep, axis_name="data"))

    mesh = Mesh(np.array(first_devices(4)), ("data",))
    specs = P(None, "data"), P("data"), P("data"), P("data")
    found = jax.jit(jax.shard_map(one_device, mesh=mesh, in_specs=specs, out_specs=P("data")))(*padded(s, t, y), KEEP)
    for name, (outcome, (gradient, _)) in found.items():
        means = jax.tree.map(lambda x: x.mean(), outcome)
        chex.assert_trees_all_close(means, expected[name][0], rtol=1e-12)
        whole = np.concatenate(gradient, axis=1) / 4
        np.testing.assert_allclose(whole[:, KEEP], expected[name][1][0], atol=1e-12, err_msg=name)


def test_where_no_example_counts_all_is_zero():
    s, t, _ = problem()
    arguments = s.astype("float32"), t.astype("float32"), np.full(len(KEEP), -1), np.zeros(len(KEEP), bool)
    found = jax.jit(lambda *x: (every_loss(*x[:3], where=x[3]), every_method(*x[:3], FEW, where=x[3])))(*arguments)
    assert not any(leaf.any() for leaf in jax.tree.leaves(found))


@pytest.mark.parametrize("name", LOSSES)
def test_labels_that_count_are_checked_and_others_are_not(name):
    s, t, y = padded(*problem())
    s = s.astype("float32")
    jax.eval_shape(lambda s, t: LOSSES[name](s, t, y, where=KEEP), s, t)
    y[0] = 7
    if name in ("ce_loss", "mean_ce_loss", "ela_loss", "seal_kd_loss", "card_seal_kd_loss"):
        with pytest.raises(ValueError, match=r"labels: expected class indices in \[0, C\) = \[0, 5\), got 7"):
            jax.eval_shape(lambda s, t: LOSSES[name](s, t, y, where=KEEP), s, t)


def test_time_may_be_the_second_axis(float64):
    """The result has its batch axis first, too, as has the gradient, which is that of the given logits."""
    s, t, y = problem(per_timestep=True)

    @jax.jit
    def both(s, t, y):
        batch_first = s.swapaxes(0, 1), t.swapaxes(0, 1), y
        each = {name: (METHODS[name](s, t, y)[0], METHODS[name](*batch_first, time_axis=1)[0]) for name in FEW}
        return every_loss(s, t, y, where=KEEP), every_loss(*batch_first, where=KEEP, time_axis=1), each

    time_first, batch_first, methods = both(s, t, y)
    for name, (result, gradients) in time_first.items():
        expected = (jnp.moveaxis(result, -1, 0) if result.ndim else result), [x.swapaxes(0, 1) for x in gradients]
        chex.assert_trees_all_close(batch_first[name], (expected[0], tuple(expected[1])), rtol=1e-13)
    for one, other in methods.values():
        np.testing.assert_allclose(other, one, rtol=1e-13)


def test_a_teacher_without_timesteps_has_no_time_axis():
    s, t, y = problem()
    batch_first = losses.ela_loss(s.swapaxes(0, 1), t, y, time_axis=1)
    np.testing.assert_allclose(batch_first.T, losses.ela_loss(s, t, y), rtol=1e-6)


@pytest.mark.parametrize("call", [*LOSSES.values(), METHODS["seal"], METHODS["card"]])
def test_what_is_neither_where_nor_an_axis_is_refused(call):
    s, t, y = problem()
    with pytest.raises(TypeError, match="where: expected bool, true for each example that counts, got float32"):
        call(s, t, y, where=np.ones(8, "float32"))
    with pytest.raises(ValueError, match=r"where: expected shape \[B\] = \[8\], got \[3, 8\]"):
        call(s, t, y, where=np.ones((3, 8), bool))
    with pytest.raises(ValueError, match=r"time_axis: expected 0, for student_logits \[T, B, .*; got 2"):
        call(s, t, y, time_axis=2)


def test_where_and_time_axis_are_no_hyperparameters():
    assert all({"where", "time_axis"}.isdisjoint(hyperparameters(name)) for name in METHODS)


def test_a_method_that_reduces_its_loss_sees_to_where_itself():
    known = METHODS.copy()

    @method
    def reduced(student_logits, labels):
        return {"ce": (1.0, losses.ce_loss(student_logits, labels).mean())}

    s, _, y = problem()
    try:
        with pytest.raises(ValueError, match=r"where: the term ce of method reduced has shape \[\]; expected one of"):
            METHODS["reduced"](s, None, y, where=KEEP)
    finally:
        METHODS.clear()
        METHODS.update(known)


# --- masked classes of the teacher ----------------------------------------------------------------------------------


def test_a_masked_class_has_no_probability(float64):
    """A teacher whose −∞ is 0 · log 0 = 0 is the limit of one with a very low logit; every gradient is finite."""
    s, t, y = problem()
    masked, low = t.copy(), t.copy()
    for b, row in enumerate(y):  # also the label, and all but two
        columns = [row] if b == 1 else [(row + 1) % 5] if b % 2 else [c for c in range(5) if c not in (row, 3)]
        masked[b, columns], low[b, columns] = -np.inf, -1e6

    def program(s, t, y):
        names = ("seal", "twkd", "tser", "dkd")
        return every_loss(s, t, y), {n: jax.value_and_grad(lambda s: METHODS[n](s, t, y)[0])(s) for n in names}  # noqa: B023

    program = jax.jit(program)
    with jax.debug_nans(True):
        found = program(s, masked, y)
    chex.assert_tree_all_finite(found)
    chex.assert_trees_all_close(found, program(s, low, y), rtol=1e-8, atol=1e-8)
    chex.assert_trees_all_close(losses.uniform_kd_loss(s, masked)[0, 0], _kl(masked[0], s[0, 0]), rtol=1e-12)


def _kl(t, s, tau=3.0):
    p, q = (np.exp(x / tau) / np.exp(x / tau).sum() for x in (t, s))
    return tau**2 * sum(a * np.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def test_a_method_with_the_reverse_divergence_refuses_masked_classes():
    s, t, y = problem()
    t[0, 0] = -np.inf
    with pytest.raises(ValueError, match=r"teacher_logits: expected finite logits, got -inf: .* such as -30"):
        METHODS["hta_kl"](s, t, y)
    assert jax.jit(METHODS["hta_kl"])(s, t, y)[0] == np.inf  # hidden in a trace, it is what it is


def test_masked_classes_in_low_precision():
    s, t, y = problem()
    t[:, 4] = -np.inf
    for dtype in (jnp.bfloat16, jnp.float16):
        loss, gradient = jax.jit(jax.value_and_grad(lambda s, t: losses.seal_kd_loss(s, t, y % 4).sum()))(
            s.astype(dtype), t.astype(dtype)
        )
        assert np.isfinite(loss) and np.isfinite(gradient.astype("float32")).all()
