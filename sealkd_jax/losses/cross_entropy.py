"""The task loss: cross-entropy of every timestep, or of the final output.

Axes: T timesteps, B batch, C classes. In the equations i is a timestep, b an example and y its label, s are the
student's logits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sealkd_jax._checks import are_soft, as_choice, as_label_mask, as_soft_labels, as_student
from sealkd_jax.losses._divergence import value_at
from sealkd_jax.losses._where import over_examples

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Integer

Task = Literal["timestep", "mean"]


@jax.named_scope("ce")
@over_examples
def ce_loss(
    student_logits: Float[ArrayLike, "T B C"],
    labels: Integer[ArrayLike, "B"] | Float[ArrayLike, "B C"],
    *,
    where: Bool[ArrayLike, "B"] | None = None,
    time_axis: int = 0,
) -> Float[Array, "T B"]:
    r"""Cross-entropy of every timestep, without a temperature.

    $$\mathrm{CE}_{i,b} = -\log \operatorname{softmax}(s_{i,b})_{y_b}$$

    and of labels that are probabilities $q_b$

    $$\mathrm{CE}_{i,b} = -\sum_c q_{b,c} \log \operatorname{softmax}(s_{i,b})_c$$

    Args:
      student_logits: logits of every timestep, `[T, B, C]`.
      labels: class indices, `[B]`, or probabilities, `[B, C]`. The sum of a row is the weight of its example, 1
        for probabilities.
      where: the examples that count, bool `[B]`; see `sealkd_jax.losses`.
      time_axis: the axis of T: 0, or 1 for logits `[B, T, C]`; see `sealkd_jax.losses`.

    Returns:
      The loss of every timestep and example, `[T, B]`, in float32 or the wider dtype of the logits. It is NaN for a
      label outside [0, C) that tracing hides from the check.

    Raises:
      ValueError: a shape does not fit, a label is outside [0, C), or probabilities are negative, not finite or all 0.
      TypeError: the logits are not floating, or the labels neither integers nor probabilities.

    Example:
      >>> import jax.numpy as jnp
      >>> from sealkd_jax.losses import ce_loss
      >>> student = jnp.array([[[2.0, 0.0, 1.0]], [[0.0, 0.0, 0.0]]])  # T = 2, B = 1, C = 3
      >>> print(jnp.array_str(ce_loss(student, jnp.array([0])), precision=3))
      [[0.408]
       [1.099]]

    Reference:
      arXiv 2605.14252: the task loss, averaged over timesteps.
    """
    student = as_student(student_logits)
    highest = jax.lax.stop_gradient(student.max(axis=-1))
    if are_soft(labels):
        target = as_soft_labels(labels, *student.shape[1:]).astype(student.dtype)[None]
        shifted = student - highest[..., None]
        log_sum = jnp.log(jnp.sum(jnp.exp(shifted), axis=-1))
        return log_sum * target.sum(axis=-1) - jnp.sum(target * shifted, axis=-1)
    # Not a log-softmax, which would compute every class for the sake of one.
    of_label = value_at(as_label_mask(labels, student), student) - highest
    return jnp.log(jnp.sum(jnp.exp(student - highest[..., None]), axis=-1)) - of_label


@over_examples
def mean_ce_loss(
    student_logits: Float[ArrayLike, "T B C"],
    labels: Integer[ArrayLike, "B"] | Float[ArrayLike, "B C"],
    *,
    where: Bool[ArrayLike, "B"] | None = None,
    time_axis: int = 0,
) -> Float[Array, "B"]:
    r"""Cross-entropy of the final output, the mean of the logits over timesteps.

    $$\mathrm{CE}_b = -\log \operatorname{softmax}\Big(\frac{1}{T} \sum_i s_{i,b}\Big)_{y_b}$$

    Args:
      student_logits: logits of every timestep, `[T, B, C]`.
      labels: class indices, `[B]`, or probabilities, `[B, C]`; see `ce_loss`.
      where: the examples that count, bool `[B]`; see `sealkd_jax.losses`.
      time_axis: the axis of T: 0, or 1 for logits `[B, T, C]`; see `sealkd_jax.losses`.

    Returns:
      The loss of every example, `[B]`.

    Raises:
      ValueError, TypeError: as `ce_loss`.

    Example:
      >>> import jax.numpy as jnp
      >>> from sealkd_jax.losses import mean_ce_loss
      >>> student = jnp.array([[[2.0, 0.0, 1.0]], [[0.0, 2.0, 1.0]]])
      >>> print(jnp.array_str(mean_ce_loss(student, jnp.array([0])), precision=3))
      [1.099]
    """
    return ce_loss(as_student(student_logits).mean(axis=0, keepdims=True), labels)[0]


def task_loss(student_logits: ArrayLike, labels: ArrayLike, task: Task) -> jax.Array:
    """The cross-entropy of each example, `[B]`: mean of `ce_loss` over timesteps, or `mean_ce_loss`."""
    if as_choice("task", task, ("timestep", "mean")) == "mean":
        return mean_ce_loss(student_logits, labels)
    return ce_loss(student_logits, labels).mean(axis=0)
