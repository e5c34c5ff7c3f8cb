"""Checks of arguments that losses, neurons and diagnostics share.

They run while JAX traces, so a wrong call never reaches the device. Each takes an argument as the user gave it and
returns it in the form to compute with, or raises a `ValueError` (shape, value) or `TypeError` (dtype) that names the
argument, what was expected and what came. Values that tracing hides are not checked.

Axes: T timesteps, B batch, C classes.
"""

import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

MASKED = -1e30
"""The logit of a masked class: low enough for any temperature, and far from the end of float32."""


def at_least_float32(dtype: DTypeLike) -> jnp.dtype:
    """The dtype to compute in: the given floating dtype, or float32 where that is wider."""
    return jnp.dtype(dtype if jnp.finfo(dtype).bits >= 32 else "float32")


def as_array(name: str, values: ArrayLike | None, expected: str) -> jax.Array:
    """An array of numbers; `expected` says in the message what the argument should be."""
    if values is None:
        raise ValueError(f"{name}: expected {expected}, got None")
    try:
        return jnp.asarray(values)
    except (TypeError, ValueError) as error:  # a text, a mapping, nested lists of different lengths
        found = getattr(values, "dtype", type(values).__name__)
        raise TypeError(f"{name}: expected {expected}, got {found} that is no array of numbers") from error


def as_floating(name: str, values: ArrayLike | None, expected: str) -> jax.Array:
    """A floating array, as `as_array`."""
    values = as_array(name, values, expected)
    if not jnp.issubdtype(values.dtype, jnp.floating):
        hint = "" if jnp.issubdtype(values.dtype, jnp.complexfloating) else f"; write {name}.astype('float32')"
        raise TypeError(f"{name}: expected a floating dtype, got {values.dtype}{hint}")
    return values


def as_logits(name: str, logits: ArrayLike, *, shape: str = "[T, B, C]", classes: int = 1) -> jax.Array:
    """Logits `[T, B, C]` of at least this many classes, in float32 or their wider dtype."""
    logits = as_floating(name, logits, f"logits of shape {shape}")
    if logits.ndim != 3 or 0 in logits.shape or logits.shape[2] < classes:
        expected = f"{shape} with T >= 1, B >= 1 and C >= {classes}"
        raise ValueError(f"{name}: expected shape {expected}, got {list(logits.shape)}")
    return logits.astype(at_least_float32(logits.dtype))


def as_time_first(name: str, values: ArrayLike, time_axis: int) -> jax.Array:
    """Logits or spikes whose timesteps, if they have three axes or more, are on the first."""
    if time_axis not in (0, 1):
        raise ValueError(f"time_axis: expected 0, for {name} [T, B, ...], or 1, for [B, T, ...]; got {time_axis}")
    values = as_array(name, values, "an array")
    return jnp.swapaxes(values, 0, 1) if time_axis and values.ndim >= 3 else values


def as_where(where: ArrayLike, batch: int) -> jax.Array:
    """Which examples count, bool `[B]`."""
    where = as_array("where", where, f"bool of shape [B] = [{batch}]")
    if where.dtype != bool:
        raise TypeError(f"where: expected bool, true for each example that counts, got {where.dtype}")
    if where.shape != (batch,):
        raise ValueError(f"where: expected shape [B] = [{batch}], got {list(where.shape)}")
    return where


def as_student(student_logits: ArrayLike, time_axis: int = 0) -> jax.Array:
    """Student logits as `[T, B, C]`, in the dtype to compute in."""
    if time_axis and student_logits is not None:
        student_logits = as_time_first("student_logits", student_logits, time_axis)
    return as_logits("student_logits", student_logits, classes=2)


def as_teacher(teacher_logits: ArrayLike | None, student: jax.Array) -> jax.Array:
    """Teacher logits `[B, C]` or `[T, B, C]` as `[1, B, C]` or `[T, B, C]`, in the dtype of the student.

    A masked class, −∞, becomes a logit so low that its probability is exactly 0, and 0 · log 0 is 0.
    """
    logits = as_floating("teacher_logits", teacher_logits, "logits of shape [B, C] or [T, B, C]")
    if logits.shape not in (student.shape, student.shape[1:]):
        raise ValueError(
            f"teacher_logits: expected shape [B, C] = {list(student.shape[1:])} or [T, B, C] = "
            f"{list(student.shape)}, as the student's, got {list(logits.shape)}"
        )
    logits = logits.astype(student.dtype).reshape(-1, *student.shape[1:])
    return jnp.where(logits == -jnp.inf, MASKED, logits)


def as_labels(labels: ArrayLike | None, batch: int) -> jax.Array:
    """Labels `[B]`, of any integer dtype; their range is not checked."""
    labels = as_array("labels", labels, f"class indices of shape [B] = [{batch}]")
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(
            f"labels: expected an integer dtype, got {labels.dtype}; write labels.astype('int32'), or give the losses "
            "probabilities of shape [B, C]"
        )
    if labels.shape != (batch,):
        raise ValueError(f"labels: expected class indices of shape [B] = [{batch}], got {list(labels.shape)}")
    return labels


