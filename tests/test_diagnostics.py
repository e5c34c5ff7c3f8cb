"""The diagnostics against values worked out by hand, and against plain NumPy loops on random arrays."""

import json
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sealkd_jax import diagnostics as d
from sealkd_jax.losses import sta_weights


def one_hot(predictions, height=1.0):
    """Logits `[T, B, 3]` that predict what is written in `predictions [T, B]`."""
    return height * jnp.eye(3)[jnp.array(predictions)]


def random(seed, timesteps=5, batch=40, classes=4):
    """Logits and labels of a network that is right more often than by chance."""
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(size=(timesteps, batch, classes)), rng.integers(0, classes, batch)
    logits[:, np.arange(batch), labels] += 1
    return logits, labels


# three timesteps, four examples with label 0: always right, right in the end, wrong in the end, always wrong
PREDICTIONS = [[0, 1, 0, 2], [0, 0, 1, 2], [0, 0, 1, 2]]
LABELS = np.zeros(4, int)


def predictions_in_time(logits, labels, teacher):
    """Every function of logits that runs on the device."""
    return {
        "accuracy_of_timestep": d.accuracy_of_timestep(logits, labels),
        "accuracy_by_timestep": d.accuracy_by_timestep(logits, labels),
        "erroneous_share": tuple(d.erroneous_share(logits, labels)),
        "prediction_flips": tuple(d.prediction_flips(logits)),
        "confidence": d.confidence(logits),
        "confidence_so_far": d.confidence(d.accumulate(logits)),
        "expected_calibration_error": d.expected_calibration_error(logits, labels),
        "teacher_agreement": tuple(d.teacher_agreement(logits, teacher)),
    }


# --- logits ------------------------------------------------------------------------------------------------


class HandValues(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True, with_pmap=True)
    def test_predictions(self):
        found = self.variant(predictions_in_time)(one_hot(PREDICTIONS), LABELS, one_hot([0, 0, 1, 1]))
        steady = np.e / (np.e + 2)  # confidence where the prediction stays the same
        tied, final = np.exp(1 / 2) / (2 * np.exp(1 / 2) + 1), np.exp(2 / 3) / (np.exp(2 / 3) + np.exp(1 / 3) + 1)
        expected = {
            "accuracy_of_timestep": [0.5, 0.5, 0.5],
            # Accumulated over two timesteps, examples 1 and 2 are tied, and the lowest class is predicted.
            "accuracy_by_timestep": [0.5, 0.75, 0.5],
            "erroneous_share": (1 / 6, 1 / 6),
            "prediction_flips": (2 / 4, 2 / 4),  # one each in examples 1 and 2
            "confidence": [steady] * 3,
            "confidence_so_far": [steady, (steady + tied) / 2, (steady + final) / 2],
            # Either confidence has a bin of its own, with one right and one wrong example: |1 - c + 0 - c|.
            "expected_calibration_error": (abs(1 - 2 * steady) + abs(1 - 2 * final)) / 4,
            # Over two timesteps example 2 is tied and predicts 0.
            "teacher_agreement": ([0.25, 0.75, 0.75], [0.25, 0.5, 0.75]),
        }
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=1e-6, err_msg=name)

    @chex.variants(with_jit=True, without_jit=True, with_pmap=True)
    def test_spikes(self):
        spikes = np.zeros((2, 3, 2, 2), "float32")
        spikes[:, :, 0, 0] = 1  # always
        spikes[1, 2, 0, 1] = 1  # once
        measure = self.variant(lambda x: (d.firing_rate(x), d.dead_share(x), d.saturated_share(x)))
        chex.assert_trees_all_close(measure(spikes), (np.array([3 / 12, 4 / 12]), 2 / 4, 1 / 4))


def test_accumulated_is_the_mean_so_far(float64):
    logits, _ = random(0)
    expected = [logits[: i + 1].mean(0) for i in range(len(logits))]
    chex.assert_trees_all_close(d.accumulate(logits), np.stack(expected), rtol=1e-12)


