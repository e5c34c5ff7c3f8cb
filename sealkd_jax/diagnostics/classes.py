"""Final answers by class, and whether a network has learned anything at all.

Axes: `T` timesteps, `B` examples, `C` classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from jax.typing import ArrayLike

from sealkd_jax._checks import as_labels, as_where, require_labels
from sealkd_jax.diagnostics._examples import predict, time_first

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Integer

NEARLY_ALL = 0.98
"""A network predicts one class if the examples of the other classes get that answer in this share or more."""

MOST_CLASSES = 100
"""`by_class` gives the confusion matrix of at most this many classes."""


def standard_error(accuracy: ArrayLike, n: int) -> np.ndarray:
    """Binomial standard error √(p(1−p)/n) of accuracies measured on n examples, on the host.

    >>> print(standard_error(0.5, 100))
    0.05
    """
    p = np.asarray(accuracy, float)
    return np.sqrt(p * (1 - p) / n)


def by_class(
    logits: Float[ArrayLike, "T B C"],
    labels: Integer[ArrayLike, "B"],
    *,
    where: Bool[ArrayLike, "B"] | None = None,
    time_axis: int = 0,
) -> dict[str, Any]:
    """The final answers by class, on the host, as numbers and lists for JSON.

    Args:
      logits: `[T, B, C]`.
      labels: `[B]`.
      where: the examples that count, bool `[B]`.
      time_axis: 1 for logits `[B, T, C]`.

    Returns:
      `accuracy_by_class`: `[C]`, None for a class without examples.
      `confusion`: `[C][C]`, the number of examples by label (rows) and answer (columns), without answers that are NaN;
        None for more than `MOST_CLASSES` classes.
      `chance`: the accuracy of guessing, 1/C.
      `majority`: the accuracy of always answering the most frequent label.
      `untrained`: why the network cannot be told from one that has learned nothing, in a sentence, or None. It is so if
        the network predicts one class for nearly all examples, or if its accuracy is not above chance by more than two
        standard errors.

    >>> import jax.numpy as jnp
    >>> always_first = jnp.tile(jnp.array([1.0, 0.0, 0.0]), (2, 30, 1))
    >>> found = by_class(always_first, jnp.arange(30) % 3)
    >>> print(found["accuracy_by_class"], found["untrained"])
    [1.0, 0.0, 0.0] It predicts one class, 0, for 100.00 % of the examples: not trained.
    """
    logits = time_first(logits, time_axis)
    batch, classes = logits.shape[1:]
    require_labels(as_labels(labels, batch), classes, where)
    counts = np.ones(batch, bool) if where is None else np.asarray(as_where(where, batch))
    truth = np.asarray(labels)[counts].astype(int)
    answers = np.asarray(predict(logits.mean(0)))[counts]
    told = answers >= 0
    cells = np.bincount(classes * truth[told] + answers[told], minlength=classes**2)
    confusion, examples = cells.reshape(classes, classes), np.bincount(truth, minlength=classes)
    right = np.diag(confusion).tolist()
    return {
        "accuracy_by_class": [r / n if n else None for r, n in zip(right, examples.tolist(), strict=True)],
        "confusion": confusion.tolist() if classes <= MOST_CLASSES else None,
        "chance": 1 / classes,
        "majority": float(examples.max() / max(len(truth), 1)),
        "untrained": _untrained(confusion, examples),
    }


def _untrained(confusion: np.ndarray, examples: np.ndarray) -> str | None:
    """Why a network with this confusion matrix `[C, C]` and examples by class `[C]` has learned nothing, or None."""
    classes, n = len(examples), int(examples.sum())
    if not n or classes == 1:
        return None
    answers = confusion.sum(0)
    favourite = int(answers.argmax())
    others = n - examples[favourite]
    if others and answers[favourite] - confusion[favourite, favourite] >= NEARLY_ALL * others:
        share = 100 * answers[favourite] / n
        return f"It predicts one class, {favourite}, for {share:.2f} % of the examples: not trained."
    accuracy, chance = np.trace(confusion) / n, 1 / classes
    error = standard_error(chance, n)
    if accuracy <= chance + 2 * error:
        return (
            f"Its accuracy of {100 * accuracy:.2f} % on {n} examples is not above chance ({100 * chance:.2f} %) by "
            f"more than two standard errors ({100 * error:.2f} each): not trained, or too few examples."
        )
    return None
