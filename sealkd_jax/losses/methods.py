"""The methods of this project: the ladder from plain training to SeAl-KD, and the method card's loss.

Axes: T timesteps, B batch, C classes. In the equations means are over T and B.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Literal

from jax.typing import ArrayLike

from sealkd_jax._checks import as_choice
from sealkd_jax.losses._registry import Terms, method
from sealkd_jax.losses.card import card_seal_kd_loss
from sealkd_jax.losses.cross_entropy import Task, ce_loss, mean_ce_loss, task_loss
from sealkd_jax.losses.kd import mean_kd_loss, self_distillation_loss, uniform_kd_loss
from sealkd_jax.losses.paper import ela_loss, sta_loss

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Integer


@method
def none(student_logits: Float[ArrayLike, "T B C"], labels: Integer[ArrayLike, "B"] | Float[ArrayLike, "B C"]) -> Terms:
    """No distillation: the cross-entropy of every timestep, mean CE(s[i], y)."""
    return {"ce": (1.0, ce_loss(student_logits, labels))}


@method
def mean_ce(
    student_logits: Float[ArrayLike, "T B C"], labels: Integer[ArrayLike, "B"] | Float[ArrayLike, "B C"]
) -> Terms:
    """No distillation: the cross-entropy of the final output, mean CE(mean_i s[i], y)."""
    return {"ce": (1.0, mean_ce_loss(student_logits, labels))}


@method
def uniform_kd(
    student_logits: Float[ArrayLike, "T B C"],
    teacher_logits: Float[ArrayLike, "B C"] | Float[ArrayLike, "T B C"],
    labels: Integer[ArrayLike, "B"] | Float[ArrayLike, "B C"],
    *,
    alpha: float = 0.6,
    temperature: float = 3.0,
) -> Terms:
    """Distillation of every timestep alike: mean CE(s[i], y) + α mean KD_τ(s[i], t).

    Args:
      alpha: α, the weight of the distillation.
      temperature: τ.

    Reference:
      arXiv 1503.02531 (Hinton et al.), applied to each timestep.
    """
    ce = ce_loss(student_logits, labels)
    kd = uniform_kd_loss(student_logits, teacher_logits, temperature=temperature)
    return {"ce": (1.0, ce), "kd": (alpha, kd)}


@method
def mean_kd(
    student_logits: Float[ArrayLike, "T B C"],
    teacher_logits: Float[ArrayLike, "B C"] | Float[ArrayLike, "T B C"],
    labels: Integer[ArrayLike, "B"] | Float[ArrayLike, "B C"],
    *,
    alpha: float = 1.0,
    temperature: float = 4.0,
) -> Terms:
    """Distillation of the final output: mean CE(mean_i s[i], y) + α mean KD_τ(mean_i s[i], t).

    Args:
      alpha: α, the weight of the distillation.
      temperature: τ.

    Reference:
      arXiv 1503.02531 (Hinton et al.), applied to mean logits.
    """
    ce = mean_ce_loss(student_logits, labels)
    kd = mean_kd_loss(student_logits, teacher_logits, temperature=temperature)
    return {"ce": (1.0, ce), "kd": (alpha, kd)}


@method
def self_distillation(
    student_logits: Float[ArrayLike, "T B C"],
    labels: Integer[ArrayLike, "B"] | Float[ArrayLike, "B C"],
    *,
    beta: float = 0.5,
    temperature: float = 3.0,
) -> Terms:
    """The student's final output as its teacher: mean CE(s[i], y) + β mean KD_τ(s[i], mean_j s[j]).

    Args:
      beta: β, the weight of the distillation.
      temperature: τ.

    Reference:
      arXiv 2501.15925, the temporal self-distillation term in its ensemble form.
    """
    ce = ce_loss(student_logits, labels)
    sd = self_distillation_loss(student_logits, temperature=temperature)
    return {"ce": (1.0, ce), "sd": (beta, sd)}


@method
def ela(
    student_logits: Float[ArrayLike, "T B C"],
    teacher_logits: Float[ArrayLike, "B C"] | Float[ArrayLike, "T B C"],
    labels: Integer[ArrayLike, "B"] | Float[ArrayLike, "B C"],
    *,
    alpha: float = 0.6,
    temperature: float = 3.0,
    top_k: int = 1,
    correct_weight: float = 1.0,
) -> Terms:
    """Error-aware logit alignment alone: mean CE(s[i], y) + α mean ELA, as in `ela_loss`.

    Args:
      alpha: α, the weight of ELA.
      temperature: τ.
      top_k: the number of classes before the label that are made equal to it. The paper has 1.
      correct_weight: the weight of ELA at correct timesteps. The paper has 1; 0 skips them.

    Reference:
      arXiv 2605.14252.
    """
    ce = ce_loss(student_logits, labels)
    correction = ela_loss(
        student_logits,
        teacher_logits,
        labels,
        temperature=temperature,
        top_k=top_k,
        correct_weight=correct_weight,
    )
    return {"ce": (1.0, ce), "ela": (alpha, correction)}


@method
def sta(
    student_logits: Float[ArrayLike, "T B C"],
    labels: Integer[ArrayLike, "B"] | Float[ArrayLike, "B C"],
    *,
    beta: float = 0.15,
    temperature: float = 3.0,
    score_temperature: float = 1.0,
    confidence_threshold: float = 0.0,
) -> Terms:
    """Selective temporal alignment alone: mean CE(s[i], y) + β mean STA, as in `sta_loss`.

    Args:
      beta: β, the weight of STA.
      temperature: τ.
      score_temperature: divides the scores of the other timesteps; a lower one is more selective. The paper has 1.
      confidence_threshold: timesteps that are less confident have weight 0. The paper has 0.

    Reference:
      arXiv 2605.14252.
    """
    ce = ce_loss(student_logits, labels)
    alignment = sta_loss(
        student_logits,
        temperature=temperature,
        score_temperature=score_temperature,
        confidence_threshold=confidence_threshold,
    )
    return {"ce": (1.0, ce), "sta": (beta, alignment)}


@method
def seal(
    student_logits: Float[ArrayLike, "T B C"],
    teacher_logits: Float[ArrayLike, "B C"] | Float[ArrayLike, "T B C"],
    labels: Integer[ArrayLike, "B"] | Float[ArrayLike, "B C"],
    *,
    alpha: float = 0.6,
    beta: float = 0.15,
    temperature: float = 3.0,
    top_k: int = 1,
    correct_weight: float = 1.0,
    score_temperature: float = 1.0,
    confidence_threshold: float = 0.0,
    task: Task = "timestep",
) -> Terms:
    """SeAl-KD, the mean of `seal_kd_loss`: mean CE + α mean ELA + β mean STA.

    Args:
      alpha: α, the weight of ELA.
      beta: β, the weight of STA.
      temperature: τ of both.
      top_k: the number of classes before the label that are made equal to it. The paper has 1.
      correct_weight: the weight of ELA at correct timesteps. The paper has 1; 0 skips them.
      score_temperature: divides the scores of the other timesteps; a lower one is more selective. The paper has 1.
      confidence_threshold: timesteps that are less confident have weight 0. The paper has 0.
      task: the logits for the cross-entropy: those of every "timestep", as in the paper, or their "mean".

    Reference:
      arXiv 2605.14252.
    """
    ce = task_loss(student_logits, labels, task)
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
    return {"ce": (1.0, ce), "ela": (alpha, correction), "sta": (beta, alignment)}


@method
def card(
    student_logits: Float[ArrayLike, "T B C"],
    teacher_logits: Float[ArrayLike, "B C"] | Float[ArrayLike, "T B C"],
    labels: Integer[ArrayLike, "B"] | Float[ArrayLike, "B C"],
    *,
    axis_name: Hashable | None = None,
    where: Bool[ArrayLike, "B"] | None = None,
    temperature: float = 2.0,
    task: Literal["none"] | Task = "none",
) -> Terms:
    """The loss of the method card, `card_seal_kd_loss`.

    The card's class has no task loss, and task="none" adds none: the cross-entropy is only reported. The card's text
    asks for a task loss on the final output, which is task="mean".

    Args:
      temperature: τ.
      task: the logits for the cross-entropy: "none", those of every "timestep", or their "mean".

    Reference:
      The method card of SeAl-KD, which summarises arXiv 2605.14252.
    """
    as_choice("task", task, ("none", "timestep", "mean"))
    ce = task_loss(student_logits, labels, "mean" if task == "mean" else "timestep")
    loss = card_seal_kd_loss(
        student_logits, teacher_logits, labels, temperature=temperature, axis_name=axis_name, where=where
    )
    return {"ce": (0.0 if task == "none" else 1.0, ce), "card": (1.0, loss)}
