"""The paper's losses against their equations: a naive reference, gradients by hand, edges, symmetries."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from sealkd_jax import losses
from tests.helpers.compiling import optimised_jit
from tests.losses import reference

TAU = 3.0


def problem(timesteps=4, batch=6, classes=5, seed=0, ties=False):
    """Student and teacher logits `[T, B, C]`, and labels `[B]`."""
    rng = np.random.default_rng(seed)
    s, t = 3 * rng.normal(size=(2, timesteps, batch, classes))
    y = rng.integers(0, classes, batch)
    return (s.round() if ties else s), t, y


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def correct_everywhere(s, y):
    """The same logits with the label's raised above all others."""
    s = s.copy()
    s[:, np.arange(len(y)), y] = s.max(axis=-1) + 1
    return s


KNOBS = {"score_temperature": 0.4, "confidence_threshold": 0.3}


@jax.jit
def everything(s, t, y):
    return {
        "ce": losses.ce_loss(s, y),
        "mean": losses.mean_ce_loss(s, y),
        "ela": [losses.ela_loss(s, t, y, top_k=k, correct_weight=0.3) for k in (1, 2, 9)],
        "sta": losses.sta_loss(s, temperature=2.0, **KNOBS),
        "weights": losses.sta_weights(s, **KNOBS),
        "seal": [losses.seal_kd_loss(s, t, y, alpha=0.5, beta=0.25, task=task) for task in ("timestep", "mean")],
    }


@pytest.mark.parametrize("shape", [(4, 6, 5), (1, 3, 2), (2, 5, 2)], ids=str)
@pytest.mark.parametrize("ties", [False, True])
def test_naive_reference(shape, ties, float64):
    s, t, y = problem(*shape, ties=ties)
    ce = reference.over_batch(reference.ce, s, y)
    mean = reference.over_batch(reference.ce, s.mean(axis=0, keepdims=True), y)[0]
    ela, sta = reference.over_batch(reference.ela, s, t, y), reference.over_batch(reference.sta, s)
    expected = {
        "ce": ce,
        "mean": mean,
        "ela": [reference.over_batch(reference.ela, s, t, y, top_k=k, correct_weight=0.3) for k in (1, 2, 9)],
        "sta": reference.over_batch(reference.sta, s, temperature=2.0, **KNOBS),
        "weights": reference.over_batch(reference.weights, s, **KNOBS),
        "seal": [np.mean(0.5 * ela + 0.25 * sta, axis=0) + task for task in (ce.mean(axis=0), mean)],
    }
    chex.assert_trees_all_close(everything(s, t, y), expected, rtol=1e-11, atol=1e-13)


class EveryMode(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True, with_device=True, with_pmap=True)
    def test_hand_values(self):
        def run(s, t, y):
            return (
                losses.ce_loss(s, y),
                losses.ela_loss(s, t, y, temperature=1.0),
                losses.sta_loss(s, temperature=1.0),
                losses.card_seal_kd_loss(s, t, y),
            )

        student = np.log(np.array([[[0.5, 0.25, 0.25]], [[0.25, 0.5, 0.25]]], "float32"))
        teacher = np.log(np.array([[0.25, 0.5, 0.25]], "float32"))
        ce, ela, sta, card = self.variant(run)(student, teacher, np.array([0]))
        np.testing.assert_allclose(ce, np.log([[2], [4]]), rtol=1e-6)
        # Right: KL((¼,½,¼) ‖ (½,¼,¼)) = ¼ ln ½ + ½ ln 2. Wrong: all classes end up equal on both sides.
        np.testing.assert_allclose(ela, [[0.25 * np.log(2)], [0]], rtol=1e-6, atol=1e-7)
        # With T = 2 each timestep's target is the other one.
        np.testing.assert_allclose(sta, 2 * [[0.25 * np.log(2)]], rtol=1e-6)
        # The second timestep is wrong, but says what the teacher says. Both have confidence √½ / (√½ + 1) at τ = 2.
        cosine = (2 * 1 * 2 + 4) / (1 + 4 + 4)  # of -(1, 2, 2) and -(2, 1, 2), in units of ln 2
        expected = 0.01 / (1 + np.exp(-cosine)) * np.sqrt(2) / (np.sqrt(2) + 2)
        np.testing.assert_allclose(card, expected, rtol=1e-5)


