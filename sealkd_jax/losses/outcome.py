"""What a method of `METHODS` returns: the scalar to minimise, and its parts for plots.

Axes: T timesteps, B batch, C classes.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sealkd_jax.losses._checks import as_label_mask, as_scalar, as_student
from sealkd_jax.losses.masks import wrong_mask

Outcome = tuple[jax.Array, dict[str, jax.Array]]
Method = Callable[..., Outcome]
"""What `METHODS` holds: logits, teacher logits and labels to a scalar and its terms."""


def outcome(student_logits: ArrayLike, labels: ArrayLike, **terms: tuple[ArrayLike, jax.Array]) -> Outcome:
    """Σ weight · mean(loss) over the terms name=(weight, loss), and the unweighted means by name.

    Beside them stands "wrong", the share of timesteps, over all examples, whose prediction is not the label.
    """
    student = as_student(student_logits)
    means = {name: loss.mean() for name, (_, loss) in terms.items()}
    weighted = (as_scalar(f"weight of {name}", weight, student) * means[name] for name, (weight, _) in terms.items())
    wrong = wrong_mask(student, as_label_mask(labels, student))
    return functools.reduce(jnp.add, weighted), means | {"wrong": wrong.mean(dtype=student.dtype)}
