"""Arithmetic that the losses share: the Kullback-Leibler divergence, and masks that single out one class.

Axes: T timesteps, B batch, C classes, always last.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from sealkd_jax._checks import as_student, as_teacher, is_known


def kl(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    """KL(p || q) = Σ_c p (log p − log q) of log-probabilities, over the last axis."""
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


def softened(logits: jax.Array, temperature: jax.Array) -> jax.Array:
    """log softmax(logits/τ), over the last axis."""
    shifted = _from_highest(logits, temperature)
    return shifted - jnp.log(jnp.sum(jnp.exp(shifted), axis=-1, keepdims=True))


def softened_kl(target: jax.Array, student: jax.Array, temperature: jax.Array) -> jax.Array:
    """KD_τ = τ² KL(softmax(target/τ) ‖ softmax(student/τ)); the target carries no gradient.

    The factor τ² keeps the size of the gradient, τ (q − p), the same for all τ (arXiv 1503.02531).
    """
    a, b = _from_highest(jax.lax.stop_gradient(target), temperature), _from_highest(student, temperature)
    p, q = jnp.exp(a), jnp.exp(b)  # not yet divided by their sums
    p_sum, q_sum = p.sum(axis=-1), q.sum(axis=-1)
    return temperature**2 * (jnp.sum(p * (a - b), axis=-1) / p_sum - jnp.log(p_sum) + jnp.log(q_sum))


def _from_highest(logits: jax.Array, temperature: jax.Array) -> jax.Array:
    """(logits − max)/τ. In this order, equal logits stay exactly equal however the compiler fuses the two."""
    highest = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    # A temperature for each row, NaN where its highest logit is NaN. With one scalar for all rows, XLA's CPU compiler
    # fuses the maximum, the difference and the quotient, and writes out its intermediates, `[T, B, C]` each.
    return (logits - highest) / jnp.where(jnp.isnan(highest), highest, temperature)


# Masks instead of gathers and scatters: they fuse with the operations around them.


def predicted_mask(student: jax.Array) -> jax.Array:
    """Mask `[T, B, C]` of the highest logit `[T, B, C]`; on ties the lowest index."""
    # Two plain reductions of floats: on a CPU, argmax carries pairs and is half as fast; integers are slower too. The
    # cast back keeps XLA from fusing the minimum with its use, as in `ela_loss`.
    classes = jnp.arange(student.shape[-1])[None, None, :]
    highest = student == student.max(axis=-1, keepdims=True)
    first = jnp.min(jnp.where(highest, classes.astype(student.dtype), student.shape[-1]), axis=-1)
    return classes == first.astype(classes.dtype)[..., None]


def wrong_mask(student: jax.Array, is_label: jax.Array) -> jax.Array:
    """Mask `[T, B]` of the timesteps whose prediction is not the label, `[1, B, C]`."""
    return ~jnp.any(predicted_mask(student) & is_label, axis=-1)


def value_at(mask: jax.Array, values: jax.Array) -> jax.Array:
    """The entry of `values[T, B, C]` at which the mask is true, `[T, B]`; NaN where the mask is true nowhere."""
    picked = jnp.sum(jnp.where(mask, values, 0), axis=-1)
    return jnp.where(mask.any(axis=-1), picked, jnp.nan)


def correct_sum(student: jax.Array, is_label: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The sum `[B, C]` of the logits over the timesteps with a correct prediction, and their number `[B, 1]`."""
    correct = ~wrong_mask(student, is_label)[:, :, None]
    return jnp.where(correct, student, 0).sum(axis=0), correct.sum(axis=0, dtype=student.dtype)


def final_outputs(student_logits: ArrayLike, teacher_logits: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """The final outputs of student and teacher, each as a single timestep `[1, B, C]`."""
    student = as_student(student_logits)
    teacher = as_teacher(teacher_logits, student)
    return student.mean(axis=0, keepdims=True), teacher.mean(axis=0, keepdims=True)


def refuse_masked(teacher_logits: ArrayLike, why: str) -> None:
    """Raises a `ValueError` if a class of the teacher is known to be masked by −∞; `why` says what that would do."""
    if is_known(teacher_logits) and np.any(np.asarray(teacher_logits) == -np.inf):
        raise ValueError(f"teacher_logits: expected finite logits, got -inf: {why}; give it a low logit such as -30")


def euclidean_norm(x: jax.Array, axis: int) -> jax.Array:
    """The Euclidean norm along an axis, which stays; its gradient at 0 is 0."""
    squared = jnp.sum(x**2, axis=axis, keepdims=True)
    # The inner `where` keeps the gradient of the square root at 0 from being 0 · ∞ = NaN.
    return jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1)), 0)
