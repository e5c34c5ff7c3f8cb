"""Predictions at each timestep and after it: accuracy, flips, confidence, agreement, early exit.

Axes: `T` timesteps, `B` examples, `C` classes, `K` thresholds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from sealkd_jax._checks import as_count, as_labels, as_logits, as_teacher
from sealkd_jax.losses import sta_weights

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, Integer

WORTHWHILE_ERRONEOUS_SHARE = 0.02
"""From this share of erroneous timesteps on, `timestep_variance_verdict` says that SeAl-KD has something to correct. A
rule of thumb of this project, not a result of the paper: below it, the error-aware term is ordinary distillation at
more than 98 of 100 timesteps of the examples that are right in the end."""


class InTime(NamedTuple):
    """The same quantity for each timestep alone and for the accumulated logits."""

    alone: Float[Array, "..."]
    accumulated: Float[Array, "..."]


def accumulate(logits: Float[ArrayLike, "T B C"]) -> Float[Array, "T B C"]:
    """Mean of the logits over the first 1, 2, …, T timesteps.

    >>> import jax.numpy as jnp
    >>> print(accumulate(jnp.array([[[4.0, 0.0]], [[0.0, 2.0]]]))[:, 0])
    [[4. 0.]
     [2. 1.]]
    """
    logits = as_logits("logits", logits)
    count = jnp.arange(1, len(logits) + 1, dtype=logits.dtype)[:, None, None]
    return jnp.cumsum(logits, 0) / count


def accuracy_of_timestep(logits: Float[ArrayLike, "T B C"], labels: Integer[ArrayLike, "B"]) -> Float[Array, "T"]:
    """Accuracy of each timestep alone. Logits with a NaN are wrong."""
    logits = as_logits("logits", logits)
    right = logits.argmax(-1) == _as_row(labels, logits)  # argmax takes a NaN for the largest
    return (right & ~jnp.isnan(logits).any(-1)).mean(1)


def accuracy_by_timestep(logits: Float[ArrayLike, "T B C"], labels: Integer[ArrayLike, "B"]) -> Float[Array, "T"]:
    """Accuracy after the first 1, 2, …, T timesteps; the last is the accuracy of the network.

    >>> logits = jnp.array([[[4.0, 0.0]], [[0.0, 2.0]]])
    >>> print(accuracy_of_timestep(logits, jnp.array([0])), accuracy_by_timestep(logits, jnp.array([0])))
    [1. 0.] [1. 1.]
    """
    return accuracy_of_timestep(accumulate(logits), labels)


class ErroneousShare(NamedTuple):
    """Shares of timesteps that contradict the final answer; NaN where there is no such example."""

    wrong_where_right: Float[Array, ""]
    """Share of wrong timesteps among the examples whose final answer is right: those that SeAl-KD corrects."""
    right_where_wrong: Float[Array, ""]
    """Share of right timesteps among the examples whose final answer is wrong: those that the mean has lost."""


def erroneous_share(logits: Float[ArrayLike, "T B C"], labels: Integer[ArrayLike, "B"]) -> ErroneousShare:
    """How often timesteps alone are wrong although the final answer is right, and the reverse.

    >>> logits = jnp.array([[[4.0, 0.0], [1.0, 0.0]], [[0.0, 2.0], [0.0, 3.0]]])  # each right once in two timesteps
    >>> share = erroneous_share(logits, jnp.array([0, 0]))  # in the end the first is right, the second wrong
    >>> print(share.wrong_where_right, share.right_where_wrong)
    0.5 0.5
    """
    logits = as_logits("logits", logits)
    labels = _as_row(labels, logits)
    right = logits.argmax(-1) == labels
    final = logits.mean(0, keepdims=True).argmax(-1) == labels
    return ErroneousShare(jnp.mean(~right, where=final), jnp.mean(right, where=~final))


def prediction_flips(logits: Float[ArrayLike, "T B C"]) -> InTime:
    """How many times the prediction changes from a timestep to the next, mean over examples: 0 to T − 1.

    >>> flips = prediction_flips(jnp.array([[[4.0, 0.0]], [[0.0, 2.0]], [[1.0, 0.0]]]))
    >>> print(flips.alone, flips.accumulated)
    2.0 0.0
    """

    def flips(logits: jax.Array) -> jax.Array:
        predictions = logits.argmax(-1)
        return (predictions[1:] != predictions[:-1]).sum(0).astype(logits.dtype).mean()

    return InTime(flips(as_logits("logits", logits)), flips(accumulate(logits)))


def confidence(logits: Float[ArrayLike, "T B C"]) -> Float[Array, "T"]:
    """Highest softmax probability of each timestep alone, mean over examples.

    With `accumulate(logits)`: the confidence after the first 1, 2, …, T timesteps.
    """
    return jax.nn.softmax(as_logits("logits", logits)).max(-1).mean(1)


def expected_calibration_error(
    logits: Float[ArrayLike, "T B C"] | Float[ArrayLike, "B C"], labels: Integer[ArrayLike, "B"], *, bins: int = 15
) -> Float[Array, ""]:
    r"""Mean distance between confidence and accuracy.

    Examples are sorted by confidence (highest softmax probability) into `bins` equal intervals $((m - 1)/M, m/M]$;
    the error, in [0, 1], is

    $$\sum_m \frac{|B_m|}{B}\, \big|\mathrm{accuracy}(B_m) - \mathrm{confidence}(B_m)\big|$$

    Args:
      logits: `[T, B, C]`, whose final answer is judged, or `[B, C]`.
      labels: `[B]`.
      bins: M, at least 1.

    Reference: Guo et al., On calibration of modern neural networks, ICML 2017 (arXiv 1706.04599).

    >>> print(expected_calibration_error(jnp.array([[9.0, -9.0], [9.0, -9.0]]), jnp.array([0, 1])))
    0.5
    """
    bins = as_count("bins", bins)
    logits = logits if jnp.ndim(logits) == 3 else jnp.asarray(logits)[None]
    logits = as_logits("logits", logits, shape="[T, B, C] or [B, C]")
    final = logits.mean(0, keepdims=True)
    sure = jax.nn.softmax(final).max(-1)
    gap = (final.argmax(-1) == _as_row(labels, logits)).astype(sure.dtype) - sure
    bin_of = jnp.clip(jnp.ceil(sure * bins).astype(int) - 1, 0, bins - 1)
    return jnp.abs(jax.ops.segment_sum(gap[0], bin_of[0], bins)).sum() / gap.size


def mean_sta_weights(logits: Float[ArrayLike, "T B C"], **knobs: float) -> Float[Array, "T T"]:
    """Weights of SeAl-KD's temporal alignment: `sealkd_jax.losses.sta_weights`, mean over examples.

    Computed for a thousand examples at a time, to bound the memory.

    Args:
      logits: `[T, B, C]`.
      **knobs: `score_temperature` and `confidence_threshold` of `sta_weights`.

    Returns:
      `[T, T]`: listener, source. Each row sums to 1 (to 0 for T = 1).
    """
    logits = as_logits("logits", logits)
    weigh = jax.jit(lambda chunk: sta_weights(chunk, **knobs).sum(-1))
    starts = range(0, logits.shape[1], 1000)
    return sum(weigh(logits[:, start : start + 1000]) for start in starts) / logits.shape[1]


def teacher_agreement(
    logits: Float[ArrayLike, "T B C"], teacher_logits: Float[ArrayLike, "B C"] | Float[ArrayLike, "T B C"]
) -> InTime:
    """Share of examples for which student and teacher predict the same class, `[T]` each.

    Args:
      logits: the student's, `[T, B, C]`.
      teacher_logits: `[B, C]`, or `[T, B, C]`: timesteps are then compared with the same timestep of the teacher, and
        accumulated logits with accumulated ones.
    """
    logits = as_logits("logits", logits)
    teacher = jnp.broadcast_to(as_teacher(teacher_logits, logits), logits.shape)

    def agreement(student: jax.Array, teacher: jax.Array) -> jax.Array:
        return (student.argmax(-1) == teacher.argmax(-1)).mean(1)

    return InTime(agreement(logits, teacher), agreement(accumulate(logits), accumulate(teacher)))


def summarise(
    logits: Float[ArrayLike, "T B C"],
    labels: Integer[ArrayLike, "B"],
    teacher_logits: Float[ArrayLike, "B C"] | Float[ArrayLike, "T B C"] | None = None,
    **knobs: float,
) -> dict[str, Any]:
    """All of the above at once, on the host, as numbers and lists for JSON; None replaces NaN.

    `knobs` are those of `mean_sta_weights`.

    >>> sorted(summarise(jnp.array([[[4.0, 0.0]], [[0.0, 2.0]]]), jnp.array([0])))  # doctest: +NORMALIZE_WHITESPACE
    ['accuracy_by_timestep', 'accuracy_of_timestep', 'confidence_by_timestep', 'confidence_of_timestep',
     'expected_calibration_error', 'flips_accumulated', 'flips_alone', 'right_where_wrong', 'sta_weights',
     'wrong_where_right']
    """
    measured = _measure(logits, labels, teacher_logits) | {"sta_weights": mean_sta_weights(logits, **knobs)}
    plain = {name: np.asarray(value).tolist() for name, value in measured.items()}
    return {name: None if value != value else value for name, value in plain.items()}


@jax.jit
def _measure(logits: ArrayLike, labels: ArrayLike, teacher_logits: ArrayLike | None) -> dict[str, jax.Array]:
    flips = prediction_flips(logits)
    measured = {
        "accuracy_by_timestep": accuracy_by_timestep(logits, labels),
        "accuracy_of_timestep": accuracy_of_timestep(logits, labels),
        "confidence_by_timestep": confidence(accumulate(logits)),
        "confidence_of_timestep": confidence(logits),
        "expected_calibration_error": expected_calibration_error(logits, labels),
        "flips_accumulated": flips.accumulated,
        "flips_alone": flips.alone,
    }
    measured |= erroneous_share(logits, labels)._asdict()
    if teacher_logits is not None:
        agreement = teacher_agreement(logits, teacher_logits)
        measured["teacher_agreement_by_timestep"] = agreement.accumulated
        measured["teacher_agreement_of_timestep"] = agreement.alone
    return measured


class Verdict(NamedTuple):
    """Whether SeAl-KD has something to correct, the share that decides it (None: not measurable), and the reason."""

    worthwhile: bool
    erroneous_share: float | None
    explanation: str


def timestep_variance_verdict(logits: Float[ArrayLike, "T B C"], labels: Integer[ArrayLike, "B"]) -> Verdict:
    """Whether the timesteps of this network vary enough for SeAl-KD to pay; on the host.

    SeAl-KD corrects timesteps that are wrong. The share of erroneous timesteps among the examples whose final answer is
    right decides: whether it reaches `WORTHWHILE_ERRONEOUS_SHARE`. Measure it on examples that the network was not
    trained on.

    >>> logits = jnp.array([[[4.0, 0.0]], [[0.0, 2.0]]])
    >>> print(timestep_variance_verdict(logits, jnp.array([0])).explanation)  # doctest: +NORMALIZE_WHITESPACE
    50.00 % of the timesteps of correctly classified examples are wrong by themselves (rule of thumb: 2 % or more). The
    timesteps disagree, and SeAl-KD has something to correct.
    """
    share = float(jax.jit(erroneous_share)(logits, labels).wrong_where_right)
    if len(jnp.asarray(logits)) == 1:
        return Verdict(False, None, "There is only one timestep: no variance in time for SeAl-KD to use.")
    if share != share:
        return Verdict(False, None, "No example is classified correctly: train the network first.")
    worthwhile = round(share, 4) >= WORTHWHILE_ERRONEOUS_SHARE  # the share as it is written below
    conclusion = (
        "disagree, and SeAl-KD has something to correct."
        if worthwhile
        else "agree: expect SeAl-KD to do little that ordinary distillation does not."
    )
    return Verdict(
        worthwhile,
        share,
        f"{100 * share:.2f} % of the timesteps of correctly classified examples are wrong by themselves "
        f"(rule of thumb: {100 * WORTHWHILE_ERRONEOUS_SHARE:g} % or more). The timesteps {conclusion}",
    )


# --- early exit -----------------------------------------------------------------------------------------------------


class EarlyExit(NamedTuple):
    """The prediction for each example, `[B]` or `[K, B]`, and the number of timesteps it took, 1 to T."""

    predictions: Int[Array, "*K B"]
    timesteps: Int[Array, "*K B"]


def early_exit(logits: Float[ArrayLike, "T B C"], threshold: Float[ArrayLike, "*K"]) -> EarlyExit:
    """The prediction at the first timestep that is confident enough, or else after T timesteps.

    Confidence is the highest softmax probability of the accumulated logits. With a threshold of 0 all examples stop
    after one timestep; with one above 1 none stops before T.

    Args:
      logits: `[T, B, C]`, of all timesteps; those after an example has stopped are ignored.
      threshold: a confidence, or `[K]` of them.

    >>> logits = jnp.array([[[9.0, 0.0], [0.5, 0.0]], [[0.0, 0.0], [0.0, 3.0]]])  # the second is unsure at first
    >>> found = early_exit(logits, 0.75)
    >>> print(found.predictions, found.timesteps)
    [0 1] [1 2]

    Reference: Li et al., SEENN: Towards temporal spiking early-exit neural networks, NeurIPS 2023 (arXiv 2304.01230),
    its confidence score.
    """
    so_far = accumulate(logits)
    threshold = jnp.asarray(threshold, so_far.dtype)
    if threshold.ndim > 1:
        raise ValueError(f"threshold: expected a number or shape [K], got {threshold.shape}")
    sure = jax.nn.softmax(so_far).max(-1)[None] >= threshold.reshape(-1, 1, 1)  # [K, T, B]
    stop = sure.at[:, -1].set(True).argmax(1)
    predictions = jnp.take_along_axis(so_far.argmax(-1), stop, 0)
    shape = *threshold.shape, so_far.shape[1]
    return EarlyExit(predictions.reshape(shape), (stop + 1).reshape(shape))


class ExitCurve(NamedTuple):
    """Accuracy and mean number of timesteps at each threshold."""

    accuracy: Float[Array, "K"]
    timesteps: Float[Array, "K"]


def early_exit_curve(
    logits: Float[ArrayLike, "T B C"], labels: Integer[ArrayLike, "B"], thresholds: Float[ArrayLike, "K"]
) -> ExitCurve:
    """Accuracy and timesteps of `early_exit` at each threshold.

    >>> logits = jnp.array([[[9.0, 0.0], [0.5, 0.0]], [[0.0, 0.0], [0.0, 3.0]]])
    >>> curve = early_exit_curve(logits, jnp.array([0, 1]), jnp.array([0.0, 0.75]))
    >>> print(curve.accuracy, curve.timesteps)
    [0.5 1. ] [1.  1.5]
    """
    found = early_exit(logits, thresholds)
    right = found.predictions == _as_row(labels, jnp.asarray(logits))
    return ExitCurve(right.mean(-1), found.timesteps.mean(-1))


def _as_row(labels: ArrayLike, logits: jax.Array) -> jax.Array:
    """Labels as `[1, B]`, to compare with predictions `[T, B]`."""
    return as_labels(labels, logits.shape[1]).astype(int)[None]