@pytest.mark.parametrize(("seed", "timesteps", "batch"), [(0, 1, 1), (1, 4, 20), (2, 6, 3)])
def test_predictions_in_time_equal_a_loop(seed, timesteps, batch, float64):
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
    found = jax.jit(predictions_in_time)(logits, labels, logits)
    np.testing.assert_allclose(found["accuracy_of_timestep"], of, rtol=1e-6)
    np.testing.assert_allclose(found["accuracy_by_timestep"], by, rtol=1e-6)
    np.testing.assert_allclose(found["prediction_flips"], [flips / batch, flips_by / batch], rtol=1e-6)
    expected = [np.mean(x) if x else np.nan for x in (wrong_right, right_wrong)]
    np.testing.assert_allclose(found["erroneous_share"], expected, rtol=1e-6)
    np.testing.assert_array_equal(found["teacher_agreement"], np.ones((2, timesteps)))  # with itself
    # The two shares and the final accuracy make up the share of timesteps that are right.
    right = by[-1] * (1 - np.nan_to_num(expected[0])) + (1 - by[-1]) * np.nan_to_num(expected[1])
    np.testing.assert_allclose(right, np.mean(of), atol=1e-6)


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_error_is_the_definition(float64, bins):
    logits, labels = random(1, batch=200)
    error = jax.jit(partial(d.expected_calibration_error, bins=bins))
    for scale in (0.3, 3.0, 100.0):
        final = scale * logits.mean(0)
        p = np.exp(final - final.max(1, keepdims=True))
        sure, right = (p / p.sum(1, keepdims=True)).max(1), final.argmax(1) == labels
        expected = 0
        for m in range(bins):
            inside = (sure > m / bins) & (sure <= (m + 1) / bins)
            if inside.any():
                expected += inside.mean() * abs(right[inside].mean() - sure[inside].mean())
        np.testing.assert_allclose(error(scale * logits, labels), expected, atol=1e-12)
        np.testing.assert_allclose(error(final, labels), expected, atol=1e-12)  # one set of logits per example


def test_confidence_equal_to_accuracy_is_calibrated():
    # Two classes, p = 3/4, right three times in four.
    logits = np.tile(np.array([np.log(3), 0], "float32"), (4, 1))
    error = jax.jit(d.expected_calibration_error)
    np.testing.assert_allclose(error(logits, np.array([0, 0, 0, 1])), 0, atol=1e-6)
    np.testing.assert_allclose(error(logits, np.array([1, 1, 1, 1])), 0.75, atol=1e-6)


def test_a_confidence_on_the_edge_of_two_bins_is_in_the_lower(float64):
    """One example is wrong with confidence 1/2, one right with 1/4: in one bin the error is 1/2 - 3/8, in two 5/8."""
    sure = np.log([[0.5, 0.5, 1e-30, 1e-30], [0.25, 0.25, 0.25, 0.25]])
    error = jax.jit(partial(d.expected_calibration_error, bins=2))(sure, np.array([1, 0]))
    np.testing.assert_allclose(error, 0.125)


def test_mean_weights_are_those_of_the_loss(float64):
    logits, _ = random(2)
    expected = jax.jit(partial(sta_weights, score_temperature=0.5))(logits).mean(-1)
    np.testing.assert_allclose(d.mean_sta_weights(logits, score_temperature=0.5), expected, rtol=1e-12)
    np.testing.assert_allclose(d.mean_sta_weights(logits).sum(1), 1, rtol=1e-12)
    np.testing.assert_array_equal(d.mean_sta_weights(logits[:1]), [[0]])


def test_a_teacher_with_timesteps_is_compared_timestep_by_timestep():
    teacher = one_hot([[0, 1, 0, 2], [1, 1, 1, 1], [0, 0, 1, 2]])
    alone, _ = jax.jit(d.teacher_agreement)(one_hot(PREDICTIONS), teacher)
    np.testing.assert_allclose(alone, [1, 0.25, 1])


def test_low_precision_is_kept_out():
    logits, labels = (x.astype(dtype) for x, dtype in zip(random(3), ("bfloat16", int), strict=True))
    found = jax.eval_shape(predictions_in_time, logits, labels, logits)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype("float32")}


