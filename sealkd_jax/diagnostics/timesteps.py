"""Predictions at each timestep and after it: accuracy, flips, confidence, agreement.

Axes: `T` timesteps, `B` examples, `C` classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from sealkd_jax._checks import (
    as_count,
    as_labels,
    as_logits,
    as_teacher,
    as_time_first,
    as_where,
    require_labels,
)
from sealkd_jax.diagnostics._examples import mean, predict, time_first
from sealkd_jax.diagnostics.classes import by_class
from sealkd_jax.losses import sta_weights

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Integer

WORTHWHILE_ERRONEOUS_SHARE = 0.02
"""From this share of erroneous timesteps on, `timestep_variance_verdict` says that SeAl-KD has something to correct. A
rule of thumb of this project, not a result of the paper: below it, the error-aware term is ordinary distillation at
more than 98 of 100 timesteps of the examples that are right in the end."""


class InTime(NamedTuple):
    """The same quantity for each timestep alone and for the accumulated logits."""

    alone: Float[Array, "..."]
    accumulated: Float[Array, "..."]


def accumulate(
    logits: Float[ArrayLike, "T B C"], *, where: Bool[ArrayLike, "B"] | None = None, time_axis: int = 0
) -> Float[Array, "T B C"]:
    """Mean of the logits over the first 1, 2, …, T timesteps, on the axes of the given logits.

    Examples that do not count have 0.

    >>> import jax.numpy as jnp
    >>> print(accumulate(jnp.array([[[4.0, 0.0]], [[0.0, 2.0]]]))[:, 0])
    [[4. 0.]
     [2. 1.]]
    """
    logits = time_first(logits, time_axis)
    count = jnp.arange(1, len(logits) + 1, dtype=logits.dtype)[:, None, None]
    so_far = jnp.cumsum(logits, 0) / count
    if where is not None:
        so_far = jnp.where(as_where(where, logits.shape[1])[None, :, None], so_far, 0)
    return so_far.swapaxes(0, 1) if time_axis else so_far


def correct(
    logits: Float[ArrayLike, "T B C"],
    labels: Integer[ArrayLike, "B"],
    *,
    where: Bool[ArrayLike, "B"] | None = None,
    time_axis: int = 0,
) -> Bool[Array, "T B"]:
    """Whether each timestep alone is right. Logits with a NaN or +∞, or of −∞ alone, never are, nor are
    examples that do not count.

    >>> print(correct(jnp.array([[[4.0, 0.0], [jnp.nan, 0.0]]]), jnp.array([0, 0])))
    [[ True False]]
    """
    logits = time_first(logits, time_axis)
    predictions = predict(logits)
    given, labels = labels, as_labels(labels, logits.shape[1])
    require_labels(given, logits.shape[2], where)
    right = (predictions == labels.astype(int)[None]) & (predictions >= 0)
    return right if where is None else right & as_where(where, len(labels))[None]


def accuracy_of_timestep(
    logits: Float[ArrayLike, "T B C"],
    labels: Integer[ArrayLike, "B"],
    *,
    where: Bool[ArrayLike, "B"] | None = None,
    time_axis: int = 0,
) -> Float[Array, "T"]:
    """Accuracy of each timestep alone."""
    return mean(correct(logits, labels, where=where, time_axis=time_axis), where)


def accuracy_by_timestep(
    logits: Float[ArrayLike, "T B C"],
    labels: Integer[ArrayLike, "B"],
    *,
    where: Bool[ArrayLike, "B"] | None = None,
    time_axis: int = 0,
) -> Float[Array, "T"]:
    """Accuracy after the first 1, 2, …, T timesteps; the last is the accuracy of the network.

    >>> logits = jnp.array([[[4.0, 0.0]], [[0.0, 2.0]]])
    >>> print(accuracy_of_timestep(logits, jnp.array([0])), accuracy_by_timestep(logits, jnp.array([0])))
    [1. 0.] [1. 1.]
    """
    return accuracy_of_timestep(accumulate(time_first(logits, time_axis)), labels, where=where)


class ErroneousShare(NamedTuple):
    """Shares of timesteps that contradict the final answer; NaN where there is no such example."""

    wrong_where_right: Float[Array, ""]
    """Share of wrong timesteps among the examples whose final answer is right: those that SeAl-KD corrects."""
    right_where_wrong: Float[Array, ""]
    """Share of right timesteps among the examples whose final answer is wrong: those that the mean has lost."""


def erroneous_share(
    logits: Float[ArrayLike, "T B C"],
    labels: Integer[ArrayLike, "B"],
    *,
    where: Bool[ArrayLike, "B"] | None = None,
    time_axis: int = 0,
) -> ErroneousShare:
    """How often timesteps alone are wrong although the final answer is right, and the reverse.

    >>> logits = jnp.array([[[4.0, 0.0], [1.0, 0.0]], [[0.0, 2.0], [0.0, 3.0]]])  # each right once in two timesteps
    >>> share = erroneous_share(logits, jnp.array([0, 0]))  # in the end the first is right, the second wrong
    >>> print(share.wrong_where_right, share.right_where_wrong)
    0.5 0.5
    """
    logits = time_first(logits, time_axis)
    right = correct(logits, labels, where=where)
    final = correct(logits.mean(0, keepdims=True), labels, where=where)
    wrong = ~final if where is None else ~final & jnp.asarray(where)[None]
    return ErroneousShare(jnp.mean(~right, where=final), jnp.mean(right, where=wrong))


def prediction_flips(
    logits: Float[ArrayLike, "T B C"], *, where: Bool[ArrayLike, "B"] | None = None, time_axis: int = 0
) -> InTime:
    """How many times the prediction changes from a timestep to the next, mean over examples: 0 to T − 1.

    >>> flips = prediction_flips(jnp.array([[[4.0, 0.0]], [[0.0, 2.0]], [[1.0, 0.0]]]))
    >>> print(flips.alone, flips.accumulated)
    2.0 0.0
    """

    logits = time_first(logits, time_axis)

    def flips(logits: jax.Array) -> jax.Array:
        predictions = predict(logits)
        return mean((predictions[1:] != predictions[:-1]).sum(0).astype(logits.dtype), where)

    return InTime(flips(logits), flips(accumulate(logits)))


def confidence(
    logits: Float[ArrayLike, "T B C"], *, where: Bool[ArrayLike, "B"] | None = None, time_axis: int = 0
) -> Float[Array, "T"]:
    """Highest softmax probability of each timestep alone, mean over examples.

    With `accumulate(logits)`: the confidence after the first 1, 2, …, T timesteps.
    """
    return mean(jax.nn.softmax(time_first(logits, time_axis)).max(-1), where)


def expected_calibration_error(
    logits: Float[ArrayLike, "T B C"] | Float[ArrayLike, "B C"],
    labels: Integer[ArrayLike, "B"],
    *,
    bins: int = 15,
    where: Bool[ArrayLike, "B"] | None = None,
    time_axis: int = 0,
) -> Float[Array, ""]:
    r"""Mean distance between confidence and accuracy.

    Examples are sorted by confidence (highest softmax probability) into `bins` equal intervals $((m - 1)/M, m/M]$;
    the error, in [0, 1], is

    $$\sum_m \frac{|B_m|}{B}\, \big|\mathrm{accuracy}(B_m) - \mathrm{confidence}(B_m)\big|$$

    Args:
      logits: `[T, B, C]`, whose final answer is judged, or `[B, C]`.
      labels: `[B]`.
      bins: M, at least 1.
      where: the examples that count, bool `[B]`.
      time_axis: the axis of T, 0 or 1.

    Reference: Guo et al., On calibration of modern neural networks, ICML 2017 (arXiv 1706.04599).

    >>> print(expected_calibration_error(jnp.array([[9.0, -9.0], [9.0, -9.0]]), jnp.array([0, 1])))
    0.5
    """
    bins = as_count("bins", bins)
    logits = as_time_first("logits", logits, time_axis) if np.ndim(logits) == 3 else jnp.asarray(logits)[None]
    final = as_logits("logits", logits, shape="[T, B, C] or [B, C]").mean(0, keepdims=True)
    sure = jax.nn.softmax(final).max(-1)[0]
    gap = correct(final, labels, where=where)[0].astype(sure.dtype) - sure
    examples: Any = gap.size
    if where is not None:
        counts = as_where(where, gap.size)
        gap, sure, examples = jnp.where(counts, gap, 0), jnp.where(counts, sure, 0), counts.sum(dtype=gap.dtype)
    bin_of = jnp.clip(jnp.ceil(sure * bins).astype(int) - 1, 0, bins - 1)
    return jnp.abs(jax.ops.segment_sum(gap, bin_of, bins)).sum() / examples


def mean_sta_weights(
    logits: Float[ArrayLike, "T B C"],
    *,
    where: Bool[ArrayLike, "B"] | None = None,
    time_axis: int = 0,
    **knobs: Any,
) -> Float[Array, "T T"]:
    """Weights of SeAl-KD's temporal alignment: `sealkd_jax.losses.sta_weights`, mean over examples.

    Computed for a thousand examples at a time, to bound the memory.

    Args:
      logits: `[T, B, C]`.
      where: the examples that count, bool `[B]`.
      time_axis: the axis of T, 0 or 1.
      **knobs: `score_temperature` and `confidence_threshold` of `sta_weights`.

    Returns:
      `[T, T]`: listener, source. Each row sums to 1 (to 0 for T = 1).
    """
    logits = time_first(logits, time_axis)
    counts = jnp.ones(logits.shape[1], bool) if where is None else as_where(where, logits.shape[1])
    weigh = jax.jit(lambda chunk, counts: sta_weights(chunk, where=counts, **knobs).sum(-1))
    chunks = [slice(start, start + 1000) for start in range(0, len(counts), 1000)]
    return sum(weigh(logits[:, chunk], counts[chunk]) for chunk in chunks) / counts.sum(dtype=logits.dtype)


def teacher_agreement(
    logits: Float[ArrayLike, "T B C"],
    teacher_logits: Float[ArrayLike, "B C"] | Float[ArrayLike, "T B C"],
    *,
    where: Bool[ArrayLike, "B"] | None = None,
    time_axis: int = 0,
) -> InTime:
    """Share of examples for which student and teacher predict the same class, `[T]` each.

    Args:
      logits: the student's, `[T, B, C]`.
      teacher_logits: `[B, C]`, or `[T, B, C]`: timesteps are then compared with the same timestep of the teacher, and
        accumulated logits with accumulated ones.
      where: the examples that count, bool `[B]`.
      time_axis: the axis of T, 0 or 1, in both.
    """
    logits = time_first(logits, time_axis)
    if teacher_logits is not None:
        teacher_logits = as_time_first("teacher_logits", teacher_logits, time_axis)
    teacher = jnp.broadcast_to(as_teacher(teacher_logits, logits), logits.shape)

    def agreement(student: jax.Array, teacher: jax.Array) -> jax.Array:
        predictions = predict(student)
        return mean((predictions == predict(teacher)) & (predictions >= 0), where)

    return InTime(agreement(logits, teacher), agreement(accumulate(logits), accumulate(teacher)))


def summarise(
    logits: Float[ArrayLike, "T B C"],
    labels: Integer[ArrayLike, "B"],
    teacher_logits: Float[ArrayLike, "B C"] | Float[ArrayLike, "T B C"] | None = None,
    *,
    where: Bool[ArrayLike, "B"] | None = None,
    time_axis: int = 0,
    **knobs: Any,
) -> dict[str, Any]:
    """All of the above and `by_class` at once, on the host, as numbers and lists for JSON; None replaces NaN.

    `knobs` are those of `mean_sta_weights`.

    >>> sorted(summarise(jnp.array([[[4.0, 0.0]], [[0.0, 2.0]]]), jnp.array([0])))  # doctest: +NORMALIZE_WHITESPACE
    ['accuracy_by_class', 'accuracy_by_timestep', 'accuracy_of_timestep', 'chance', 'confidence_by_timestep',
     'confidence_of_timestep', 'confusion', 'expected_calibration_error', 'flips_accumulated', 'flips_alone',
     'majority', 'right_where_wrong', 'sta_weights', 'untrained', 'wrong_where_right']
    """
    logits = time_first(logits, time_axis)
    if teacher_logits is not None:
        teacher_logits = as_time_first("teacher_logits", teacher_logits, time_axis)
    require_labels(as_labels(labels, logits.shape[1]), logits.shape[2], where)
    with jax.debug_nans(False):  # a share of no example is NaN on purpose
        measured = _measure(logits, labels, teacher_logits, where)
        measured["sta_weights"] = mean_sta_weights(logits, where=where, **knobs)
        plain = {name: np.asarray(value).tolist() for name, value in measured.items()}
    plain = {name: None if value != value else value for name, value in plain.items()}
    return plain | by_class(logits, labels, where=where)


@jax.jit
def _measure(
    logits: ArrayLike, labels: ArrayLike, teacher_logits: ArrayLike | None, where: ArrayLike | None
) -> dict[str, jax.Array]:
    flips = prediction_flips(logits, where=where)
    measured = {
        "accuracy_by_timestep": accuracy_by_timestep(logits, labels, where=where),
        "accuracy_of_timestep": accuracy_of_timestep(logits, labels, where=where),
        "confidence_by_timestep": confidence(accumulate(logits), where=where),
        "confidence_of_timestep": confidence(logits, where=where),
        "expected_calibration_error": expected_calibration_error(logits, labels, where=where),
        "flips_accumulated": flips.accumulated,
        "flips_alone": flips.alone,
    }
    measured |= erroneous_share(logits, labels, where=where)._asdict()
    if teacher_logits is not None:
        agreement = teacher_agreement(logits, teacher_logits, where=where)
        measured["teacher_agreement_by_timestep"] = agreement.accumulated
        measured["teacher_agreement_of_timestep"] = agreement.alone
    return measured


class Verdict(NamedTuple):
    """Whether SeAl-KD has something to correct, the share that decides it, and the reason; None: not measurable."""

    worthwhile: bool | None
    erroneous_share: float | None
    explanation: str


def timestep_variance_verdict(
    logits: Float[ArrayLike, "T B C"],
    labels: Integer[ArrayLike, "B"],
    *,
    where: Bool[ArrayLike, "B"] | None = None,
    time_axis: int = 0,
) -> Verdict:
    """Whether the timesteps of this network vary enough for SeAl-KD to pay; on the host.

    SeAl-KD corrects timesteps that are wrong. The share of erroneous timesteps among the examples whose final answer is
    right decides: whether it reaches `WORTHWHILE_ERRONEOUS_SHARE`. Measure it on examples that the network was not
    trained on. There is no verdict on a network that has learned nothing, see `by_class`.

    >>> logits = jnp.tile(jnp.array([[[4.0, 0.0]], [[0.0, 2.0]]]), (1, 10, 1))
    >>> verdict = timestep_variance_verdict(logits, jnp.zeros(10, int))
    >>> print(verdict.explanation)  # doctest: +NORMALIZE_WHITESPACE
    This network has the timestep variance on which SeAl-KD pays: 50.00 % of the timesteps of correctly classified
    examples are wrong by themselves (rule of thumb: 2 % or more).
    """
    logits = time_first(logits, time_axis)
    require_labels(as_labels(labels, logits.shape[1]), logits.shape[2], where)
    with jax.debug_nans(False):  # a share of no example is NaN on purpose
        share = float(jax.jit(erroneous_share)(logits, labels, where=where).wrong_where_right)
    if len(logits) == 1:
        return Verdict(False, None, "There is only one timestep: no variance in time for SeAl-KD to use.")
    if untrained := by_class(logits, labels, where=where)["untrained"]:
        return Verdict(None, None, f"No verdict on its timesteps. {untrained}")
    if share != share:
        return Verdict(None, None, "No verdict on its timesteps: no example is classified correctly.")
    worthwhile = round(share, 4) >= WORTHWHILE_ERRONEOUS_SHARE  # the share as it is written below
    return Verdict(
        worthwhile,
        share,
        f"This network {'has' if worthwhile else 'does not have'} the timestep variance on which SeAl-KD pays: "
        f"{100 * share:.2f} % of the timesteps of correctly classified examples are wrong by themselves "
        f"(rule of thumb: {100 * WORTHWHILE_ERRONEOUS_SHARE:g} % or more).",
    )
