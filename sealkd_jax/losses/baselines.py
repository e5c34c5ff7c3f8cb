r"""The losses of other papers, as methods of `METHODS`.

Axes: T timesteps, B batch, C classes. In the equations s are the student's logits and z their mean over timesteps, t
the teacher's logits (their mean over timesteps where only z is distilled), y the label, τ the temperature; sg stops the
gradient, a bar is the mean over T and B, and

$$\mathrm{KD}_\tau(s, t) = \tau^2\, \mathrm{KL}\big(\operatorname{softmax}(\mathrm{sg}(t)/\tau) \,\Vert\,
  \operatorname{softmax}(s/\tau)\big)$$

Formulas that could not be checked against the authors' code say "(unconfirmed)", and `UNCONFIRMED` has their names;
what is in doubt is a parameter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sealkd_jax._checks import (
    MASKED,
    as_choice,
    as_label_mask,
    as_scalar,
    as_share,
    as_student,
)
from sealkd_jax.losses._divergence import correct_sum, final_outputs, kl, refuse_masked, softened, value_at
from sealkd_jax.losses._registry import Terms, method
from sealkd_jax.losses.cross_entropy import Task, ce_loss, mean_ce_loss, task_loss
from sealkd_jax.losses.kd import self_distillation_loss, uniform_kd_loss

if TYPE_CHECKING:
    from jaxtyping import Float, Integer


@method
def tet(
    student_logits: Float[ArrayLike, "T B C"],
    labels: Integer[ArrayLike, "B"] | Float[ArrayLike, "B C"],
    *,
    lam: float = 1e-3,
    phi: float = 1.0,
) -> Terms:
    r"""TET, temporal efficient training: the cross-entropy of every timestep, and all logits pulled to one value.

    $$(1 - \lambda)\, \overline{\mathrm{CE}(s_i, y)} + \lambda\, \overline{(s_{i,b,c} - \varphi)^2}$$

    Args:
      lam: λ. The authors' code has 1e-3; others often take 0.05.
      phi: φ, the value that the logits are pulled to.

    Reference:
      arXiv 2202.11946; checked against the authors' code.
    """
    student = as_student(student_logits)
    with jax.named_scope("mse"):
        spread = (student - as_scalar("phi", phi, student)) ** 2
    return {"ce": (1 - lam, ce_loss(student, labels)), "mse": (lam, spread)}


@method
def twkd(
    student_logits: Float[ArrayLike, "T B C"],
    teacher_logits: Float[ArrayLike, "B C"] | Float[ArrayLike, "T B C"],
    labels: Integer[ArrayLike, "B"] | Float[ArrayLike, "B C"],
    *,
    alpha: float = 0.2,
    beta: float = 0.5,
    temperature: float = 3.0,
    target: Literal["correct_mean", "ensemble"] = "correct_mean",
) -> Terms:
    r"""TWKD, temporal-wise distillation: from the teacher, and from the student's own output.

    $$\overline{\mathrm{CE}(s_i, y)} + \alpha\, \overline{\mathrm{KD}_\tau(s_i, t)}
      + \beta\, \overline{\mathrm{KD}_\tau(s_i, g)}$$

    Args:
      alpha: α, the weight of the teacher.
      beta: β, the weight of the student's own output.
      temperature: τ. The authors use 3, and 1 for ImageNet.
      target: g. "correct_mean" is the authors' code: the mean over the timesteps with a correct prediction, or 0, a
        uniform distribution, if there is none. "ensemble" is the paper's text: z (unconfirmed).

    Reference:
      arXiv 2501.15925; "correct_mean" checked against the authors' code.
    """
    student = as_student(student_logits)
    kd = uniform_kd_loss(student, teacher_logits, temperature=temperature)
    if as_choice("target", target, ("correct_mean", "ensemble")) == "ensemble":
        sd = self_distillation_loss(student, temperature=temperature)
    else:
        with jax.named_scope("sd"):
            total, count = correct_sum(student, as_label_mask(labels, student))
            sd = uniform_kd_loss(student, total / jnp.maximum(count, 1), temperature=temperature)
    return {"ce": (1.0, ce_loss(student, labels)), "kd": (alpha, kd), "sd": (beta, sd)}


@method(unconfirmed=True)
def tser(
    student_logits: Float[ArrayLike, "T B C"],
    teacher_logits: Float[ArrayLike, "B C"] | Float[ArrayLike, "T B C"],
    labels: Integer[ArrayLike, "B"] | Float[ArrayLike, "B C"],
    *,
    lam: float = 0.5,
    gamma: float = 0.1,
    temperature: float = 4.0,
    ce_temperature: float = 1.0,
) -> Terms:
    r"""TSER, temporal separation with entropy regularisation (unconfirmed).

    $$(1 - \lambda)\, \overline{\mathrm{CE}(s_i/\tau_{ce}, y)} + \lambda\, \overline{\mathrm{KD}_\tau(s_i, t)}
      - \gamma\, \overline{H(\operatorname{softmax}(s_i/\tau))}$$

    The formula is from a re-implementation by others. It uses the same temperature in the cross-entropy; the natural
    reading of the paper is ce_temperature=1. The paper does not state its weights: these λ and γ are our choice. It
    reports stable results for τ from 2 to 6.

    Args:
      lam: λ, the balance of cross-entropy and distillation.
      gamma: γ, the weight of the entropy H, which the loss maximises.
      temperature: τ.
      ce_temperature: τ_ce.

    Reference:
      arXiv 2503.03144.
    """
    student = as_student(student_logits)
    tau = as_scalar("temperature", temperature, student, above=0)
    kd = uniform_kd_loss(student, teacher_logits, temperature=tau)
    with jax.named_scope("entropy"):
        log_q = softened(student, tau)
        entropy = -jnp.sum(jnp.exp(log_q) * log_q, axis=-1)
    ce = ce_loss(student / as_scalar("ce_temperature", ce_temperature, student, above=0), labels)
    return {"ce": (1 - lam, ce), "kd": (lam, kd), "entropy": (-gamma, entropy)}


@method(unconfirmed=True)
def hta_kl(
    student_logits: Float[ArrayLike, "T B C"],
    teacher_logits: Float[ArrayLike, "B C"] | Float[ArrayLike, "T B C"],
    labels: Integer[ArrayLike, "B"] | Float[ArrayLike, "B C"],
    *,
    lam: float = 1.0,
    delta: float = 0.5,
    temperature: float = 4.0,
    head_inclusive: bool = False,
    task: Task = "mean",
) -> Terms:
    r"""HTA-KL, head-tail aware distillation of the final output (unconfirmed).

    $$\overline{\mathrm{CE}} + \lambda \tau^2\, \overline{w_h\, \mathrm{KL}(P \,\Vert\, Q) +
      w_t\, \mathrm{KL}(Q \,\Vert\, P)}$$

    with $P = \operatorname{softmax}(\mathrm{sg}(t)/\tau)$ and $Q = \operatorname{softmax}(z/\tau)$.

    The teacher's most probable classes, as long as their cumulative probability is below δ, are its head; the others
    are its tail. $w_h$ is the share of the head in $\sum_c |P_c - Q_c|$, and $w_t = 1 - w_h$, both without gradient.
    The masks follow a review of the paper, the weights the method that it builds on (arXiv 2404.02657); λ, τ and the
    task are not known.

    Args:
      lam: λ, the weight of the distillation.
      delta: δ, in [0, 1].
      temperature: τ.
      head_inclusive: whether the class that reaches δ belongs to the head. If not, a teacher whose first class reaches
        δ alone has no head, and the loss is the reverse divergence KL(Q ‖ P).
      task: the logits for the cross-entropy: their "mean", as for the distillation, or those of every "timestep".

    Reference:
      arXiv 2504.20445.
    """
    student, teacher = final_outputs(student_logits, teacher_logits)
    refuse_masked(teacher_logits, "a masked class makes KL(Q ‖ P) of hta_kl infinite")
    with jax.named_scope("hta"):
        tau = as_scalar("temperature", temperature, student, above=0)
        log_p, log_q = softened(jax.lax.stop_gradient(teacher), tau), softened(student, tau)

        p, q = jnp.exp(log_p), jnp.exp(jax.lax.stop_gradient(log_q))
        best_first = jnp.argsort(p, axis=-1, descending=True)
        p, q = (jnp.take_along_axis(x, best_first, axis=-1) for x in (p, q))
        cumulative = jnp.cumsum(p, axis=-1) - (p if head_inclusive else 0)
        gap = jnp.abs(p - q)
        in_head = jnp.sum(jnp.where(cumulative < as_share("delta", delta, student), gap, 0), axis=-1)
        head = in_head / jnp.maximum(gap.sum(axis=-1), 1e-12)

        loss = tau**2 * (head * kl(log_p, log_q) + (1 - head) * kl(log_q, log_p))
        loss = jnp.where(jnp.any(teacher <= MASKED / 1e6, axis=-1), jnp.inf, loss)  # a masked class: q log(q / 0)
    return {"ce": (1.0, task_loss(student_logits, labels, task)), "hta": (lam, loss)}


@method
def tks(
    student_logits: Float[ArrayLike, "T B C"],
    labels: Integer[ArrayLike, "B"] | Float[ArrayLike, "B C"],
    *,
    progress: ArrayLike = 1.0,
    alpha: float = 0.7,
    temperature: float = 3.0,
    detach_target: bool = False,
) -> Terms:
    r"""TKS, temporal knowledge sharing: correct timesteps teach all timesteps, increasingly; without a teacher.

    $$w\, \overline{\mathrm{CE}(z, y)} - (1 - w)\, \tau^2\, \overline{\sum_c \operatorname{softmax}(g/\tau)_c
      \log \operatorname{softmax}(s_i)_c}, \qquad w = 1 - \alpha \cdot \mathrm{progress}$$

    g is the sum of the logits over the timesteps with a correct prediction, 0 if there is none. The student's side has
    no temperature, and g carries gradient.

    Args:
      alpha: α, the weight of the shared knowledge at the end of training, in [0, 1].
      temperature: τ.
      detach_target: stops the gradient of g; the authors' code does not.

    Reference:
      arXiv 2304.06540; checked against the authors' code.
    """
    student = as_student(student_logits)
    tau = as_scalar("temperature", temperature, student, above=0)
    with jax.named_scope("tks"):
        target, _ = correct_sum(student, as_label_mask(labels, student))
        target = jax.lax.stop_gradient(target) if detach_target else target
        shared = -jnp.sum(jnp.exp(softened(target, tau))[None] * jax.nn.log_softmax(student), axis=-1)
    share = as_share("progress", progress, student) * as_share("alpha", alpha, student)
    ce = mean_ce_loss(student, labels)
    return {"ce": (1 - share, ce), "tks": (share, tau**2 * shared)}


@method
def dkd(
    student_logits: Float[ArrayLike, "T B C"],
    teacher_logits: Float[ArrayLike, "B C"] | Float[ArrayLike, "T B C"],
    labels: Integer[ArrayLike, "B"] | Float[ArrayLike, "B C"],
    *,
    progress: ArrayLike = 1.0,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    warmup: float = 1 / 12,
) -> Terms:
    r"""DKD, decoupled distillation of the final output: the label against the rest, and the rest by itself.

    $$\overline{\mathrm{CE}(z, y)} + \min\Big(\frac{\mathrm{progress}}{\mathrm{warmup}}, 1\Big)
      \big(\alpha\, \overline{\mathrm{TCKD}} + \beta\, \overline{\mathrm{NCKD}}\big)$$

    with $p = \operatorname{softmax}(\cdot/\tau)$: TCKD is $\tau^2\, \mathrm{KL}$ of $[p_y, 1 - p_y]$, teacher to
    student; NCKD is $\mathrm{KD}_\tau(z, t)$ with class y left out.

    Args:
      alpha: α, the weight of TCKD.
      beta: β, the weight of NCKD. The authors use 8 for most pairs on CIFAR-100, 0.5 on ImageNet.
      temperature: τ.
      warmup: the share of training over which the weight of the distillation rises from 0. The authors have 20 of 240
        epochs.

    Reference:
      arXiv 2203.08679, for networks without timesteps; checked against the authors' code.
    """
    student, teacher = final_outputs(student_logits, teacher_logits)
    is_label = as_label_mask(labels, student)
    tau = as_scalar("temperature", temperature, student, above=0)
    target_q, others_q = _decoupled(student, is_label, tau)
    target_p, others_p = _decoupled(jax.lax.stop_gradient(teacher), is_label, tau)

    done, rise = as_share("progress", progress, student), as_share("warmup", warmup, student)
    warm = jnp.where(done < rise, done / jnp.where(rise > 0, rise, 1), 1)
    return {
        "ce": (1.0, ce_loss(student, labels)),
        "tckd": (warm * as_scalar("alpha", alpha, student), tau**2 * kl(target_p, target_q)),
        "nckd": (warm * as_scalar("beta", beta, student), tau**2 * kl(others_p, others_q)),
    }


def _decoupled(logits: jax.Array, is_label: jax.Array, tau: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Log-probabilities: of the label and of all others together, `[1, B, 2]`, and among the others, `[1, B, C]`.

    Among the others the label is 0, in student and teacher alike: it adds exp(0) (0 − 0) = 0 to a divergence.
    """
    log_p = softened(logits, tau)
    highest = jax.lax.stop_gradient(jnp.max(log_p, axis=-1, keepdims=True, where=~is_label, initial=-jnp.inf))
    shifted = jnp.where(is_label, 0, log_p - highest)  # exact where all others are masked, and equally low
    log_sum = jnp.log(jnp.sum(jnp.exp(shifted), axis=-1, keepdims=True, where=~is_label))
    target = jnp.concatenate([value_at(is_label, log_p)[..., None], highest + log_sum], axis=-1)
    return target, jnp.where(is_label, 0, shifted - log_sum)