# Error-aware logit alignment.


def test_ela_gradient(float64):
    """g = τ(q − p) with respect to s', so that d/ds[y] = g[y] + g[w] and d/ds[w] = 0 at a wrong timestep."""
    s, t, y = problem()
    grad = jax.jit(jax.grad(lambda s: losses.ela_loss(s, t, y, temperature=TAU).sum()))(s)
    for i, b in np.ndindex(s.shape[:2]):
        student, teacher, w, label = s[i, b].copy(), t[i, b].copy(), s[i, b].argmax(), y[b]
        student[w] = student[label]
        teacher[[label, w]] = min(teacher[label], teacher[w])
        g = TAU * (softmax(student / TAU) - softmax(teacher / TAU))
        if w != label:
            g[label], g[w] = g[label] + g[w], 0
            assert grad[i, b, w] == 0
        np.testing.assert_allclose(grad[i, b], g, atol=1e-14)


def test_ela_is_uniform_distillation_where_all_is_correct(float64):
    s, t, y = problem()
    s = correct_everywhere(s, y)
    ela, uniform = jax.jit(lambda s, t: (losses.ela_loss(s, t, y), losses.uniform_kd_loss(s, t)))(s, t)
    np.testing.assert_allclose(ela, uniform, rtol=1e-14)


@pytest.mark.parametrize("compiled", [jax.jit, optimised_jit], ids=["jit", "optimised"])
def test_ela_is_exactly_zero_for_two_classes_where_wrong(compiled):
    """Both sides are then uniform, and stay so however the compiler fuses and rounds."""
    s, t, y = problem(classes=2, batch=50)
    s, t = s.astype("float32"), t.astype("float32")
    wrong = s.argmax(axis=-1) != y
    loss = lambda s: losses.ela_loss(s, t, y, temperature=TAU)  # noqa: E731
    value, grad = compiled(loss)(s), compiled(jax.grad(lambda s: loss(s).sum()))(s)
    np.testing.assert_array_equal(value[wrong], 0)
    np.testing.assert_array_equal(grad[wrong], 0)
    assert (value[~wrong] > 0).all()


def test_correct_weight_zero_leaves_correct_timesteps_alone(float64):
    s, t, y = problem()
    wrong = s.argmax(axis=-1) != y
    weighted = jax.jit(lambda s, w: losses.ela_loss(s, t, y, correct_weight=w))
    np.testing.assert_array_equal(weighted(s, 0.0)[~wrong], 0)
    np.testing.assert_array_equal(weighted(s, 0.0)[wrong], weighted(s, 1.0)[wrong])
    grad = jax.jit(jax.grad(lambda s: losses.ela_loss(s, t, y, correct_weight=0.0).sum()))(s)
    np.testing.assert_array_equal(grad[~wrong], 0)
    assert grad[wrong].any()


def test_top_k_one_is_the_default_and_many_reach_all_competitors(float64):
    """From k = C − 1 on nothing changes any more: all classes before the label are competitors."""
    s, t, y = problem()
    default, *of_k = jax.jit(
        lambda: [losses.ela_loss(s, t, y)] + [losses.ela_loss(s, t, y, top_k=k) for k in (1, 2, 4, 100)]
    )()
    np.testing.assert_array_equal(default, of_k[0])
    np.testing.assert_array_equal(of_k[2], of_k[3])
    assert np.abs(of_k[0] - of_k[1]).max() > 1e-3


# Selective temporal alignment.


