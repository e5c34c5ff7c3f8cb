"""Answers by class, and what is said of a network that has learned nothing."""

import json

import jax
import numpy as np
import pytest

from sealkd_jax.diagnostics import by_class, timestep_variance_verdict

TEN = np.arange(1000) % 10


def answering(answers, classes, timesteps=2):
    """Logits `[T, B, C]` of these final answers."""
    return np.eye(classes, dtype="float32")[None, answers].repeat(timesteps, 0)


def test_answers_are_counted_by_label():
    labels, answers = np.array([0, 0, 0, 1, 1, 3]), np.array([0, 0, 1, 1, 3, 3])
    logits = answering(answers, 4)
    logits[0, 0] = np.nan  # no answer
    found = by_class(logits, labels)
    assert found["confusion"] == [[1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0], [0, 0, 0, 1]]
    assert found["accuracy_by_class"] == [pytest.approx(1 / 3), 0.5, None, 1.0]  # class 2 has no example
    assert (found["chance"], found["majority"]) == (0.25, 0.5)
    assert json.loads(json.dumps(found)) == found
    assert by_class(logits.swapaxes(0, 1), labels, time_axis=1) == found
    padded = np.concatenate([logits, logits], 1), np.append(labels, [-1] * 6)
    assert by_class(*padded, where=np.arange(12) < 6) == found
    assert by_class(answering(TEN, 101), TEN)["confusion"] is None  # too many classes for a matrix in JSON


rng = np.random.default_rng(0)
RARE = (np.arange(1000) % 10 == 0).astype(int)  # two classes, 10 % and 90 %
NEARLY = np.where(np.arange(1000) < 15, TEN, 7)


@pytest.mark.parametrize(
    ("labels", "answers", "classes", "reason"),
    [
        (TEN, np.full(1000, 3), 10, "one class, 3, for 100.00 % of the examples"),
        (TEN, NEARLY, 10, "one class, 7, for 98.60 % of the examples"),
        (RARE, np.zeros(1000, int), 2, "one class, 0, for 100.00 %"),  # although 90 % are right
        (TEN, rng.integers(0, 10, 1000), 10, "not above chance (10.00 %) by more than two standard errors (0.95 each)"),
        (TEN, (TEN + 1) % 10, 10, "accuracy of 0.00 % on 1000 examples is not above chance"),
        (TEN, np.where(np.arange(1000) < 119, TEN, (TEN + 1) % 10), 10, None),  # 11.9 %: two errors are 1.897
        (TEN, np.where(np.arange(1000) < 118, TEN, (TEN + 1) % 10), 10, "11.80 %"),
        (np.array([0, 1]), np.array([0, 1]), 2, "not trained, or too few examples"),
        (RARE, RARE, 2, None),
        (TEN % 9, TEN % 9, 10, None),  # one of ten classes has no test example
        (np.zeros(30, int), np.zeros(30, int), 10, None),  # there is no other class to tell apart
        (np.zeros(30, int), np.ones(30, int), 10, "one class, 1, for 100.00 %"),
        (np.zeros(30, int), np.zeros(30, int), 1, None),
        (TEN, TEN, 1000, None),
    ],
)
def test_a_network_that_has_learned_nothing_is_named(labels, answers, classes, reason):
    logits = answering(answers, classes)
    found = by_class(logits, labels)["untrained"]
    verdict = timestep_variance_verdict(logits, labels)
    assert (found is None) == (reason is None)
    if reason is not None:
        assert reason in found and "not trained" in found
        assert verdict[:2] == (None, None) and found in verdict.explanation
    elif classes > 1:
        assert verdict.worthwhile is False and verdict.erroneous_share == 0


def test_logits_of_nan_are_no_answer_of_a_trained_network():
    found = by_class(np.full((2, 50, 10), np.nan, np.float32), TEN[:50])
    assert found["accuracy_by_class"] == [0] * 10 and "accuracy of 0.00 %" in found["untrained"]


def test_without_examples_nothing_is_said():
    found = by_class(answering(TEN, 10), TEN, where=np.zeros(1000, bool))
    assert found["untrained"] is None and found["accuracy_by_class"] == [None] * 10


def test_it_runs_where_nan_are_errors():
    with jax.debug_nans(True):
        assert by_class(answering(TEN, 10), TEN)["untrained"] is None
