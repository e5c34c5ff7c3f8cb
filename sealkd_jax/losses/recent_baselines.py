r"""More losses of other papers, as methods of `METHODS`: most compare a student's logits with a teacher's.

Axes: T timesteps, B batch, C classes. Symbols are those of `baselines`: s the student's logits, z their mean over
timesteps, t the teacher's logits, y the label, τ the temperature, sg stops the gradient, a bar is the mean over B and,
where timesteps appear, over T.

`on` chooses x, the logits that are distilled and judged: "mean" is z; "timestep" is each $s_i$, with the mean over
timesteps. Five of the six are originally for networks with one output, which is "mean"; "timestep" is ours.
"""

from __future__ import annotations

from collections.abc import Hashable
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
    as_teacher,
)
from sealkd_jax.losses._divergence import (
    correct_sum,
    euclidean_norm,
    final_outputs,
    kl,
    refuse_masked,
    softened,
    softened_kl,
)
from sealkd_jax.losses._registry import Terms, method
from sealkd_jax.losses._where import mean_over
from sealkd_jax.losses.cross_entropy import ce_loss, mean_ce_loss
from sealkd_jax.losses.kd import uniform_kd_loss

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Integer, Key

On = Literal["mean", "timestep"]


@method
def nld(
    student_logits: Float[ArrayLike, "T B C"],
    teacher_logits: Float[ArrayLike, "B C"] | Float[ArrayLike, "T B C"],
    labels: Integer[ArrayLike, "B"] | Float[ArrayLike, "B C"],
    *,
    axis_name: Hashable | None = None,
    key: Key[ArrayLike, ""] | None = None,
    noise: Float[ArrayLike, "B C"] | Float[ArrayLike, "T B C"] | None = None,
    temperature: float = 2.0,
    mixture: float = 0.9,
    alpha: float = 1.0,
    on: On = "mean",
) -> Terms:
    r"""NLD, distillation of logits smoothed by noise.

    $$\overline{\mathrm{CE}(x, y)} + \alpha \tau^2\, \overline{\mathrm{KL}\big(\operatorname{softmax}(t/\tau)
      \,\Vert\, w \operatorname{softmax}(x/\tau) + (1 - w) \operatorname{softmax}(n/\tau)\big)}, \qquad
      n_c = \operatorname{mean}(x) + \varepsilon_c \operatorname{var}(x)$$

    ε is standard normal, one number for each class: drawn from `key`, or given as `noise`, `[B, C]` on the mean and
    `[T, B, C]` on timesteps. Mean and variance are over the classes, the variance with C − 1 in
    the denominator, and both carry gradient.

    Args:
      temperature: τ.
      mixture: w, the share of the distribution without noise, in [0, 1]. With 1 the loss is plain distillation.
      alpha: α, the weight of the distillation.
      on: x, the "mean" logits or those of every "timestep".

    Reference:
      arXiv 2511.06902 (CKDSNN); checked against the authors' code.
    """
    student, teacher = _chosen(student_logits, teacher_logits, on)
    tau = as_scalar("temperature", temperature, student, above=0)
    share = as_share("mixture", mixture, student)
    noise = _noise(noise, key, student, axis_name)
    with jax.named_scope("nld"):
        smooth = student.mean(axis=-1, keepdims=True) + noise * jnp.var(student, axis=-1, ddof=1, keepdims=True)
        # In logarithms: that of the sum of probabilities would be infinite where logits spread far.
        clean, noisy = jnp.log(share) + softened(student, tau), jnp.log(1 - share) + softened(smooth, tau)
        loss = tau**2 * kl(softened(teacher, tau), jnp.logaddexp(clean, noisy))
    return {"ce": (1.0, ce_loss(student, labels)), "nld": (alpha, loss)}