def test_sta_gradient_treats_the_target_as_constant(float64):
    s, _, _ = problem()
    weights = reference.over_batch(reference.weights, s)
    target = np.einsum("ijb,jbc->ibc", weights, s)
    grad = jax.jit(jax.grad(lambda s: losses.sta_loss(s, temperature=TAU).sum()))(s)
    np.testing.assert_allclose(grad, TAU * (softmax(s / TAU) - softmax(target / TAU)), atol=1e-14)


def test_sta_of_one_timestep_is_zero():
    s, _, _ = problem(timesteps=1)
    value, grad = jax.jit(jax.value_and_grad(lambda s: losses.sta_loss(s).sum()))(s)
    assert value == 0 and not grad.any()


def test_sta_of_equal_timesteps_is_zero(float64):
    s, _, _ = problem(timesteps=1)
    np.testing.assert_allclose(jax.jit(losses.sta_loss)(np.repeat(s, 4, axis=0)), 0, atol=1e-14)


def test_confidence_threshold(float64):
    s, _, _ = problem(timesteps=5, batch=20)
    weights = jax.jit(lambda s, threshold: losses.sta_weights(s, confidence_threshold=threshold))
    confidence = reference.over_batch(lambda s: np.array([reference.confidence(step) for step in s]), s)
    np.testing.assert_array_equal(weights(s, 0.0), jax.jit(losses.sta_weights)(s))
    np.testing.assert_array_equal(weights(s, 2.0), weights(s, 0.0))  # no source reaches the threshold: as without one
    silent = confidence < 0.5
    somebody_else = (~silent).sum(axis=0) >= 2  # so that every listener has a source left
    assert silent[:, somebody_else].any()
    heard = np.asarray(weights(s, 0.5))
    assert (heard.transpose(1, 2, 0)[silent & somebody_else] == 0).all()
    np.testing.assert_allclose(heard.sum(axis=1), 1, rtol=1e-14)


def test_predictions_close_to_uniform_pass_the_default_threshold():
    """Their confidence is 0 but for rounding, which can take it below."""
    s = 1e-4 * np.random.default_rng(0).normal(size=(3, 1000, 10)).astype("float32")
    assert (jax.jit(losses.sta_confidence)(s) < 0).any()
    weights = jax.jit(losses.sta_weights)(s)
    assert (weights > 0).sum() == 3 * 2 * 1000


def test_a_colder_score_is_more_selective(float64):
    s, _, _ = problem()
    weights = jax.jit(lambda s, temperature: losses.sta_weights(s, score_temperature=temperature))
    assert weights(s, 1.0).max() / weights(s, 1.0)[~np.eye(4, dtype=bool)].min() <= np.exp(2)
    assert (weights(s, 0.1).max(axis=1) >= weights(s, 1.0).max(axis=1)).all()


# All of them.


def test_permuting_the_classes_changes_nothing(float64):
    s, t, y = problem()
    order = np.random.default_rng(1).permutation(s.shape[-1])
    both = jax.jit(lambda s, t, y: (losses.seal_kd_loss(s, t, y, top_k=2), losses.card_seal_kd_loss(s, t, y)))
    before, after = both(s, t, y), both(s[..., order], t[..., order], np.argsort(order)[y])
    chex.assert_trees_all_close(after, before, rtol=1e-12)


def test_numerical_gradients(float64):
    """Away from ties the choice of the wrong class is constant; the rest is differentiable or detached."""
    s, t, y = problem(timesteps=2, batch=3)
    smooth = jax.jit(
        lambda s: (
            losses.ce_loss(s, y),
            losses.mean_ce_loss(s, y),
            losses.ela_loss(s, t, y, top_k=2),
            losses.uniform_kd_loss(s, t),
            losses.card_seal_kd_loss(s, t, y),
        )
    )
    check_grads(smooth, (jnp.asarray(s),), order=1, modes=["rev"], rtol=1e-7)


def test_a_hidden_label_out_of_range_gives_nan():
    s, t, _ = problem(batch=3)
    loss = jax.jit(losses.seal_kd_loss)(s, t, np.array([-1, 0, 5]))
    assert np.isnan(loss).tolist() == [True, False, True]
