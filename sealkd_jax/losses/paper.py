"""SeAl-KD: selective alignment knowledge distillation for spiking neural networks (arXiv 2605.14252).

Axes: T timesteps, B batch, C classes. In the equations i and j are timesteps, b is an example and y its label, s are
the student's logits, t the teacher's, τ is the temperature; logarithms are natural and argmax takes the lowest index on
ties. Losses are returned unreduced: their plain mean is the paper's scalar.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sealkd_jax._checks import as_count, as_label_mask, as_scalar, as_student, as_teacher
from sealkd_jax.losses._divergence import predicted_mask, softened_kl, value_at
from sealkd_jax.losses._where import over_examples
from sealkd_jax.losses.cross_entropy import Task, task_loss

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Integer, ScalarLike


@jax.named_scope("ela")
@over_examples
def ela_loss(
    student_logits: Float[ArrayLike, "T B C"],
    teacher_logits: Float[ArrayLike, "B C"] | Float[ArrayLike, "T B C"],
    labels: Integer[ArrayLike, "B"] | Float[ArrayLike, "B C"],
    *,
    temperature: ScalarLike = 3.0,
    top_k: int = 1,
    correct_weight: ScalarLike = 1.0,
    where: Bool[ArrayLike, "B"] | None = None,
    time_axis: int = 0,
) -> Float[Array, "T B"]:
    r"""Error-aware logit alignment: distillation that makes the label and the class mistaken for it equal.

    With $w = \operatorname{argmax} s_{i,b}$: where $w = y$, $s' = s$ and $t' = t$. Where $w \neq y$, the student's
    logit of $w$ becomes that of the label, and the teacher gives both the lower of its two logits:

    $$s'_w = s_y, \qquad t'_y = t'_w = \min(t_y, t_w)$$

    Then

    $$\mathrm{ELA}_{i,b} = \tau^2\, \mathrm{KL}\big(\operatorname{softmax}(t'/\tau) \,\Vert\,
      \operatorname{softmax}(s'/\tau)\big)$$

    The teacher carries no gradient. At a wrong timestep $s_w$ receives no gradient, and $s_y$ the sum of both entries'
    gradients.

    Args:
      student_logits: logits of every timestep, `[T, B, C]`.
      teacher_logits: one set of logits per example, `[B, C]`, or one per timestep, `[T, B, C]`.
      labels: class indices, `[B]`, or probabilities, `[B, C]`, whose largest entry is then the label.
      temperature: τ, above 0.
      top_k: the number of competitors to make equal to the label: the top_k highest-ranked of the classes that rank
        before y (by a higher logit, or the same logit and a lower index). The paper has 1.
      correct_weight: weight of the loss at correct timesteps. The paper has 1; 0 skips them.
      where: the examples that count, bool `[B]`; see `sealkd_jax.losses`.
      time_axis: the axis of T: 0, or 1 for logits `[B, T, C]`; see `sealkd_jax.losses`.

    Returns:
      The loss of every timestep and example, `[T, B]`, in float32 or the wider dtype of the student.

    Raises:
      ValueError: a shape does not fit, a label is outside [0, C), or a hyper-parameter is out of range.
      TypeError: the logits are not floating, or the labels or top_k not integers.

    Example:
      >>> import jax.numpy as jnp
      >>> from sealkd_jax.losses import ela_loss
      >>> student = jnp.array([[[2.0, 0.0, 1.0]], [[0.0, 2.0, 1.0]]])  # right, then wrong
      >>> teacher = jnp.array([[4.0, 1.0, 0.0]])
      >>> print(jnp.array_str(ela_loss(student, teacher, jnp.array([0])), precision=3))
      [[0.682]
       [0.426]]

    Reference:
      arXiv 2605.14252, error-aware logit alignment: at each timestep, the label and the class mistaken for it are
      made equal in student and teacher before the temperature-scaled divergence.
    """
    student = as_student(student_logits)
    teacher = jax.lax.stop_gradient(as_teacher(teacher_logits, student))
    is_label = as_label_mask(labels, student)
    temperature = as_scalar("temperature", temperature, student, above=0)
    correct_weight = as_scalar("correct_weight", correct_weight, student)

    competes = _competitors(student, is_label, as_count("top_k", top_k))  # no class at a correct timestep
    equalised = competes | is_label
    lowest = jnp.min(teacher, axis=-1, where=equalised, initial=jnp.inf)
    # Without a label, this and the loss become NaN. It stands here because XLA's CPU compiler would otherwise fuse the
    # minimum with its use, and write it out for every class.
    lowest = jnp.where(is_label.any(axis=-1), lowest, jnp.nan)
    aligned_teacher = jnp.where(equalised, lowest[..., None], teacher)
    aligned_student = jnp.where(competes, value_at(is_label, student)[..., None], student)
    weight = jnp.where(competes.any(axis=-1), 1, correct_weight)
    return weight * softened_kl(aligned_teacher, aligned_student, temperature)


@jax.named_scope("sta")
@over_examples
def sta_loss(
    student_logits: Float[ArrayLike, "T B C"],
    *,
    temperature: ScalarLike = 3.0,
    score_temperature: ScalarLike = 1.0,
    confidence_threshold: ScalarLike = 0.0,
    where: Bool[ArrayLike, "B"] | None = None,
    time_axis: int = 0,
) -> Float[Array, "T B"]:
    r"""Selective temporal alignment: a timestep learns from the other timesteps that are confident and similar.

    $$\mathrm{STA}_{i,b} = \tau^2\, \mathrm{KL}\big(\operatorname{softmax}(g_{i,b}/\tau) \,\Vert\,
      \operatorname{softmax}(s_{i,b}/\tau)\big), \qquad g_{i,b} = \sum_j W_{i,j,b}\, s_{j,b}$$

    with the weights $W$ of `sta_weights`. The target $g$ carries no gradient; with T = 1 the loss is 0.

    Args:
      student_logits: logits of every timestep, `[T, B, C]`.
      temperature: τ, above 0.
      score_temperature: divides the scores, above 0. They lie in [−1, 1], so with the paper's 1 no timestep weighs
        more than e² times another; a lower one is more selective.
      confidence_threshold: timesteps that are less confident have weight 0. The paper has 0.
      where: the examples that count, bool `[B]`; see `sealkd_jax.losses`.
      time_axis: the axis of T: 0, or 1 for logits `[B, T, C]`; see `sealkd_jax.losses`.

    Returns:
      The loss of every timestep and example, `[T, B]`, in float32 or the wider dtype of the student.

    Raises:
      ValueError: a shape does not fit, or a hyper-parameter is out of range.
      TypeError: the logits are not floating.

    Example:
      >>> import jax.numpy as jnp
      >>> from sealkd_jax.losses import sta_loss
      >>> student = jnp.array([[[2.0, 0.0, 1.0]], [[0.0, 2.0, 1.0]]])
      >>> print(jnp.array_str(sta_loss(student), precision=3))
      [[1.309]
       [1.309]]

    Reference:
      arXiv 2605.14252, selective temporal alignment: the target of each timestep is a mean of the other timesteps'
      logits, weighted by confidence and similarity.
    """
    student = as_student(student_logits)
    temperature = as_scalar("temperature", temperature, student, above=0)
    weights = sta_weights(student, score_temperature=score_temperature, confidence_threshold=confidence_threshold)
    if student.shape[0] == 1:
        return jnp.zeros(student.shape[:2], student.dtype)
    # A sum over sources, not an einsum, as in sta_weights.
    target = functools.reduce(jnp.add, (weights[:, j, :, None] * student[None, j] for j in range(student.shape[0])))
    return softened_kl(target, student, temperature)


@over_examples
def sta_weights(
    student_logits: Float[ArrayLike, "T B C"],
    *,
    score_temperature: ScalarLike = 1.0,
    confidence_threshold: ScalarLike = 0.0,
    where: Bool[ArrayLike, "B"] | None = None,
    time_axis: int = 0,
) -> Float[Array, "T T B"]:
    r"""Weights of the other timesteps in the target of each timestep in `sta_loss`.

    $$W_{i,\cdot,b} = \operatorname{softmax}_{j \neq i}\big(\mathrm{conf}_{j,b} \cos(s_{i,b}, s_{j,b})
      / \tau_s\big)$$

    $\tau_s$ is `score_temperature`, conf is `sta_confidence` of the source j, and norms in the cosine are at least
    1e-12. Sources less confident than the threshold have weight 0; if no source of i reaches the threshold, the
    threshold is ignored for i.

    Args:
      student_logits: logits of every timestep, `[T, B, C]`.
      score_temperature: divides the scores, above 0.
      confidence_threshold: the lowest confidence of a source.
      where: the examples that count, bool `[B]`; see `sealkd_jax.losses`.
      time_axis: the axis of T: 0, or 1 for logits `[B, T, C]`; see `sealkd_jax.losses`.

    Returns:
      Weights `[T, T, B]` without gradient: listener i, source j, example. They sum to 1 over sources and are 0 on the
      diagonal; with T = 1 there is no source, and all are 0.

    Raises:
      ValueError, TypeError: as `sta_loss`.

    Example:
      >>> import jax.numpy as jnp
      >>> from sealkd_jax.losses import sta_weights
      >>> student = jnp.array([[[2.0, 0.0, 1.0]], [[0.0, 2.0, 1.0]], [[4.0, 0.0, 2.0]]])
      >>> print(jnp.array_str(sta_weights(student)[:, :, 0], precision=3))
      [[0.    0.366 0.634]
       [0.482 0.    0.518]
       [0.548 0.452 0.   ]]
    """
    student = jax.lax.stop_gradient(as_student(student_logits))
    score_temperature = as_scalar("score_temperature", score_temperature, student, above=0)
    confidence_threshold = as_scalar("confidence_threshold", confidence_threshold, student)
    timesteps, batch, _ = student.shape
    if timesteps == 1:
        return jnp.zeros((1, 1, batch), student.dtype)

    confidence = sta_confidence(student)
    norm = jnp.sqrt(jnp.sum(student**2, axis=-1, keepdims=True))
    direction = student / jnp.maximum(norm, 1e-12)
    # Not an einsum: on a CPU, a batch of B tiny matrix products is slower.
    cosine = jnp.sum(direction[:, None] * direction[None], axis=-1)
    score = confidence[None] * cosine / score_temperature

    others = jnp.broadcast_to(~jnp.eye(timesteps, dtype=bool)[:, :, None], score.shape)
    # Rounding can take the confidence of a uniform prediction just below 0, and a threshold of 0 must not exclude it.
    sources = others & (jnp.maximum(confidence, 0) >= confidence_threshold)[None]
    sources = jnp.where(sources.any(axis=1, keepdims=True), sources, others)
    return jax.nn.softmax(jnp.where(sources, score, -jnp.inf), axis=1)


@over_examples
def sta_confidence(
    student_logits: Float[ArrayLike, "T B C"],
    *,
    where: Bool[ArrayLike, "B"] | None = None,
    time_axis: int = 0,
) -> Float[Array, "T B"]:
    r"""Confidence of each timestep: the distance of its prediction's entropy from that of a uniform prediction.

    $$\mathrm{conf}_{j,b} = \frac{\ln C - H_{j,b}}{\ln C}, \qquad H = -\sum_c p_c \log(p_c + 10^{-8}),
      \qquad p = \operatorname{softmax}(s_{j,b})$$

    Args:
      student_logits: logits of every timestep, `[T, B, C]`.
      where: the examples that count, bool `[B]`; see `sealkd_jax.losses`.
      time_axis: the axis of T: 0, or 1 for logits `[B, T, C]`; see `sealkd_jax.losses`.

    Returns:
      Confidences `[T, B]`: 0 for a uniform prediction, 1 for a one-hot one.

    Raises:
      ValueError, TypeError: as `sta_loss`.

    Example:
      >>> import jax.numpy as jnp
      >>> from sealkd_jax.losses import sta_confidence
      >>> student = jnp.array([[[2.0, 0.0, 1.0]], [[9.0, 0.0, 0.0]]])
      >>> print(jnp.array_str(sta_confidence(student), precision=3))
      [[0.242]
       [0.998]]
    """
    p = jax.nn.softmax(as_student(student_logits))
    uniform = jnp.log(jnp.asarray(p.shape[-1], p.dtype))
    entropy = -jnp.sum(p * jnp.log(p + 1e-8), axis=-1)
    return (uniform - entropy) / uniform


@over_examples
def seal_kd_loss(
    student_logits: Float[ArrayLike, "T B C"],
    teacher_logits: Float[ArrayLike, "B C"] | Float[ArrayLike, "T B C"],
    labels: Integer[ArrayLike, "B"] | Float[ArrayLike, "B C"],
    *,
    alpha: ScalarLike = 0.6,
    beta: ScalarLike = 0.15,
    temperature: ScalarLike = 3.0,
    top_k: int = 1,
    correct_weight: ScalarLike = 1.0,
    score_temperature: ScalarLike = 1.0,
    confidence_threshold: ScalarLike = 0.0,
    task: Task = "timestep",
    where: Bool[ArrayLike, "B"] | None = None,
    time_axis: int = 0,
) -> Float[Array, "B"]:
    r"""SeAl-KD: cross-entropy, error-aware logit alignment and selective temporal alignment together.

    $$L_b = \frac{1}{T} \sum_i \big(\mathrm{CE}_{i,b} + \alpha\, \mathrm{ELA}_{i,b} + \beta\, \mathrm{STA}_{i,b}\big)$$

    Args:
      student_logits: logits of every timestep, `[T, B, C]`.
      teacher_logits: one set of logits per example, `[B, C]`, or one per timestep, `[T, B, C]`.
      labels: class indices, `[B]`, or probabilities, `[B, C]`: for the cross-entropy as they are, and for ELA their
        largest entry is the label.
      alpha: α, the weight of `ela_loss`.
      beta: β, the weight of `sta_loss`.
      temperature: τ of both.
      top_k: see `ela_loss`.
      correct_weight: see `ela_loss`.
      score_temperature: see `sta_loss`.
      confidence_threshold: see `sta_loss`.
      task: the logits for the cross-entropy: those of every "timestep", as in the paper, or their "mean".
      where: the examples that count, bool `[B]`; see `sealkd_jax.losses`.
      time_axis: the axis of T: 0, or 1 for logits `[B, T, C]`; see `sealkd_jax.losses`.

    Returns:
      The loss of every example, `[B]`, in float32 or the wider dtype of the student.

    Raises:
      ValueError, TypeError: as `ela_loss` and `sta_loss`; ValueError for an unknown task.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from sealkd_jax.losses import seal_kd_loss
      >>> student = jnp.array([[[2.0, 0.0, 1.0]], [[0.0, 2.0, 1.0]]])
      >>> teacher, labels = jnp.array([[4.0, 1.0, 0.0]]), jnp.array([0])
      >>> print(jnp.array_str(seal_kd_loss(student, teacher, labels), precision=3))
      [1.936]
      >>> jax.grad(lambda s: seal_kd_loss(s, teacher, labels).mean())(student).shape
      (2, 1, 3)

    Reference:
      arXiv 2605.14252: the whole objective. The paper has α = 0.6, β = 0.15 and τ = 3 on all data sets.
    """
    student = as_student(student_logits)
    alpha, beta = as_scalar("alpha", alpha, student), as_scalar("beta", beta, student)
    ela = ela_loss(student, teacher_logits, labels, temperature=temperature, top_k=top_k, correct_weight=correct_weight)
    sta = sta_loss(
        student,
        temperature=temperature,
        score_temperature=score_temperature,
        confidence_threshold=confidence_threshold,
    )
    return task_loss(student, labels, task) + jnp.mean(alpha * ela + beta * sta, axis=0)


def _competitors(student: jax.Array, is_label: jax.Array, top_k: int) -> jax.Array:
    """Mask `[T, B, C]` of the top_k highest-ranked of the classes that rank before the label."""
    student = jax.lax.stop_gradient(student)
    if top_k == 1:
        return predicted_mask(student) & ~is_label
    best_first = jnp.argsort(student, axis=-1, descending=True)  # stable: the lower index first on ties
    rank = jnp.argsort(best_first, axis=-1)
    label_rank = jnp.min(rank, axis=-1, keepdims=True, where=is_label, initial=rank.shape[-1])
    return rank < jnp.minimum(label_rank, top_k)