@method
def esd(
    student_logits: Float[ArrayLike, "T B C"],
    labels: Integer[ArrayLike, "B"] | Float[ArrayLike, "B C"],
    *,
    axis_name: Hashable | None = None,
    where: Bool[ArrayLike, "B"] | None = None,
    alpha: float = 1.0,
    beta: float = 0.3,
    temperature: float = 3.0,
    last_weight: float | None = None,
) -> Terms:
    r"""ESD, self-distillation from the correct timesteps, without a teacher.

    $$\frac{1}{T} \Big(\alpha \sum_{i<T} \overline{\mathrm{CE}(s_i, y)} + \lambda\, \overline{\mathrm{CE}(s_T, y)} +
      \beta \sum_i \operatorname{mean}_{b \in V} \mathrm{KD}_\tau(s_{i,b}, g_b)\Big)$$

    g is the mean of an example's logits over the timesteps with a correct prediction, without gradient. V are the
    examples that have one, and whose g is not 0; without any, the last term is 0. TWKD keeps the others.

    The authors apply it to the heads of a network that codes in rates, and divide by that network's T: for their
    scale, multiply the loss of K heads by K/T.

    Args:
      alpha: α, the weight of the cross-entropy before the last timestep.
      beta: β, the weight of the self-distillation.
      temperature: τ.
      last_weight: λ, the weight of the cross-entropy of the last timestep; α if not given. The authors have 1 for
        ImageNet, with α = 0.7.

    Reference:
      arXiv 2510.06254; checked against the authors' code.
    """
    student = as_student(student_logits)
    last = alpha if last_weight is None else last_weight
    ce = ce_loss(student, labels) / len(student)
    total, count = correct_sum(student, as_label_mask(labels, student))
    target = jax.lax.stop_gradient(total / jnp.maximum(count, 1))
    taught = jnp.sum(jnp.abs(target), axis=-1) > 1e-6
    taught = taught if where is None else taught & jnp.asarray(where)
    with jax.named_scope("sd"):
        sd = mean_over(uniform_kd_loss(student, target, temperature=temperature), taught, 1, axis_name)
    early, final = ce[:-1].sum(axis=0), ce[-1]
    if where is not None:
        early, final = (mean_over(part, jnp.asarray(where), 0, axis_name) for part in (early, final))
    return {"ce": (alpha, early), "ce_last": (last, final), "sd": (beta, sd)}


@method
def logit_std_kd(
    student_logits: Float[ArrayLike, "T B C"],
    teacher_logits: Float[ArrayLike, "B C"] | Float[ArrayLike, "T B C"],
    labels: Integer[ArrayLike, "B"] | Float[ArrayLike, "B C"],
    *,
    temperature: float = 2.0,
    alpha: float = 9.0,
    ce_weight: float = 0.1,
    on: On = "mean",
) -> Terms:
    r"""Distillation of standardised logits: their mean and scale are not distilled.

    $$\lambda\, \overline{\mathrm{CE}(x, y)} + \alpha\, \overline{\mathrm{KD}_\tau(N(x), N(t))}, \qquad
      N(x) = \frac{x - \operatorname{mean}(x)}{10^{-7} + \operatorname{std}(x)}$$

    Mean and deviation are over the classes, the deviation with C − 1 in the denominator.

    Args:
      temperature: τ.
      alpha: α, the weight of the distillation.
      ce_weight: λ. The authors have 0.1 on CIFAR-100, and 1 for ResNet-34 to ResNet-18 on ImageNet.
      on: x, the "mean" logits or those of every "timestep".

    Reference:
      arXiv 2403.01427, for networks without timesteps; checked against the authors' code.
    """
    student, teacher = _chosen(student_logits, teacher_logits, on)
    refuse_masked(teacher_logits, "the logits of logit_std_kd have no deviation with a masked class")
    tau = as_scalar("temperature", temperature, student, above=0)
    with jax.named_scope("kd"):
        kd = softened_kl(_standardised(teacher), _standardised(student), tau)
        kd = jnp.where(jnp.any(teacher <= MASKED / 1e6, axis=-1), jnp.nan, kd)  # a masked class that a trace hid
    return {"ce": (ce_weight, ce_loss(student, labels)), "kd": (alpha, kd)}


