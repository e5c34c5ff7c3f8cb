"""Labels as probabilities: the same as class indices where they are certain, and optax's cross-entropy where not."""

import chex
import jax
import numpy as np
import optax
import pytest

from sealkd_jax import losses
from sealkd_jax.losses import METHODS
from tests.losses.test_rivals import problem


def test_certain_labels_are_class_indices(float64):
    s, t, y = problem()

    @jax.jit
    def everything(s, labels):
        return {name: method(s, t, labels) for name, method in METHODS.items()}

    chex.assert_trees_all_close(everything(s, np.eye(s.shape[-1])[y]), everything(s, y), rtol=1e-12, atol=1e-13)


def test_the_cross_entropy_is_that_of_optax(float64, promoting):
    s, _, y = problem()
    soft = np.random.default_rng(0).dirichlet(np.ones(s.shape[-1]), len(y))
    expected = optax.softmax_cross_entropy(s, soft)
    np.testing.assert_allclose(losses.ce_loss(s, soft), expected, rtol=1e-12)
    np.testing.assert_allclose(losses.ce_loss(s, 2 * soft), 2 * expected, rtol=1e-12)  # the sum of a row is a weight
    by_hand = -sum(q * np.log(np.exp(x) / np.exp(s[1, 2]).sum()) for q, x in zip(soft[2], s[1, 2], strict=True))
    np.testing.assert_allclose(losses.ce_loss(s, soft)[1, 2], by_hand, rtol=1e-12)


def test_ela_takes_the_largest_entry_and_the_cross_entropy_all(float64):
    s, t, y = problem()
    soft = 0.6 * np.eye(s.shape[-1])[y] + 0.4 / s.shape[-1]
    program = jax.jit(lambda labels: METHODS["seal"](s, t, labels)[1])
    found, hard = program(soft), program(y)
    for term in ("ela", "sta", "wrong"):
        np.testing.assert_allclose(found[term], hard[term], rtol=1e-12)
    np.testing.assert_allclose(found["ce"], losses.ce_loss(s, soft).mean(), rtol=1e-12)


@pytest.mark.slow
def test_examples_that_do_not_count_may_have_rubbish_for_labels(float64):
    s, _, y = problem()
    soft, keep = np.eye(s.shape[-1])[y], np.arange(len(y)) < 4
    soft[~keep] = np.nan
    alone = METHODS["none"](s[:, keep], None, soft[keep])[0]
    np.testing.assert_allclose(METHODS["none"](s, None, soft, where=keep)[0], alone, rtol=1e-12)


def test_what_is_no_probability_is_refused():
    s, _, y = problem()
    soft = np.eye(s.shape[-1])[y]
    for wrong in (soft - 0.5, 0 * soft, np.nan * soft):
        with pytest.raises(ValueError, match="labels: expected probabilities: at least 0, finite, and in no row all 0"):
            losses.ce_loss(s, wrong)
    with pytest.raises(ValueError, match=r"labels: .*, or probabilities of shape \[B, C\] = \[6, 5\], got \[6, 4\]"):
        METHODS["seal"](s, s[0], soft[:, :4])
    assert np.isnan(jax.jit(losses.ce_loss)(s, np.nan * soft)).all()