def are_soft(labels: ArrayLike | None) -> bool:
    """Whether the labels are probabilities `[B, C]`, in any floating dtype, and not class indices `[B]`."""
    if labels is None:
        return False
    labels = as_array("labels", labels, "class indices of shape [B], or probabilities of shape [B, C]")
    return labels.ndim == 2 and jnp.issubdtype(labels.dtype, jnp.floating)


def as_soft_labels(labels: ArrayLike, batch: int, classes: int) -> jax.Array:
    """Labels as probabilities `[B, C]`. Each row that tracing does not hide has a positive, finite sum."""
    if np.shape(labels) != (batch, classes):
        expected = f"class indices of shape [B] = [{batch}], or probabilities of shape [B, C] = [{batch}, {classes}]"
        raise ValueError(f"labels: expected {expected}, got {list(np.shape(labels))}")
    if is_known(labels):
        known = np.asarray(labels).astype("float64")
        sums = known.sum(axis=1)
        if not (np.isfinite(sums) & (sums > 0)).all() or (known < 0).any():
            raise ValueError("labels: expected probabilities: at least 0, finite, and in no row all 0")
    return jnp.asarray(labels)


def as_label_mask(labels: ArrayLike | None, student: jax.Array) -> jax.Array:
    """Labels as the mask `[1, B, C]` that is true at the label alone; of probabilities, at the largest entry.

    A trace hides the labels. The mask of one that is out of range is true nowhere, and the losses return NaN there.
    """
    _, batch, classes = student.shape
    if are_soft(labels):
        assert labels is not None
        soft = as_soft_labels(labels, batch, classes)
        # The lowest index on ties; none where a row has NaN, whose loss is then NaN.
        labels = jnp.where(jnp.isnan(soft).any(axis=1), -1, jnp.argmax(soft, axis=1))
        return labels.astype(jnp.int32)[None, :, None] == jnp.arange(classes, dtype=jnp.int32)[None, None, :]
    given, labels = labels, as_labels(labels, batch)
    require_labels(given, classes)
    return labels.astype(jnp.int32)[None, :, None] == jnp.arange(classes, dtype=jnp.int32)[None, None, :]


def require_labels(labels: ArrayLike | None, classes: int, where: ArrayLike | None = None) -> None:
    """Raise a `ValueError` unless all labels, or those that count, are in [0, C)."""
    if is_known(labels) and is_known(where):
        known = np.asarray(labels) if where is None else np.asarray(labels)[np.asarray(where)]
        wrong = known[(known < 0) | (known >= classes)]
        if wrong.size:
            raise ValueError(f"labels: expected class indices in [0, C) = [0, {classes}), got {wrong[0]}")


def require(
    name: str, value: ArrayLike, expected: str, holds: Callable[..., ArrayLike], *others: ArrayLike, hint: str = ""
) -> None:
    """Raise a `ValueError` unless the value is real and `holds(value, *others)`; the hint ends its message."""
    if not all(map(is_known, (value, *others))):
        return
    if np.asarray(value).dtype.kind in "OSUc":  # None, texts and complex numbers
        raise ValueError(f"{name}: expected {expected}, got {value!r}{hint}")
    if not np.all(holds(*map(np.asarray, (value, *others)))):
        raise ValueError(f"{name}: expected {expected}, got {value}{hint}")


def as_scalar(name: str, value: ArrayLike, like: jax.Array, *, above: float | None = None) -> jax.Array:
    """A finite number, perhaps above a bound, in the dtype of `like`."""
    if np.shape(value) != ():
        raise ValueError(f"{name}: expected a scalar, got shape {list(np.shape(value))}")
    if above is not None:
        require(name, value, f"a number above {above:g}", lambda v: v > above)
    require(name, value, "a finite number", np.isfinite)
    return jnp.asarray(value, like.dtype)


def as_share(name: str, value: ArrayLike, like: jax.Array) -> jax.Array:
    """A number in [0, 1], in the dtype of `like`."""
    share = as_scalar(name, value, like)
    require(name, value, "a number in [0, 1]", lambda v: (v >= 0) & (v <= 1))
    return share


def as_count(name: str, value: int) -> int:
    """A plain integer of at least 1."""
    try:
        count = operator.index(value)
    except TypeError as error:
        raise TypeError(f"{name}: expected a plain integer, got {value!r}") from error
    if count < 1:
        raise ValueError(f"{name}: expected at least 1, got {count}")
    return count


def as_choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    """One of a few names."""
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {value!r}")
    return value


def is_known(value: ArrayLike | None) -> bool:
    """Whether this process can read the value now: no tracer, and no array with shards on other hosts."""
    return not isinstance(value, jax.core.Tracer) and getattr(value, "is_fully_addressable", True)
