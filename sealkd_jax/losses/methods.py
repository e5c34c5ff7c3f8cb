"""Every loss that training and comparison can run, under its name and with one signature.

Axes: T timesteps, B batch, C classes. In the equations means are over T and B.

`METHODS[name](student_logits, teacher_logits, labels, *, progress=1.0, axis_name=None, **hyperparameters)` returns
a scalar to minimise and, for plots, a dict of its parts: the unweighted mean of each term, and "wrong", the share
of timesteps whose prediction is wrong. `progress` is the share of training done, in [0, 1]. With `axis_name` the
batch is split over that axis, and what comes back is the mean over the local part, for the caller to average; a
loss that needs the whole batch gathers it. `teacher_logits` may be None where `needs_teacher` says no.

Example:
  >>> import jax
  >>> from sealkd_jax.losses import METHODS
  >>> student, teacher, labels = jax.numpy.zeros((4, 2, 10)), jax.numpy.zeros((2, 10)), jax.numpy.array([0, 1])
  >>> loss, terms = METHODS["seal"](student, teacher, labels, beta=0.5)
  >>> print(f"{loss:.3f} {terms['wrong']:.1f} {sorted(terms)}")
  2.303 0.5 ['ce', 'ela', 'sta', 'wrong']
"""

import inspect
from collections.abc import Hashable
from typing import Any, Literal

from jax.typing import ArrayLike

from sealkd_jax.losses import baselines
from sealkd_jax.losses._checks import as_choice
from sealkd_jax.losses.card import card_seal_kd_loss
from sealkd_jax.losses.kd import mean_kd_loss, self_distillation_loss, uniform_kd_loss
from sealkd_jax.losses.outcome import Method, Outcome, outcome
from sealkd_jax.losses.paper import Task, ce_loss, ela_loss, mean_ce_loss, sta_loss, task_loss


def none(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike | None,
    labels: ArrayLike,
    *,
    progress: ArrayLike = 1.0,
    axis_name: Hashable | None = None,
) -> Outcome:
    """No distillation, the cross-entropy of every timestep: mean CE(s[i], y)."""
    ce = (1.0, ce_loss(student_logits, labels))
    return outcome(student_logits, labels, ce=ce)


def mean_ce(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike | None,
    labels: ArrayLike,
    *,
    progress: ArrayLike = 1.0,
    axis_name: Hashable | None = None,
) -> Outcome:
    """No distillation, the cross-entropy of the final output: mean CE(mean_i s[i], y)."""
    ce = (1.0, mean_ce_loss(student_logits, labels))
    return outcome(student_logits, labels, ce=ce)


def uniform_kd(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    labels: ArrayLike,
    *,
    progress: ArrayLike = 1.0,
    axis_name: Hashable | None = None,
    alpha: float = 0.6,
    temperature: float = 3.0,
) -> Outcome:
    """Every timestep distilled alike: mean CE(s[i], y) + α mean KD_τ(s[i], t)."""
    ce = (1.0, ce_loss(student_logits, labels))
    kd = (alpha, uniform_kd_loss(student_logits, teacher_logits, temperature=temperature))
    return outcome(student_logits, labels, ce=ce, kd=kd)


def mean_kd(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    labels: ArrayLike,
    *,
    progress: ArrayLike = 1.0,
    axis_name: Hashable | None = None,
    alpha: float = 1.0,
    temperature: float = 4.0,
) -> Outcome:
    """The final output distilled: mean CE(mean_i s[i], y) + α mean KD_τ(mean_i s[i], t)."""
    ce = (1.0, mean_ce_loss(student_logits, labels))
    kd = (alpha, mean_kd_loss(student_logits, teacher_logits, temperature=temperature))
    return outcome(student_logits, labels, ce=ce, kd=kd)


def self_distillation(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike | None,
    labels: ArrayLike,
    *,
    progress: ArrayLike = 1.0,
    axis_name: Hashable | None = None,
    beta: float = 0.5,
    temperature: float = 3.0,
) -> Outcome:
    """The student's final output as its teacher: mean CE(s[i], y) + β mean KD_τ(s[i], mean_j s[j])."""
    ce = (1.0, ce_loss(student_logits, labels))
    sd = (beta, self_distillation_loss(student_logits, temperature=temperature))
    return outcome(student_logits, labels, ce=ce, sd=sd)