def test_summary_is_json():
    logits, labels = random(4)
    summary = d.summarise(logits, labels, logits[0])
    assert json.loads(json.dumps(summary)) == summary
    found = jax.jit(predictions_in_time)(logits, labels, logits[0])
    expected = {
        "accuracy_by_timestep": found["accuracy_by_timestep"],
        "accuracy_of_timestep": found["accuracy_of_timestep"],
        "confidence_by_timestep": found["confidence_so_far"],
        "confidence_of_timestep": found["confidence"],
        "expected_calibration_error": found["expected_calibration_error"],
        "flips_alone": found["prediction_flips"][0],
        "flips_accumulated": found["prediction_flips"][1],
        "sta_weights": d.mean_sta_weights(logits),
        "teacher_agreement_of_timestep": found["teacher_agreement"][0],
        "teacher_agreement_by_timestep": found["teacher_agreement"][1],
        "wrong_where_right": found["erroneous_share"][0],
        "right_where_wrong": found["erroneous_share"][1],
    }
    by_class = d.by_class(logits, labels)
    assert by_class.items() <= summary.items() and summary.keys() == expected.keys() | by_class.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(summary[name], value, rtol=1e-6, err_msg=name)
    all_right = d.summarise(one_hot(PREDICTIONS)[:, :2], LABELS[:2])
    assert not any(name.startswith("teacher") for name in all_right)
    assert all_right["right_where_wrong"] is None
    assert json.loads(json.dumps(all_right, allow_nan=False)) == all_right


def test_the_verdict_follows_the_share_of_erroneous_timesteps():
    def verdict(share):
        """The given number of timesteps is wrong, of 10 timesteps of 1,000 examples that are right in the end."""
        wrong = np.zeros((10, 1000), int)
        wrong[0, : round(share * wrong.size)] = 1
        return d.timestep_variance_verdict(np.eye(2, dtype="float32")[wrong], np.zeros(1000, int))

    disagree = verdict(0.05)
    assert disagree.worthwhile and "5.00 %" in disagree.explanation
    np.testing.assert_allclose(disagree.erroneous_share, 0.05)
    assert verdict(0.02).worthwhile  # the rule of thumb
    agree = verdict(0.0199)
    assert (agree.worthwhile, round(agree.erroneous_share, 4)) == (False, 0.0199)

    assert d.timestep_variance_verdict(one_hot([[0, 0]]), LABELS[:2])[:2] == (False, None)
    assert d.timestep_variance_verdict(one_hot([[1, 1]] * 2), LABELS[:2])[:2] == (None, None)


# --- examples that count, time on another axis, NaN ---------------------------------------------------------


def in_time(logits, labels, teacher, spikes, **arguments):
    """Every diagnostic that is a mean over examples."""
    alone = {"confidence": d.confidence, "flips": d.prediction_flips, "weights": d.mean_sta_weights}
    labelled = (d.accuracy_of_timestep, d.accuracy_by_timestep, d.erroneous_share, d.expected_calibration_error)
    found = {name: measure(logits, **arguments) for name, measure in alone.items()}
    found |= {measure.__name__: measure(logits, labels, **arguments) for measure in labelled}
    found |= {
        measure.__name__: measure(spikes, **arguments) for measure in (d.firing_rate, d.dead_share, d.saturated_share)
    }
    found["agreement"] = d.teacher_agreement(logits, teacher, **arguments)
    found["exits"] = d.early_exit_curve(logits, labels, np.array([0.3, 0.5]), **arguments)
    return found


def test_where_leaves_examples_out(float64):
    logits, labels = random(5, batch=12)
    teacher, spikes = random(6, batch=12)[0], np.random.default_rng(7).random((5, 12, 30)) < 0.1
    keep = np.arange(12) % 3 > 0
    alone = jax.jit(in_time)(logits[:, keep], labels[keep], teacher[:, keep], spikes[:, keep])
    summary = d.summarise(logits[:, keep], labels[keep], teacher[:, keep])
    verdict = d.timestep_variance_verdict(logits[:, keep], labels[keep])
    logits[:, ~keep], labels[~keep], teacher[:, ~keep], spikes[:, ~keep] = np.nan, -1, np.inf, True
    found = jax.jit(lambda *x: in_time(*x[:-1], where=x[-1]))(logits, labels, teacher, spikes, keep)
    chex.assert_trees_all_close(found, alone, rtol=1e-6)  # shares are in float32
    chex.assert_trees_all_close(d.summarise(logits, labels, teacher, where=keep), summary, rtol=1e-6)
    assert d.timestep_variance_verdict(logits, labels, where=keep) == verdict and verdict.worthwhile

    exits = d.early_exit(logits, 0.5, where=keep)
    assert (exits.predictions[~keep] == -1).all() and (exits.timesteps[~keep] == 0).all()
    assert not d.correct(logits, labels, where=keep)[:, ~keep].any()
    with pytest.raises(ValueError, match=r"labels: expected class indices in \[0, C\) = \[0, 4\), got -1"):
        d.accuracy_by_timestep(logits, labels)


