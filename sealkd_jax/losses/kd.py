"""Plain distillation, without any selection of timesteps or classes.

Axes: T timesteps, B batch, C classes. In the equations s are the student's logits, t the teacher's, i and j timesteps,
b is an example, τ the temperature.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
from jax.typing import ArrayLike

from sealkd_jax._checks import as_scalar, as_student, as_teacher
from sealkd_jax.losses._divergence import softened_kl
from sealkd_jax.losses._where import over_examples

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, ScalarLike


@jax.named_scope("kd")
@over_examples
def uniform_kd_loss(
    student_logits: Float[ArrayLike, "T B C"],
    teacher_logits: Float[ArrayLike, "B C"] | Float[ArrayLike, "T B C"],
    *,
    temperature: ScalarLike = 3.0,
    where: Bool[ArrayLike, "B"] | None = None,
    time_axis: int = 0,
) -> Float[Array, "T B"]:
    r"""Distillation of every timestep towards the teacher, all timesteps alike.

    $$\mathrm{KD}_{i,b} = \tau^2\, \mathrm{KL}\big(\operatorname{softmax}(t_b/\tau) \,\Vert\,
      \operatorname{softmax}(s_{i,b}/\tau)\big)$$

    The teacher carries no gradient.

    Args:
      student_logits: logits of every timestep, `[T, B, C]`.
      teacher_logits: one set of logits per example, `[B, C]`, or one per timestep, `[T, B, C]`.
      temperature: τ, above 0.
      where: the examples that count, bool `[B]`; see `sealkd_jax.losses`.
      time_axis: the axis of T: 0, or 1 for logits `[B, T, C]`; see `sealkd_jax.losses`.

    Returns:
      The loss of every timestep and example, `[T, B]`, in float32 or the wider dtype of the student.

    Raises:
      ValueError: a shape does not fit, or the temperature is not above 0.
      TypeError: the logits are not floating.

    Example:
      >>> import jax.numpy as jnp
      >>> from sealkd_jax.losses import uniform_kd_loss
      >>> student = jnp.array([[[2.0, 0.0, 1.0]], [[0.0, 2.0, 1.0]]])
      >>> print(jnp.array_str(uniform_kd_loss(student, jnp.array([[4.0, 1.0, 0.0]])), precision=3))
      [[0.682]
       [3.007]]

    Reference:
      arXiv 1503.02531 (Hinton et al.), applied to each timestep: the loss that SeAl-KD refines.
    """
    student = as_student(student_logits)
    teacher = as_teacher(teacher_logits, student)
    return softened_kl(teacher, student, as_scalar("temperature", temperature, student, above=0))


@over_examples
def mean_kd_loss(
    student_logits: Float[ArrayLike, "T B C"],
    teacher_logits: Float[ArrayLike, "B C"] | Float[ArrayLike, "T B C"],
    *,
    temperature: ScalarLike = 4.0,
    where: Bool[ArrayLike, "B"] | None = None,
    time_axis: int = 0,
) -> Float[Array, "B"]:
    r"""Distillation of the final output, the mean of the logits over timesteps.

    $$\mathrm{KD}_b = \tau^2\, \mathrm{KL}\Big(\operatorname{softmax}(t_b/\tau) \,\Vert\,
      \operatorname{softmax}\Big(\frac{1}{\tau T} \sum_i s_{i,b}\Big)\Big)$$

    If the teacher has timesteps, the mean of its logits is the target.

    Args:
      student_logits: logits of every timestep, `[T, B, C]`.
      teacher_logits: one set of logits per example, `[B, C]`, or one per timestep, `[T, B, C]`.
      temperature: τ, above 0.
      where: the examples that count, bool `[B]`; see `sealkd_jax.losses`.
      time_axis: the axis of T: 0, or 1 for logits `[B, T, C]`; see `sealkd_jax.losses`.

    Returns:
      The loss of every example, `[B]`.

    Raises:
      ValueError, TypeError: as `uniform_kd_loss`.

    Example:
      >>> import jax.numpy as jnp
      >>> from sealkd_jax.losses import mean_kd_loss
      >>> student = jnp.array([[[2.0, 0.0, 1.0]], [[0.0, 2.0, 1.0]]])
      >>> print(jnp.array_str(mean_kd_loss(student, jnp.array([[1.0, 1.0, 1.0]])), precision=3))
      [0.]

    Reference:
      arXiv 1503.02531 (Hinton et al.), applied to mean logits, as is usual for spiking networks.
    """
    student = as_student(student_logits)
    teacher = as_teacher(teacher_logits, student)
    return uniform_kd_loss(student.mean(axis=0, keepdims=True), teacher.mean(axis=0), temperature=temperature)[0]


@jax.named_scope("sd")
@over_examples
def self_distillation_loss(
    student_logits: Float[ArrayLike, "T B C"],
    *,
    temperature: ScalarLike = 3.0,
    where: Bool[ArrayLike, "B"] | None = None,
    time_axis: int = 0,
) -> Float[Array, "T B"]:
    r"""Distillation of every timestep towards the student's own final output.

    $$\mathrm{KD}_{i,b} = \tau^2\, \mathrm{KL}\Big(\operatorname{softmax}\Big(\frac{1}{\tau T} \sum_j s_{j,b}\Big)
      \,\Vert\, \operatorname{softmax}(s_{i,b}/\tau)\Big)$$

    The mean carries no gradient.

    Args:
      student_logits: logits of every timestep, `[T, B, C]`.
      temperature: τ, above 0.
      where: the examples that count, bool `[B]`; see `sealkd_jax.losses`.
      time_axis: the axis of T: 0, or 1 for logits `[B, T, C]`; see `sealkd_jax.losses`.

    Returns:
      The loss of every timestep and example, `[T, B]`; 0 for T = 1.

    Raises:
      ValueError, TypeError: as `uniform_kd_loss`.

    Example:
      >>> import jax.numpy as jnp
      >>> from sealkd_jax.losses import self_distillation_loss
      >>> student = jnp.array([[[2.0, 0.0, 1.0]], [[0.0, 2.0, 1.0]]])
      >>> print(jnp.array_str(self_distillation_loss(student), precision=3))
      [[0.33]
       [0.33]]

    Reference:
      arXiv 2501.15925, the temporal self-distillation term in its ensemble form.
    """
    student = as_student(student_logits)
    return uniform_kd_loss(student, student.mean(axis=0), temperature=temperature)