def ela(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    labels: ArrayLike,
    *,
    progress: ArrayLike = 1.0,
    axis_name: Hashable | None = None,
    alpha: float = 0.6,
    temperature: float = 3.0,
    top_k: int = 1,
    correct_weight: float = 1.0,
) -> Outcome:
    """Only what is wrong is corrected: mean CE(s[i], y) + α mean ELA, as in `ela_loss`."""
    ce = (1.0, ce_loss(student_logits, labels))
    loss = ela_loss(
        student_logits,
        teacher_logits,
        labels,
        temperature=temperature,
        top_k=top_k,
        correct_weight=correct_weight,
    )
    return outcome(student_logits, labels, ce=ce, ela=(alpha, loss))


def sta(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike | None,
    labels: ArrayLike,
    *,
    progress: ArrayLike = 1.0,
    axis_name: Hashable | None = None,
    beta: float = 0.15,
    temperature: float = 3.0,
    score_temperature: float = 1.0,
    confidence_threshold: float = 0.0,
) -> Outcome:
    """Timesteps learn from each other: mean CE(s[i], y) + β mean STA, as in `sta_loss`."""
    ce = (1.0, ce_loss(student_logits, labels))
    loss = sta_loss(
        student_logits,
        temperature=temperature,
        score_temperature=score_temperature,
        confidence_threshold=confidence_threshold,
    )
    return outcome(student_logits, labels, ce=ce, sta=(beta, loss))


def seal(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    labels: ArrayLike,
    *,
    progress: ArrayLike = 1.0,
    axis_name: Hashable | None = None,
    alpha: float = 0.6,
    beta: float = 0.15,
    temperature: float = 3.0,
    top_k: int = 1,
    correct_weight: float = 1.0,
    score_temperature: float = 1.0,
    confidence_threshold: float = 0.0,
    task: Task = "timestep",
) -> Outcome:
    """The paper's whole loss, the mean of `seal_kd_loss`: mean CE + α mean ELA + β mean STA."""
    ce = (1.0, task_loss(student_logits, labels, task))
    correction = ela_loss(
        student_logits,
        teacher_logits,
        labels,
        temperature=temperature,
        top_k=top_k,
        correct_weight=correct_weight,
    )
    alignment = sta_loss(
        student_logits,
        temperature=temperature,
        score_temperature=score_temperature,
        confidence_threshold=confidence_threshold,
    )
    return outcome(student_logits, labels, ce=ce, ela=(alpha, correction), sta=(beta, alignment))


def card(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    labels: ArrayLike,
    *,
    progress: ArrayLike = 1.0,
    axis_name: Hashable | None = None,
    temperature: float = 2.0,
    task: Literal["none"] | Task = "none",
) -> Outcome:
    """The loss of the method card, `card_seal_kd_loss`.

    The card's class has no task loss, and by default none is added: the cross-entropy is reported only. Its
    words ask for one on the final output, which is task="mean".
    """
    as_choice("task", task, ("none", "timestep", "mean"))
    weight = 0.0 if task == "none" else 1.0
    ce = (weight, task_loss(student_logits, labels, "mean" if task == "mean" else "timestep"))
    loss = card_seal_kd_loss(student_logits, teacher_logits, labels, temperature=temperature, axis_name=axis_name)
    return outcome(student_logits, labels, ce=ce, card=(1.0, loss))


METHODS: dict[str, Method] = {
    method.__name__: method
    for method in (
        *(none, mean_ce, uniform_kd, mean_kd, self_distillation, ela, sta, seal, card),
        *(baselines.tet, baselines.twkd, baselines.tser, baselines.hta_kl, baselines.tks, baselines.dkd),
    )
}
"""Every method by its name."""

_WITHOUT_TEACHER = frozenset({"none", "mean_ce", "self_distillation", "sta", "tet", "tks"})


def needs_teacher(name: str) -> bool:
    """Whether the method of this name uses `teacher_logits`.

    Example:
      >>> from sealkd_jax.losses import needs_teacher
      >>> needs_teacher("seal"), needs_teacher("sta")
      (True, False)
    """
    return _known(name) not in _WITHOUT_TEACHER


def hyperparameters(name: str) -> dict[str, Any]:
    """The hyper-parameters of the method of this name, with their defaults.

    Example:
      >>> from sealkd_jax.losses import hyperparameters
      >>> hyperparameters("uniform_kd")
      {'alpha': 0.6, 'temperature': 3.0}
    """
    parameters = inspect.signature(METHODS[_known(name)]).parameters.values()
    own = (p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in ("progress", "axis_name"))
    return {p.name: p.default for p in own}


def _known(name: str) -> str:
    return as_choice("method", name, tuple(METHODS))
