"""What every loss asks of its arguments, checked while JAX traces: a wrong call never reaches the device.

Axes: T timesteps, B batch, C classes.

Each function takes an argument as the user gave it and returns it in the one form the losses work with, or
raises a `ValueError` (shape, value) or `TypeError` (dtype) that names the argument, what was expected and
what came.
"""

import operator

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike


def as_student(student_logits: ArrayLike) -> jax.Array:
    """Student logits `[T, B, C]` in the dtype to compute in: their own, or float32 where that is wider."""
    logits = _as_logits("student_logits", student_logits, "[T, B, C]")
    if logits.ndim != 3 or logits.shape[0] < 1 or logits.shape[1] < 1 or logits.shape[2] < 2:
        raise ValueError(
            f"student_logits: expected shape [T, B, C] with T >= 1, B >= 1 and C >= 2, got {list(logits.shape)}"
        )
    return logits if jnp.finfo(logits.dtype).bits >= 32 else logits.astype(jnp.float32)


def as_teacher(teacher_logits: ArrayLike | None, student: jax.Array) -> jax.Array:
    """Teacher logits `[B, C]` or `[T, B, C]` as `[1, B, C]` or `[T, B, C]`, in the dtype of the student."""
    logits = _as_logits("teacher_logits", teacher_logits, "[B, C] or [T, B, C]")
    if logits.shape not in (student.shape, student.shape[1:]):
        raise ValueError(
            f"teacher_logits: expected shape [B, C] = {list(student.shape[1:])} or [T, B, C] = "
            f"{list(student.shape)} to go with student_logits, got {list(logits.shape)}"
        )
    return logits.astype(student.dtype).reshape(-1, *student.shape[1:])


def as_label_mask(labels: ArrayLike, student: jax.Array) -> jax.Array:
    """Labels `[B]` as the mask `[1, B, C]` that is true at the label alone.

    Their range is checked where they are concrete. A trace cannot see it: there the losses answer with NaN, by
    `value_at` or where the mask is true nowhere.
    """
    _, batch, classes = student.shape
    if labels is None:
        raise ValueError(f"labels: expected class indices of shape [B] = [{batch}], got None")
    visible = not isinstance(labels, jax.core.Tracer) and getattr(labels, "is_fully_addressable", True)
    given, labels = labels, jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels: expected an integer dtype, got {labels.dtype}")
    if labels.shape != (batch,):
        raise ValueError(
            f"labels: expected class indices of shape [B] = [{batch}] to go with student_logits, "
            f"got {list(labels.shape)}"
        )
    if visible:
        lowest, highest = np.asarray(given).min(), np.asarray(given).max()
        if lowest < 0 or highest >= classes:
            got = lowest if lowest < 0 else highest
            raise ValueError(f"labels: expected class indices in [0, C) = [0, {classes}), got {got}")
    return labels.astype(jnp.int32)[None, :, None] == jnp.arange(classes, dtype=jnp.int32)[None, None, :]


def as_scalar(name: str, value: ArrayLike, like: jax.Array, *, above: float | None = None) -> jax.Array:
    """A hyper-parameter, number or array, in the dtype of `like`; checked against a bound where concrete."""
    if jnp.shape(value) != ():
        raise ValueError(f"{name}: expected a scalar, got shape {list(jnp.shape(value))}")
    if not isinstance(value, jax.core.Tracer):
        if above is not None and not float(np.asarray(value)) > above:
            raise ValueError(f"{name}: expected a number above {above:g}, got {value}")
        if not np.isfinite(np.asarray(value)):
            raise ValueError(f"{name}: expected a finite number, got {value}")
    return jnp.asarray(value, like.dtype)


def as_share(name: str, value: ArrayLike, like: jax.Array) -> jax.Array:
    """A hyper-parameter in [0, 1], checked where concrete."""
    if not isinstance(value, jax.core.Tracer) and jnp.shape(value) == () and not 0 <= float(np.asarray(value)) <= 1:
        raise ValueError(f"{name}: expected a number in [0, 1], got {value}")
    return as_scalar(name, value, like)


def as_count(name: str, value: int) -> int:
    """A number of things, at least one, known at trace time."""
    try:
        count = operator.index(value)
    except TypeError as error:
        raise TypeError(f"{name}: expected a plain integer, got {value!r}") from error
    if count < 1:
        raise ValueError(f"{name}: expected at least 1, got {count}")
    return count


def as_choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    """One of a few named variants."""
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {value!r}")
    return value


def _as_logits(name: str, logits: ArrayLike | None, shape: str) -> jax.Array:
    if logits is None:
        raise ValueError(f"{name}: expected logits of shape {shape}, got None")
    logits = jnp.asarray(logits)
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise TypeError(f"{name}: expected a floating dtype, got {logits.dtype}")
    return logits
