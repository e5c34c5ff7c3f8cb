"""`where` and `time_axis`, which every loss takes: which examples count, and the axis of the timesteps.

Axes: T timesteps, B batch, C classes.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from sealkd_jax._checks import (
    are_soft,
    as_labels,
    as_soft_labels,
    as_student,
    as_teacher,
    as_time_first,
    as_where,
    is_known,
)

_Loss = TypeVar("_Loss", bound=Callable[..., jax.Array])


class Examples(NamedTuple):
    """The arguments of a loss with time first; those of examples that do not count are replaced by zeros.

    Zeros have a finite loss and gradient, so that a NaN or a padded label never meets the examples that count: a mask
    of the loss alone would leave 0 · NaN in the gradient.
    """

    student: jax.Array
    teacher: ArrayLike | None
    labels: ArrayLike | None
    keep: jax.Array | None  # bool [B]; None: all


def choose_examples(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike | None,
    labels: ArrayLike | None,
    where: ArrayLike | None,
    time_axis: int,
) -> Examples:
    """The arguments of a loss as it was called, in the form to compute with."""
    student = as_student(student_logits, time_axis)
    teacher = None if teacher_logits is None else as_time_first("teacher_logits", teacher_logits, time_axis)
    if where is None:
        return Examples(student, teacher, labels, None)
    keep = as_where(where, student.shape[1])
    if teacher is not None:
        teacher = jnp.where(keep[None, :, None], as_teacher(teacher, student), 0).reshape(teacher.shape)
    if labels is not None:
        labels = _of_examples(labels, where, keep, student.shape[2])
    return Examples(jnp.where(keep[None, :, None], student, 0), teacher, labels, keep)


def _of_examples(labels: ArrayLike, where: ArrayLike, keep: jax.Array, classes: int) -> ArrayLike:
    """The labels, with those of examples that do not count replaced: by class 0, or by equal probabilities."""
    soft = are_soft(labels)
    if soft and np.shape(labels) != (len(keep), classes):
        as_soft_labels(labels, len(keep), classes)  # raises
    elif not soft:
        as_labels(labels, len(keep))
    if is_known(labels) and is_known(where):  # labels that count are still checked
        known = np.asarray(where)
        return np.where(known[:, None] if soft else known, np.asarray(labels), np.asarray(labels).dtype.type(soft))
    labels = jnp.asarray(labels)
    return jnp.where(keep[:, None] if soft else keep, labels, jnp.asarray(soft, labels.dtype))


def over_examples(loss: _Loss) -> _Loss:
    """Decorator: gives a loss of each example its arguments `where` and `time_axis`.

    The loss declares both, for readers of its signature, and is called without them. Its batch axis is the last.
    """
    signature = inspect.signature(loss)

    @functools.wraps(loss)
    def wrapped(*args: Any, where: ArrayLike | None = None, time_axis: int = 0, **kwargs: Any) -> jax.Array:
        if where is None and time_axis == 0:
            return loss(*args, **kwargs)
        call = signature.bind(*args, **kwargs).arguments
        given = call["student_logits"], call.get("teacher_logits"), call.get("labels")
        chosen = choose_examples(*given, where, time_axis)
        inputs = {"student_logits": chosen.student, "teacher_logits": chosen.teacher, "labels": chosen.labels}
        result = loss(**call | {name: value for name, value in inputs.items() if name in call})
        if chosen.keep is not None:
            result = jnp.where(jnp.expand_dims(chosen.keep, range(result.ndim - 1)), result, 0)
        return jnp.moveaxis(result, -1, 0) if time_axis else result

    return wrapped  # type: ignore[return-value]


def mean_over(values: jax.Array, keep: jax.Array | None, axis: int, axis_name: Hashable | None = None) -> jax.Array:
    """The mean of all numbers of the examples that count, 0 if none does; `axis` is that of the batch.

    With an `axis_name`, the mean over that axis of the results is the mean over all shards, which may have different
    numbers of examples that count.
    """
    if keep is None:
        return values.mean()
    count = keep.sum(dtype=values.dtype) * (values.size // len(keep))
    if axis_name is not None:
        count = jax.lax.pmean(count, axis_name)
    mask = jnp.expand_dims(keep, [i for i in range(values.ndim) if i != axis])
    return jnp.where(mask, values, 0).sum() / jnp.where(count > 0, count, 1)