def test_a_mean_over_no_example_is_nan():
    logits, labels = (x.astype(dtype) for x, dtype in zip(random(5), ("float32", int), strict=True))
    assert np.isnan(d.accuracy_by_timestep(logits, labels, where=np.zeros(40, bool))).all()
    assert d.summarise(logits, labels, where=np.zeros(40, bool))["expected_calibration_error"] is None


def test_time_may_be_the_second_axis(float64):
    logits, labels = random(5, batch=12)
    teacher, spikes = random(6, batch=12)[0], np.random.default_rng(7).random((5, 12, 30)) < 0.1
    keep = np.arange(12) % 3 > 0
    both = jax.jit(
        lambda logits, teacher, spikes: (
            in_time(logits, labels, teacher, spikes, where=keep),
            in_time(
                *(x.swapaxes(0, 1) if x is not labels else x for x in (logits, labels, teacher, spikes)),
                where=keep,
                time_axis=1,
            ),
        )
    )
    chex.assert_trees_all_equal(*both(logits, teacher, spikes))
    moved = d.accumulate(logits.swapaxes(0, 1), time_axis=1)
    chex.assert_trees_all_equal(moved.swapaxes(0, 1), d.accumulate(logits))
    whole = d.summarise(logits.swapaxes(0, 1), labels, teacher.swapaxes(0, 1), time_axis=1)
    assert whole == d.summarise(logits, labels, teacher)
    assert d.timestep_variance_verdict(logits.swapaxes(0, 1), labels, time_axis=1) == d.timestep_variance_verdict(
        logits, labels
    )


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_a_nan_or_infinity_is_never_right(odd):
    """Neither for class 0, nor for its own class, alone or accumulated, in any diagnostic."""
    logits = np.tile(np.eye(3, dtype="float32"), (4, 1, 1))  # all right
    logits[1] = odd  # no class at all
    logits[2, [0, 1, 2], [0, 1, 0]] = odd  # the label's logit, or another's
    labels = np.arange(3)
    right = jax.jit(d.correct)(logits, labels)
    np.testing.assert_array_equal(right, [[True] * 3, [False] * 3, [False] * 3, [True] * 3])
    found = jax.jit(predictions_in_time)(logits, labels, logits[1])
    assert found["accuracy_of_timestep"].tolist() == [1, 0, 0, 1]
    assert found["accuracy_by_timestep"].tolist() == [1, 0, 0, 0]
    assert np.isnan(found["erroneous_share"][0]) and found["erroneous_share"][1] == 0.5  # the final answer is wrong
    assert not np.any(found["teacher_agreement"])  # nor do two NaN agree
    assert np.isnan(found["expected_calibration_error"]) and np.isnan(found["confidence"][1])
    curve = d.early_exit_curve(logits, labels, np.array([0.0, 2.0]))
    assert curve.accuracy.tolist() == [1, 0]
    assert d.early_exit(logits, 2.0).predictions.tolist() == [-1] * 3
    verdict = d.timestep_variance_verdict(logits, labels)
    assert verdict[:2] == (None, None) and "not trained" in verdict.explanation
    assert d.summarise(logits, labels)["expected_calibration_error"] is None
    # Under a trace a label of -1 is not seen, and is no class either.
    assert not jax.jit(d.correct)(logits, np.full(3, -1)).any()


# --- spikes and energy -------------------------------------------------------------------------------------


def test_spikes_of_any_dtype():
    spikes = np.array([[[1, 0, 0, 0]], [[1, 1, 0, 0]]])
    for dtype in ("float32", "bfloat16", "bool", "uint8"):
        assert jax.jit(d.firing_rate)(jnp.asarray(spikes, dtype)).tolist() == [0.25, 0.5]


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