@method
def dist(
    student_logits: Float[ArrayLike, "T B C"],
    teacher_logits: Float[ArrayLike, "B C"] | Float[ArrayLike, "T B C"],
    labels: Integer[ArrayLike, "B"] | Float[ArrayLike, "B C"],
    *,
    axis_name: Hashable | None = None,
    where: Bool[ArrayLike, "B"] | None = None,
    temperature: float = 1.0,
    alpha: float = 2.0,
    beta: float = 1.0,
    gamma: float = 1.0,
    on: On = "mean",
) -> Terms:
    r"""DIST, correlation with the teacher: between the classes of an example, and between the examples of a class.

    $$\overline{\mathrm{CE}(x, y)} + \alpha \tau^2 \Big(\beta \big(1 - \operatorname{mean}_b
      \rho(P_{b,\cdot}, A_{b,\cdot})\big) + \gamma \big(1 - \operatorname{mean}_c
      \rho(P_{\cdot,c}, A_{\cdot,c})\big)\Big)$$

    with $P = \operatorname{softmax}(x/\tau)$, $A = \operatorname{softmax}(t/\tau)$ and

    $$\rho(u, v) = \frac{\sum (u - \bar u)(v - \bar v)}{\Vert u - \bar u \Vert\, \Vert v - \bar v \Vert + 10^{-8}}$$

    The second correlation couples the batch, which is gathered over `axis_name`; each timestep has its own.

    Args:
      temperature: τ. The authors have 1 on ImageNet, 4 on CIFAR.
      alpha: α, the weight of both correlations.
      beta: β, the weight of that between the classes of an example.
      gamma: γ, the weight of that between the examples of a class.
      on: x, the "mean" logits or those of every "timestep".

    Reference:
      arXiv 2205.10536, for networks without timesteps; checked against the authors' code.
    """
    student, teacher = _chosen(student_logits, teacher_logits, on)
    tau = as_scalar("temperature", temperature, student, above=0)
    p, a = jnp.exp(softened(student, tau)), jnp.exp(softened(teacher, tau))
    a = jnp.broadcast_to(a, p.shape)
    keep = jnp.ones(p.shape[1], bool) if where is None else jnp.asarray(where)
    with jax.named_scope("inter"):
        inter = mean_over(1 - _correlation(p, a, jnp.ones_like(p), -1), keep, 1, axis_name)
    with jax.named_scope("intra"):
        if axis_name is not None:
            p, a = (jax.lax.all_gather(x, axis_name, axis=1, tiled=True) for x in (p, a))
            keep = jax.lax.all_gather(keep, axis_name, tiled=True)
        counts = jnp.broadcast_to(keep[None, :, None], p.shape).astype(p.dtype)
        intra = jnp.where(keep.any(), jnp.mean(1 - _correlation(p, a, counts, 1)), 0)
    ce = ce_loss(student, labels)
    ce = ce if where is None else mean_over(ce, jnp.asarray(where), 1, axis_name)
    weight = as_scalar("alpha", alpha, student) * tau**2
    return {
        "ce": (1.0, ce),
        "inter": (weight * as_scalar("beta", beta, student), inter),
        "intra": (weight * as_scalar("gamma", gamma, student), intra),
    }


@method
def hsd(
    student_logits: Float[ArrayLike, "T B C"],
    teacher_logits: Float[ArrayLike, "B C"] | Float[ArrayLike, "T B C"],
    labels: Integer[ArrayLike, "B"] | Float[ArrayLike, "B C"],
    *,
    temperature: float = 2.0,
    alpha: float = 1.0,
) -> Terms:
    r"""HSD, step-wise distillation: the cross-entropy of the final output, the divergence of every timestep.

    $$\overline{\mathrm{CE}(z, y)} + \frac{\alpha}{C}\, \overline{\mathrm{KD}_\tau(s_i, t)}$$

    The authors take the mean of the divergence over all elements, and so divide by C. If the teacher has timesteps, t
    is its mean.

    Args:
      temperature: τ. The authors' program has 2; another of their files has 10.
      alpha: α, the weight of the distillation.

    Reference:
      Code of HSD (hsw0929/HSD on GitHub), checked against it; which τ its results have is not certain.
    """
    student = as_student(student_logits)
    teacher = as_teacher(teacher_logits, student).mean(axis=0)
    kd = uniform_kd_loss(student, teacher, temperature=temperature) / student.shape[-1]
    return {"ce": (1.0, mean_ce_loss(student, labels)), "kd": (alpha, kd)}


