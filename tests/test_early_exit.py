"""Early exit against a loop over examples and timesteps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sealkd_jax.diagnostics import accuracy_by_timestep, early_exit, early_exit_curve
from sealkd_jax.plots import timesteps as plots

rng = np.random.default_rng(0)
LOGITS = (2 * rng.normal(size=(5, 40, 3))).astype(np.float32)
LABELS = rng.integers(0, 3, 40)


def one_by_one(logits, threshold):
    """The definition, one example after the other."""
    predictions, timesteps = [], []
    for example in logits.transpose(1, 0, 2):
        for t in range(1, len(example) + 1):
            mean = example[:t].mean(0)
            if np.exp(mean).max() / np.exp(mean).sum() >= threshold or t == len(example):
                predictions.append(mean.argmax())
                timesteps.append(t)
                break
    return np.array(predictions), np.array(timesteps)


@pytest.mark.parametrize("threshold", [0.0, 0.6, 0.9, 0.99, 2.0])
def test_examples_stop_at_the_first_timestep_that_is_sure(threshold):
    found = jax.jit(early_exit)(LOGITS, threshold)
    predictions, timesteps = one_by_one(LOGITS, threshold)
    np.testing.assert_array_equal(found.predictions, predictions)
    np.testing.assert_array_equal(found.timesteps, timesteps)


def test_an_example_that_is_just_as_sure_as_it_must_be_stops():
    assert jax.jit(early_exit)(np.zeros((3, 4, 2), "float32"), 0.5).timesteps.tolist() == [1] * 4


def test_a_curve_has_a_point_for_each_threshold():
    thresholds = np.array([0.0, 0.7, 0.9, 2.0])
    curve = jax.jit(early_exit_curve)(LOGITS, LABELS, thresholds)
    for k, threshold in enumerate(thresholds):
        predictions, timesteps = one_by_one(LOGITS, threshold)
        assert curve.accuracy[k] == pytest.approx((predictions == LABELS).mean())
        assert curve.timesteps[k] == pytest.approx(timesteps.mean())
    fixed = accuracy_by_timestep(LOGITS, LABELS)
    assert (curve.accuracy[0], curve.accuracy[-1]) == (fixed[0], fixed[-1])
    assert (curve.timesteps[0], curve.timesteps[-1]) == (1, 5)


def test_what_is_no_threshold_is_refused():
    with pytest.raises(ValueError, match=r"threshold: expected a number or shape \[K\], got \(2, 2\)"):
        early_exit(LOGITS, jnp.ones((2, 2)))
    for wrong in ("0.5", np.nan, [0.5, np.nan]):
        with pytest.raises(ValueError, match="threshold: expected a confidence"):
            early_exit(LOGITS, wrong)


def test_the_figure_draws_the_curve_beside_fixed_timesteps():
    thresholds, timesteps, accuracy = [0.0, 0.5, 0.9, 0.99, np.inf], [1, 1.05, 2, 3.5, 4], [0.6, 0.7, 0.8, 0.85, 0.86]
    figure = plots.early_exit(thresholds, timesteps, accuracy, [0.6, 0.7, 0.8, 0.86])
    (axis,) = figure.axes
    (x, y), (steps, fixed) = [(line.get_xdata(), line.get_ydata()) for line in axis.get_lines()]
    np.testing.assert_array_equal(x, timesteps)
    np.testing.assert_array_equal(y, accuracy)
    np.testing.assert_array_equal(steps, [1, 2, 3, 4])
    np.testing.assert_array_equal(fixed, [0.6, 0.7, 0.8, 0.86])
    written = [text.get_text() for text in axis.texts]
    assert written == ["≥ 90 %", "≥ 99 %"]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["early exit 86.00 %", "fixed 86.00 %"]
