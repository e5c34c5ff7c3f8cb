"""The diagnostics against values worked out by hand, and against plain NumPy loops on random arrays."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealkd_jax import diagnostics as d
from sealkd_jax.losses import sta_weights


def one_hot(predictions, height=1.0):
    """Logits `[T, B, 3]` that predict what is written in `predictions [T, B]`."""
    return height * jnp.eye(3)[jnp.array(predictions)]


def random(seed, timesteps=5, batch=40, classes=4):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(timesteps, batch, classes)), rng.integers(0, classes, batch)


# three timesteps, four examples with label 0: always right, right in the end, wrong in the end, always wrong
PREDICTIONS = [[0, 1, 0, 2], [0, 0, 1, 2], [0, 0, 1, 2]]
LABELS = jnp.zeros(4, int)


# --- logits ------------------------------------------------------------------------------------------------


def test_hand_values(strict):
    logits = one_hot(PREDICTIONS)
    np.testing.assert_allclose(d.accuracy_of_timestep(logits, LABELS), [0.5, 0.5, 0.5])
    # Accumulated over two timesteps, examples 1 and 2 are tied, and the lowest class is predicted.
    np.testing.assert_allclose(d.accuracy_by_timestep(logits, LABELS), [0.5, 0.75, 0.5])
    share = d.erroneous_share(logits, LABELS)
    np.testing.assert_allclose(share.wrong_where_right, 1 / 6)
    np.testing.assert_allclose(share.right_where_wrong, 1 / 6)
    flips = d.prediction_flips(logits)
    np.testing.assert_allclose(flips.alone, 2 / 4)  # one each in examples 1 and 2
    np.testing.assert_allclose(flips.accumulated, 2 / 4)
    np.testing.assert_allclose(d.confidence(logits), [np.e / (np.e + 2)] * 3, rtol=1e-6)


def test_accumulated_is_the_mean_so_far(float64, strict):
    logits, _ = random(0)
    for i, accumulated in enumerate(d.accumulate(jnp.asarray(logits))):
        np.testing.assert_allclose(accumulated, logits[: i + 1].mean(0), rtol=1e-12)


@settings(deadline=None, max_examples=6)
@given(st.integers(0, 1000), st.integers(1, 6), st.integers(1, 20))
def test_predictions_in_time_equal_a_loop(seed, timesteps, batch):
    logits, labels = random(seed, timesteps, batch)
    of, by, flips, flips_by, wrong_right, right_wrong = [], [], 0, 0, [], []
    accumulated = np.stack([logits[: i + 1].mean(0) for i in range(timesteps)])
    for i in range(timesteps):
        of.append(np.mean([logits[i, b].argmax() == labels[b] for b in range(batch)]))
        by.append(np.mean([accumulated[i, b].argmax() == labels[b] for b in range(batch)]))
    for b in range(batch):
        final_right = accumulated[-1, b].argmax() == labels[b]
        for i in range(timesteps):
            right = logits[i, b].argmax() == labels[b]
            (wrong_right if final_right else right_wrong).append(not right if final_right else right)
            if i:
                flips += logits[i, b].argmax() != logits[i - 1, b].argmax()
                flips_by += accumulated[i, b].argmax() != accumulated[i - 1, b].argmax()
    np.testing.assert_allclose(d.accuracy_of_timestep(logits, labels), of, rtol=1e-6)
    np.testing.assert_allclose(d.accuracy_by_timestep(logits, labels), by, rtol=1e-6)
    np.testing.assert_allclose(d.prediction_flips(logits), [flips / batch, flips_by / batch], rtol=1e-6)
    expected = [np.mean(x) if x else np.nan for x in (wrong_right, right_wrong)]
    np.testing.assert_allclose(d.erroneous_share(logits, labels), expected, rtol=1e-6)
    # The two shares and the final accuracy make up the share of timesteps that are right.
    final = by[-1]
    right = final * (1 - np.nan_to_num(expected[0])) + (1 - final) * np.nan_to_num(expected[1])
    np.testing.assert_allclose(right, np.mean(of), atol=1e-6)


@pytest.mark.parametrize("bins", [1, 10, 15])
@pytest.mark.parametrize("scale", [0.3, 3.0, 100.0])
def test_calibration_error_is_the_definition(float64, strict, bins, scale):
    logits, labels = random(1, batch=200)
    final = scale * logits.mean(0)
    p = np.exp(final - final.max(1, keepdims=True))
    sure, right = (p / p.sum(1, keepdims=True)).max(1), final.argmax(1) == labels
    expected = 0
    for m in range(bins):
        inside = (sure > m / bins) & (sure <= (m + 1) / bins)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - sure[inside].mean())
    error = d.expected_calibration_error(jnp.asarray(scale * logits), jnp.asarray(labels), bins=bins)
    np.testing.assert_allclose(error, expected, atol=1e-12)
    one_answer = d.expected_calibration_error(jnp.asarray(final), jnp.asarray(labels), bins=bins)
    np.testing.assert_allclose(one_answer, expected, atol=1e-12)


def test_who_knows_what_it_does_not_know_is_calibrated(strict):
    # Two classes, p = 3/4, right three times in four.
    logits = jnp.tile(jnp.array([np.log(3.0), 0.0], jnp.float32), (4, 1))
    np.testing.assert_allclose(d.expected_calibration_error(logits, jnp.array([0, 0, 0, 1])), 0, atol=1e-6)
    np.testing.assert_allclose(d.expected_calibration_error(logits, jnp.array([1, 1, 1, 1])), 0.75, atol=1e-6)


def test_a_confidence_on_the_edge_of_two_bins_is_in_the_lower(float64):
    """One example is wrong with confidence 1/2, one right with 1/4: in one bin the error is 1/2 - 3/8, in two 5/8."""
    sure = jnp.log(jnp.array([[0.5, 0.5, 1e-30, 1e-30], [0.25, 0.25, 0.25, 0.25]]))
    np.testing.assert_allclose(d.expected_calibration_error(sure, jnp.array([1, 0]), bins=2), 0.125)


def test_mean_weights_are_those_of_the_loss(float64):
    logits, _ = random(2)
    expected = sta_weights(logits, score_temperature=0.5).mean(-1)
    np.testing.assert_allclose(d.mean_sta_weights(logits, score_temperature=0.5), expected, rtol=1e-12)
    np.testing.assert_allclose(d.mean_sta_weights(logits).sum(1), 1, rtol=1e-12)
    np.testing.assert_array_equal(d.mean_sta_weights(logits[:1]), [[0]])


def test_teacher_agreement(strict):
    logits = one_hot(PREDICTIONS)
    of, by = d.teacher_agreement(logits, one_hot([0, 0, 1, 1]))
    np.testing.assert_allclose(of, [0.25, 0.75, 0.75])
    np.testing.assert_allclose(by, [0.25, 0.5, 0.75])  # over two timesteps example 2 is tied and predicts 0
    for agreement in d.teacher_agreement(logits, logits):
        np.testing.assert_array_equal(agreement, 1)
    of, _ = d.teacher_agreement(logits, one_hot([[0, 1, 0, 2], [1, 1, 1, 1], [0, 0, 1, 2]]))
    np.testing.assert_allclose(of, [1, 0.25, 1])


def test_functions_compile_and_keep_low_precision_out(float64):
    logits, labels = random(3)
    for name in ("accuracy_of_timestep", "accuracy_by_timestep", "erroneous_share", "expected_calibration_error"):
        function = getattr(d, name)
        np.testing.assert_allclose(jax.jit(function)(logits, labels), function(logits, labels), rtol=1e-12)
    for function in (d.prediction_flips, d.confidence, d.mean_sta_weights, d.accumulate):
        np.testing.assert_allclose(jax.jit(function)(logits), function(logits), rtol=1e-12)
        assert jax.tree.leaves(function(jnp.asarray(logits, "bfloat16")))[0].dtype == jnp.float32


def test_summary_is_json(float64):
    logits, labels = random(4)
    summary = d.summarise(logits, labels, logits[0])
    assert json.loads(json.dumps(summary)) == summary
    flips, agreement = d.prediction_flips(logits), d.teacher_agreement(logits, logits[0])
    expected = {
        "accuracy_by_timestep": d.accuracy_by_timestep(logits, labels),
        "accuracy_of_timestep": d.accuracy_of_timestep(logits, labels),
        "confidence_by_timestep": d.confidence(d.accumulate(logits)),
        "confidence_of_timestep": d.confidence(logits),
        "expected_calibration_error": d.expected_calibration_error(logits, labels),
        "flips_accumulated": flips.accumulated,
        "flips_alone": flips.alone,
        "sta_weights": d.mean_sta_weights(logits),
        "teacher_agreement_by_timestep": agreement.accumulated,
        "teacher_agreement_of_timestep": agreement.alone,
    } | d.erroneous_share(logits, labels)._asdict()
    assert summary.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(summary[name], value, err_msg=name)
    assert not any(name.startswith("teacher") for name in d.summarise(logits, labels))
    nobody_wrong = d.summarise(one_hot(PREDICTIONS)[:, :2], LABELS[:2])
    assert nobody_wrong["right_where_wrong"] is None
    assert json.loads(json.dumps(nobody_wrong, allow_nan=False)) == nobody_wrong


def test_the_verdict_follows_the_share_of_erroneous_timesteps():
    disagree = d.timestep_variance_verdict(one_hot(PREDICTIONS), LABELS)
    assert disagree.worthwhile
    np.testing.assert_allclose(disagree.erroneous_share, 1 / 6)
    assert "16.67 %" in disagree.explanation

    wrong = np.zeros((10, 10), int)
    wrong[0, 0] = 1  # one in a hundred
    agree = d.timestep_variance_verdict(one_hot(wrong), jnp.zeros(10, int))
    assert (agree.worthwhile, round(agree.erroneous_share, 4)) == (False, 0.01)
    wrong[0, 1] = 1  # two in a hundred: the rule of thumb
    assert d.timestep_variance_verdict(one_hot(wrong), jnp.zeros(10, int)).worthwhile
    wrong = np.zeros((10, 101), int)
    wrong[0, :20] = 1  # 20 in 1,010, which is not two in a hundred, though 2.0 %
    assert not d.timestep_variance_verdict(one_hot(wrong), jnp.zeros(101, int)).worthwhile

    assert d.timestep_variance_verdict(one_hot([[0, 0]]), LABELS[:2])[:2] == (False, None)
    assert d.timestep_variance_verdict(one_hot([[1, 1]] * 2), LABELS[:2])[:2] == (False, None)


# --- spikes and energy -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "bool", "uint8"])
def test_spike_statistics(strict, dtype):
    spikes = np.zeros((2, 3, 2, 2))
    spikes[:, :, 0, 0] = 1  # always
    spikes[1, 2, 0, 1] = 1  # once
    spikes = jnp.asarray(spikes, dtype)
    np.testing.assert_allclose(d.firing_rate(spikes), [3 / 12, 4 / 12], rtol=1e-6)
    np.testing.assert_allclose(d.dead_share(spikes), 2 / 4)
    np.testing.assert_allclose(d.saturated_share(spikes), 1 / 4)
    assert d.firing_rate(spikes[:, :, 0, 0]).shape == (2,)


def test_energy_is_counted_as_the_field_counts_it():
    rate = jnp.array([0.1, 0.3, 0.2, 0.2])
    np.testing.assert_allclose(d.synaptic_operations(rate, 1e6), 0.2 * 4 * 1e6, rtol=1e-6)
    macs = {"stem": 2e6, "block": 1e6, "head": 1e3}
    cost = d.energy(macs, {"block": rate, "head": [0.5] * 4})
    np.testing.assert_allclose(list(cost["layers"].values()), [2e6 * 4.6, 0.8e6 * 0.9, 2e3 * 0.9], rtol=1e-6)
    assert cost["snn_picojoule"] == sum(cost["layers"].values())
    np.testing.assert_allclose(cost["ann_picojoule"], 3.001e6 * 4.6)
    assert d.energy(macs, {"block": rate}, real_runs=4)["layers"]["stem"] == 4 * 2e6 * 4.6
    each = d.energy(macs, {}, real_runs={name: k for k, name in enumerate(macs)})["layers"]
    assert each == {name: k * macs[name] * 4.6 for k, name in enumerate(macs)}
    assert json.loads(json.dumps(cost)) == cost


def test_a_neuron_that_always_fires_costs_an_accumulate_a_timestep():
    macs = {"body": 1000.0}
    cost = d.energy(macs, {"body": np.ones(4)})
    np.testing.assert_allclose(cost["snn_picojoule"], cost["ann_picojoule"] * 4 * 0.9 / 4.6)


# --- bad input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (ValueError, r"logits: expected shape \[T, B, C\].*got \[4, 3\]", lambda: d.confidence(jnp.ones((4, 3)))),
        (ValueError, r"logits: .* T >= 1, .*got \[0, 4, 3\]", lambda: d.accumulate(jnp.ones((0, 4, 3)))),
        (TypeError, "logits: expected a floating dtype", lambda: d.confidence(jnp.ones((2, 4, 3), int))),
        (
            ValueError,
            r"labels: expected class indices of shape \[B\] = \[4\], got \[3\]",
            lambda: d.accuracy_of_timestep(jnp.ones((2, 4, 3)), LABELS[:3]),
        ),
        (
            TypeError,
            "labels: expected an integer dtype",
            lambda: d.accuracy_by_timestep(jnp.ones((2, 4, 3)), jnp.zeros(4)),
        ),
        (
            ValueError,
            r"teacher_logits: expected shape .* \[4, 3\] or .* \[2, 4, 3\], .*got \[4, 2\]",
            lambda: d.teacher_agreement(jnp.ones((2, 4, 3)), jnp.ones((4, 2))),
        ),
        (
            ValueError,
            "bins: expected at least 1, got 0",
            lambda: d.expected_calibration_error(jnp.ones((4, 3)), LABELS, bins=0),
        ),
        (ValueError, r"spikes: expected shape \[T, B, ...\].*got \(4,\)", lambda: d.firing_rate(jnp.ones(4))),
        (ValueError, "rates: expected the layers of macs.*'b'", lambda: d.energy({"a": 1.0}, {"b": [0.5]})),
    ],
)
def test_bad_input_is_named(error, message, call):
    with pytest.raises(error, match=message):
        call()
