"""The loss of the SeAl-KD method card: a coarser form of the paper's loss, scalar and coupled over the batch.

Axes: T timesteps, B batch, C classes. In the equations i is a timestep, b an example and y its label, z are the
student's logits, t the teacher's, τ is the temperature. docs/method-card.md maps the card's arguments to these.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sealkd_jax._checks import as_label_mask, as_scalar, as_teacher
from sealkd_jax.losses._divergence import kl, predicted_mask, softened, value_at, wrong_mask
from sealkd_jax.losses._where import choose_examples

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Integer, ScalarLike

ALIGNMENT_WEIGHT = 0.01
NORM_FLOOR = 1e-8


@jax.named_scope("card")
def card_seal_kd_loss(
    student_logits: Float[ArrayLike, "T B C"],
    teacher_logits: Float[ArrayLike, "B C"] | Float[ArrayLike, "T B C"],
    labels: Integer[ArrayLike, "B"] | Float[ArrayLike, "B C"],
    *,
    temperature: ScalarLike = 2.0,
    axis_name: Hashable | None = None,
    where: Bool[ArrayLike, "B"] | None = None,
    time_axis: int = 0,
) -> Float[Array, ""]:
    r"""SeAl-KD in the form of its method card.

    With the student's logits $z$, its confidence $c_{i,b} = \max \operatorname{softmax}(z_{i,b}/\tau)$ and its errors
    $E_i = \{b : \operatorname{argmax} z_{i,b} \neq y_b\}$, the loss is the sum over timesteps of two terms. If $E_i$ is
    not empty, over all examples and without the factor τ²,

    $$\Big(1 - \frac{1}{|E_i|} \sum_{b \in E_i} c_{i,b}\Big) \cdot \frac{1}{B} \sum_b \mathrm{KL}\big(
      \operatorname{softmax}(t_{i,b}/\tau) \,\Vert\, \operatorname{softmax}(z_{i,b}/\tau)\big)$$

    and from the second timestep on, with the logistic function σ,

    $$0.01 \cdot \frac{1}{B} \sum_b \sigma\big(\cos(z_{i,b}, z_{i-1,b})\big)\, c_{i,b}$$

    Everything carries gradient, including the weights and the teacher. Norms in the cosine are at least 1e-8; on ties
    the gradient of c goes to the lowest index alone.

    Args:
      student_logits: logits of every timestep, `[T, B, C]`.
      teacher_logits: logits of a spiking teacher, `[T, B, C]`, or one set of logits per example, `[B, C]`.
      labels: class indices, `[B]`, or probabilities, `[B, C]`, whose largest entry is then the label.
      temperature: τ, above 0.
      axis_name: under `jax.pmap`, `jax.shard_map` or a named `jax.vmap`, the axis that B is split over. The batch is
        gathered over it, so every device returns the loss of the whole batch, and the mean over the axis of the
        parameters' gradients is the gradient of that loss. Under `jax.jit` with a sharded batch leave it None.
      where: the examples that count, bool `[B]`; see `sealkd_jax.losses`.
      time_axis: the axis of T: 0, or 1 for logits `[B, T, C]`; see `sealkd_jax.losses`.

    Returns:
      The loss, a scalar in float32 or the wider dtype of the student.

    Raises:
      ValueError: a shape does not fit, a label is outside [0, C), or the temperature is not above 0.
      TypeError: the logits are not floating, or the labels not integers.

    Example:
      >>> import jax.numpy as jnp
      >>> from sealkd_jax.losses import card_seal_kd_loss
      >>> student = jnp.array([[[2.0, 0.0, 1.0]], [[0.0, 2.0, 1.0]]])
      >>> teacher = jnp.array([[4.0, 1.0, 0.0]])
      >>> print(f"{card_seal_kd_loss(student, teacher, jnp.array([0])):.3f}")
      0.355

    Reference:
      The method card of SeAl-KD; arXiv 2605.14252 is the paper it summarises, whose loss is `seal_kd_loss`.
    """
    student, given, known, keep = choose_examples(student_logits, teacher_logits, labels, where, time_axis)
    teacher, is_label = as_teacher(given, student), as_label_mask(known, student)
    keep = jnp.ones(is_label.shape[:2], bool) if keep is None else keep[None]
    temperature = as_scalar("temperature", temperature, student, above=0)
    if axis_name is not None:
        student, teacher, is_label, keep = (
            jax.lax.all_gather(x, axis_name, axis=1, tiled=True) for x in (student, teacher, is_label, keep)
        )
    examples = jnp.maximum(keep.sum(dtype=student.dtype), 1)

    log_q = softened(student, temperature)
    # Not a maximum, whose gradient JAX would split among ties.
    confidence = jnp.exp(value_at(predicted_mask(student), log_q))

    wrong = wrong_mask(student, is_label) & keep
    count = wrong.sum(axis=1, dtype=student.dtype)
    confidence_in_errors = jnp.where(wrong, confidence, 0).sum(axis=1) / jnp.maximum(count, 1)
    divergence = jnp.where(keep, kl(softened(teacher, temperature), log_q), 0).sum(axis=1) / examples
    correction = jnp.where(count > 0, (1 - confidence_in_errors) * divergence, 0)

    squared = jnp.sum(student**2, axis=-1, keepdims=True)
    # The inner `where` keeps the gradient of the square root at zero from being 0 · ∞ = NaN.
    norm = jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1)), 0)
    direction = student / jnp.maximum(norm, NORM_FLOOR)
    cosine = jnp.sum(direction[1:] * direction[:-1], axis=-1)
    alignment = jnp.where(keep, jax.nn.sigmoid(cosine) * confidence[1:], 0).sum(axis=1) / examples

    loss = correction.sum() + ALIGNMENT_WEIGHT * alignment.sum()
    return jnp.where(is_label.any(axis=-1).all(), loss, jnp.nan)
