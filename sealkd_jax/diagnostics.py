"""What the timesteps of a spiking network do: its predictions in time, its spikes, its energy.

Pure functions of arrays, for anybody's network; under `jax.jit` too, where the docstring does not say "on the host".

Axes: `T` timesteps, first; `B` examples, `C` classes; `...` the neurons of a layer. Logits are `[T, B, C]`, labels
`[B]`, spikes `[T, B, ...]`. A timestep *alone* predicts from its own logits; *accumulated*, from the mean of the
logits so far. The final answer is the accumulated one after T. Shares and accuracies lie in [0, 1].
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from sealkd_jax.losses import sta_weights

PICOJOULE_PER_MAC = 4.6
PICOJOULE_PER_AC = 0.9
"""Energy of a multiply-accumulate and of an accumulate: 32-bit floating point in 45 nm CMOS, 3.7 pJ the product and
0.9 pJ the sum (Horowitz, Computing's energy problem, ISSCC 2014)."""

WORTHWHILE_ERRONEOUS_SHARE = 0.02
"""From this share of erroneous timesteps on, `timestep_variance_verdict` says that SeAl-KD has something to correct.
A rule of thumb of this project, not a result of the paper: below it, the error-aware term is ordinary distillation
at more than 98 of 100 timesteps of the examples that are right in the end."""


# --- logits ---------------------------------------------------------------------------------------------------------


class InTime(NamedTuple):
    """The same quantity for each timestep alone and for the accumulated logits."""

    alone: jax.Array
    accumulated: jax.Array


def accumulate(logits: ArrayLike) -> jax.Array:
    """Mean of the logits over the first 1, 2, …, T timesteps, `[T, B, C]`.

    >>> import jax.numpy as jnp
    >>> print(accumulate(jnp.array([[[4.0, 0.0]], [[0.0, 2.0]]]))[:, 0])
    [[4. 0.]
     [2. 1.]]
    """
    logits = _logits(logits)
    count = jnp.arange(1, len(logits) + 1, dtype=logits.dtype)[:, None, None]
    return jnp.cumsum(logits, 0) / count


def accuracy_of_timestep(logits: ArrayLike, labels: ArrayLike) -> jax.Array:
    """Accuracy of each timestep alone, `[T]`."""
    logits = _logits(logits)
    return (logits.argmax(-1) == _labels(labels, logits)).mean(1)


def accuracy_by_timestep(logits: ArrayLike, labels: ArrayLike) -> jax.Array:
    """Accuracy after the first 1, 2, …, T timesteps, `[T]`; the last is that of the network.

    >>> logits = jnp.array([[[4.0, 0.0]], [[0.0, 2.0]]])
    >>> print(accuracy_of_timestep(logits, jnp.array([0])), accuracy_by_timestep(logits, jnp.array([0])))
    [1. 0.] [1. 1.]
    """
    return accuracy_of_timestep(accumulate(logits), labels)


class ErroneousShare(NamedTuple):
    """Timesteps that contradict the final answer; NaN where there is no such example."""

    wrong_where_right: jax.Array
    """Share of wrong timesteps among the examples whose final answer is right: what SeAl-KD corrects."""
    right_where_wrong: jax.Array
    """Share of right timesteps among the examples whose final answer is wrong: what the mean has lost."""


def erroneous_share(logits: ArrayLike, labels: ArrayLike) -> ErroneousShare:
    """How often timesteps alone are wrong although the final answer is right, and the reverse.

    >>> logits = jnp.array([[[4.0, 0.0], [1.0, 0.0]], [[0.0, 2.0], [0.0, 3.0]]])  # each right once in two timesteps
    >>> share = erroneous_share(logits, jnp.array([0, 0]))  # in the end the first is right, the second wrong
    >>> print(share.wrong_where_right, share.right_where_wrong)
    0.5 0.5
    """
    logits = _logits(logits)
    labels = _labels(labels, logits)
    right = logits.argmax(-1) == labels
    final = logits.mean(0, keepdims=True).argmax(-1) == labels
    return ErroneousShare(jnp.mean(~right, where=final), jnp.mean(right, where=~final))


def prediction_flips(logits: ArrayLike) -> InTime:
    """How many times an example's prediction changes from a timestep to the next, mean over examples: 0 to T − 1.

    >>> flips = prediction_flips(jnp.array([[[4.0, 0.0]], [[0.0, 2.0]], [[1.0, 0.0]]]))
    >>> print(flips.alone, flips.accumulated)
    2.0 0.0
    """

    def flips(logits: jax.Array) -> jax.Array:
        predictions = logits.argmax(-1)
        return (predictions[1:] != predictions[:-1]).sum(0).astype(logits.dtype).mean()

    return InTime(flips(_logits(logits)), flips(accumulate(logits)))


def confidence(logits: ArrayLike) -> jax.Array:
    """Highest softmax probability of each timestep alone, mean over examples, `[T]`.

    With `accumulate(logits)`: that of the mean over the first 1, 2, …, T.
    """
    return jax.nn.softmax(_logits(logits)).max(-1).mean(1)


def expected_calibration_error(logits: ArrayLike, labels: ArrayLike, *, bins: int = 15) -> jax.Array:
    r"""How far confidence is from accuracy, on average.

    Examples are sorted by confidence (highest softmax probability) into `bins` equal intervals $((m - 1)/M, m/M]$;
    the error, in [0, 1], is

    $$\sum_m \frac{|B_m|}{B}\, \big|\mathrm{accuracy}(B_m) - \mathrm{confidence}(B_m)\big|$$

    Args:
      logits: `[T, B, C]`, of which the final answer is judged, or `[B, C]`.
      labels: `[B]`.
      bins: M, at least 1.

    Reference: Guo et al., On calibration of modern neural networks, ICML 2017 (arXiv 1706.04599).

    >>> print(expected_calibration_error(jnp.array([[9.0, -9.0], [9.0, -9.0]]), jnp.array([0, 1])))
    0.5
    """
    if bins < 1:
        raise ValueError(f"bins: expected at least 1, got {bins}")
    logits = _logits(logits if jnp.ndim(logits) == 3 else jnp.asarray(logits)[None], "[T, B, C] or [B, C]")
    final = logits.mean(0, keepdims=True)
    sure = jax.nn.softmax(final).max(-1)
    gap = (final.argmax(-1) == _labels(labels, logits)).astype(sure.dtype) - sure
    bin_of = jnp.clip(jnp.ceil(sure * bins).astype(int) - 1, 0, bins - 1)
    return jnp.abs(jax.ops.segment_sum(gap[0], bin_of[0], bins)).sum() / gap.size


def mean_sta_weights(logits: ArrayLike, **knobs: float) -> jax.Array:
    """Who listens to whom in SeAl-KD's temporal alignment: `sealkd_jax.losses.sta_weights`, mean over examples.

    A thousand examples at a time, to bound the memory.

    Args:
      logits: `[T, B, C]`.
      **knobs: `score_temperature`, `confidence_threshold`, as there.

    Returns:
      `[T, T]`: listener, source. Each row sums to 1 (T = 1: 0).
    """
    logits = _logits(logits)
    weigh = jax.jit(lambda part: sta_weights(part, **knobs).sum(-1))
    starts = range(0, logits.shape[1], 1000)
    return sum(weigh(logits[:, start : start + 1000]) for start in starts) / logits.shape[1]


def teacher_agreement(logits: ArrayLike, teacher_logits: ArrayLike) -> InTime:
    """Share of examples for which student and teacher predict the same class, `[T]` each.

    Args:
      logits: the student's, `[T, B, C]`.
      teacher_logits: `[B, C]`, or `[T, B, C]`: then timesteps are compared with the same timestep of the teacher, and
        accumulated with accumulated.
    """
    logits, teacher = _logits(logits), jnp.asarray(teacher_logits)
    if teacher.shape not in (logits.shape, logits.shape[1:]):
        raise ValueError(f"teacher_logits: expected {logits.shape[1:]} or {logits.shape}, got {teacher.shape}")
    teacher = jnp.broadcast_to(teacher, logits.shape)

    def agreement(student: jax.Array, teacher: jax.Array) -> jax.Array:
        return (student.argmax(-1) == teacher.argmax(-1)).mean(1)

    return InTime(agreement(logits, teacher), agreement(accumulate(logits), accumulate(teacher)))


def summarise(
    logits: ArrayLike, labels: ArrayLike, teacher_logits: ArrayLike | None = None, **knobs: float
) -> dict[str, Any]:
    """All of the above at once, on the host, as numbers and lists that JSON can hold; no such example: None.

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
    """Whether SeAl-KD has something to correct, the share that decides it (None: nothing to measure), and why."""

    worthwhile: bool
    erroneous_share: float | None
    explanation: str


def timestep_variance_verdict(logits: ArrayLike, labels: ArrayLike) -> Verdict:
    """Whether this network has the variance between timesteps on which SeAl-KD pays; on the host.

    SeAl-KD corrects timesteps that are wrong. What decides is therefore the share of erroneous timesteps among the
    examples whose final answer is right, measured on examples the network was not trained on, and whether it reaches
    `WORTHWHILE_ERRONEOUS_SHARE`, a rule of thumb of this project.

    >>> logits = jnp.array([[[4.0, 0.0]], [[0.0, 2.0]]])
    >>> print(timestep_variance_verdict(logits, jnp.array([0])).explanation)  # doctest: +NORMALIZE_WHITESPACE
    50.00 % of the timesteps of rightly classified examples are wrong by themselves (rule of thumb: 2 % or more). The
    timesteps disagree, and SeAl-KD has something to correct.
    """
    timesteps = len(_logits(logits))
    share = float(erroneous_share(logits, labels).wrong_where_right)
    if timesteps == 1:
        return Verdict(False, None, "There is one timestep only: no variance in time for SeAl-KD to use.")
    if share != share:
        return Verdict(False, None, "No example is classified rightly: nothing can be said before some training.")
    worthwhile = round(share, 4) >= WORTHWHILE_ERRONEOUS_SHARE  # the share as it is written below
    conclusion = (
        "disagree, and SeAl-KD has something to correct."
        if worthwhile
        else "agree: expect SeAl-KD to do little that ordinary distillation does not."
    )
    return Verdict(
        worthwhile,
        share,
        f"{100 * share:.2f} % of the timesteps of rightly classified examples are wrong by themselves "
        f"(rule of thumb: {100 * WORTHWHILE_ERRONEOUS_SHARE:g} % or more). The timesteps {conclusion}",
    )


# --- spikes ---------------------------------------------------------------------------------------------------------


def firing_rate(spikes: ArrayLike) -> jax.Array:
    """Share of a layer's neurons `[T, B, ...]` that fire at each timestep, mean over examples, `[T]`.

    >>> print(firing_rate(jnp.array([[[1, 0, 0, 0]], [[1, 1, 0, 0]]])))
    [0.25 0.5 ]
    """
    fired = _fired(spikes)
    return fired.mean(range(1, fired.ndim))


def dead_share(spikes: ArrayLike) -> jax.Array:
    """Share of a layer's neurons `[T, B, ...]` that never fire, at no timestep of any example: give many examples.

    >>> print(dead_share(jnp.array([[[1, 0, 0, 0]], [[1, 1, 0, 0]]])))
    0.5
    """
    return 1 - _fired(spikes).any((0, 1)).mean()


def saturated_share(spikes: ArrayLike) -> jax.Array:
    """Share of a layer's neurons `[T, B, ...]` that fire at every timestep of every example.

    >>> print(saturated_share(jnp.array([[[1, 0, 0, 0]], [[1, 1, 0, 0]]])))
    0.25
    """
    return _fired(spikes).all((0, 1)).mean()


# --- energy ---------------------------------------------------------------------------------------------------------


def synaptic_operations(rate: ArrayLike, macs: float) -> jax.Array:
    """Accumulates per example in a layer whose input are spikes: firing rate × T × MACs.

    Args:
      rate: `[T]`, firing rate of the neurons that feed the layer, see `firing_rate`.
      macs: multiply-accumulates of the layer for one example and one timestep.
    """
    return jnp.asarray(rate).sum() * macs


def energy(
    macs: Mapping[str, float], rates: Mapping[str, ArrayLike], *, real_runs: int | Mapping[str, int] = 1
) -> dict[str, Any]:
    """Estimated energy of classifying one example, in picojoules; on the host.

    As the field counts it: a layer fed by spikes costs `PICOJOULE_PER_AC` per synaptic operation, one fed by real
    numbers `PICOJOULE_PER_MAC` per MAC; the ANN of the same layers costs all MACs once. That is arithmetic alone, on
    hardware that skips every zero: no memory access, no neurons, no leakage, so compare it only with numbers that are
    counted in the same way.

    Args:
      macs: layer -> multiply-accumulates for one example and one timestep, input first.
      rates: layer -> `[T]`, firing rate of the neurons that feed it. Layers that are not in it are fed by real numbers.
      real_runs: how often those run, all of them or each: once before the first neuron of a static image, T times for
        frames that differ and after a neuron.

    Returns:
      `{"snn_picojoule": float, "ann_picojoule": float, "layers": {layer: float}}`, the layers being the SNN's.

    >>> cost = energy({"stem": 100.0, "body": 1000.0}, {"body": jnp.array([0.1, 0.3])})
    >>> {name: round(picojoule) for name, picojoule in cost["layers"].items()}, round(cost["ann_picojoule"])
    ({'stem': 460, 'body': 360}, 5060)

    Reference: the constants are Horowitz's (see above); the counting is the custom of directly trained SNNs, e.g.
    Zhou et al., Spikformer, ICLR 2023 (arXiv 2209.15425).
    """
    if unknown := rates.keys() - macs.keys():
        raise ValueError(f"rates: expected the layers of macs, {sorted(macs)}, got also {sorted(unknown)}")
    runs = real_runs if isinstance(real_runs, Mapping) else dict.fromkeys(macs, real_runs)
    layers = {
        name: float(synaptic_operations(rates[name], count)) * PICOJOULE_PER_AC
        if name in rates
        else runs[name] * count * PICOJOULE_PER_MAC
        for name, count in macs.items()
    }
    return {
        "snn_picojoule": sum(layers.values()),
        "ann_picojoule": sum(macs.values()) * PICOJOULE_PER_MAC,
        "layers": layers,
    }


# --- checks ---------------------------------------------------------------------------------------------------------


def _logits(logits: ArrayLike, expected: str = "[T, B, C]") -> jax.Array:
    logits = jnp.asarray(logits)
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise TypeError(f"logits: expected a floating dtype, got {logits.dtype}")
    if logits.ndim != 3 or 0 in logits.shape:
        raise ValueError(f"logits: expected shape {expected}, not empty, got {logits.shape}")
    return logits if jnp.finfo(logits.dtype).bits >= 32 else logits.astype(jnp.float32)


def _labels(labels: ArrayLike, logits: jax.Array) -> jax.Array:
    """`[1, B]`, to compare with predictions `[T, B]`."""
    labels = jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels: expected an integer dtype, got {labels.dtype}")
    if labels.shape != logits.shape[1:2]:
        raise ValueError(f"labels: expected shape [B] = {logits.shape[1:2]}, got {labels.shape}")
    return labels.astype(int)[None]


def _fired(spikes: ArrayLike) -> jax.Array:
    spikes = jnp.asarray(spikes)
    if spikes.ndim < 2 or 0 in spikes.shape:
        raise ValueError(f"spikes: expected shape [T, B, ...], not empty, got {spikes.shape}")
    return spikes.astype(bool)