@method
def wsld(
    student_logits: Float[ArrayLike, "T B C"],
    teacher_logits: Float[ArrayLike, "B C"] | Float[ArrayLike, "T B C"],
    labels: Integer[ArrayLike, "B"] | Float[ArrayLike, "B C"],
    *,
    temperature: float = 2.0,
    alpha: float = 1.0,
) -> Terms:
    r"""WSLD, weighted soft labels: examples count more, the better the teacher knows them than the student does.

    $$\overline{\mathrm{CE}(z, y)} - \alpha \tau^2\, \overline{v_b \sum_c \operatorname{softmax}(t/\tau)_c
      \log \operatorname{softmax}(z/\tau)_c}, \qquad
      v = \mathrm{sg}\Big(1 - \exp\Big(\frac{-\mathrm{CE}(z, y)}{\mathrm{CE}(t, y) + 10^{-7}}\Big)\Big)$$

    This is a cross-entropy, not 0 where student and teacher agree.

    Args:
      temperature: τ.
      alpha: α, the weight of the distillation.

    Reference:
      arXiv 2102.00650, as the code of BKDSNN (arXiv 2407.09083) has it, which it is checked against.
    """
    student, teacher = final_outputs(student_logits, teacher_logits)
    teacher = jax.lax.stop_gradient(teacher)
    tau = as_scalar("temperature", temperature, student, above=0)
    ce = ce_loss(student, labels)
    with jax.named_scope("wsld"):
        weight = jax.lax.stop_gradient(1 - jnp.exp(-ce / (ce_loss(teacher, labels) + 1e-7)))
        soft = -jnp.sum(jnp.exp(softened(teacher, tau)) * softened(student, tau), axis=-1)
    return {"ce": (1.0, ce), "wsld": (alpha, tau**2 * weight * soft)}


def _chosen(student_logits: ArrayLike, teacher_logits: ArrayLike, on: On) -> tuple[jax.Array, jax.Array]:
    """The logits that are distilled, `[T, B, C]` or `[1, B, C]`, and those of the teacher, without gradient."""
    if as_choice("on", on, ("mean", "timestep")) == "mean":
        student, teacher = final_outputs(student_logits, teacher_logits)
    else:
        student = as_student(student_logits)
        teacher = as_teacher(teacher_logits, student)
    return student, jax.lax.stop_gradient(teacher)


def _noise(noise: ArrayLike | None, key: ArrayLike | None, student: jax.Array, axis_name: Hashable | None) -> jax.Array:
    """Standard normal numbers as many as there are logits. Each device has its part of those of the whole batch."""
    if noise is not None:
        wanted = [list(student.shape)] + ([list(student.shape[1:])] if len(student) == 1 else [])
        if list(jnp.shape(noise)) not in wanted:
            raise ValueError(f"noise: expected shape {' or '.join(map(str, wanted))}, got {list(jnp.shape(noise))}")
        return jnp.asarray(noise, student.dtype).reshape(student.shape)
    key = jax.random.key(0) if key is None else key
    timesteps, batch, classes = student.shape
    devices = 1 if axis_name is None else jax.lax.psum(1, axis_name)
    drawn = jax.random.normal(key, (timesteps, devices * batch, classes), student.dtype)
    if axis_name is None:
        return drawn
    return jax.lax.dynamic_slice_in_dim(drawn, jax.lax.axis_index(axis_name) * batch, batch, axis=1)


def _standardised(logits: jax.Array) -> jax.Array:
    """(x − mean)/(1e-7 + std) over the classes, the deviation with C − 1 in the denominator."""
    centred = logits - logits.mean(axis=-1, keepdims=True)
    return centred / (1e-7 + euclidean_norm(centred, -1) / (logits.shape[-1] - 1) ** 0.5)


def _correlation(u: jax.Array, v: jax.Array, counts: jax.Array, axis: int) -> jax.Array:
    """ρ of u and v along an axis, of those entries alone whose count is 1, not 0."""
    total = jnp.maximum(counts.sum(axis=axis, keepdims=True), 1)
    u, v = (counts * (x - (counts * x).sum(axis=axis, keepdims=True) / total) for x in (u, v))
    norms = euclidean_norm(u, axis) * euclidean_norm(v, axis)
    return jnp.squeeze(jnp.sum(u * v, axis=axis, keepdims=True) / (norms + 1e-8), axis)
