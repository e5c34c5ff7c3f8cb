"""The answers of a network: which classes it confuses, and how confident it is.

T: timesteps, N: test examples, C: classes. Every function takes arrays and returns a matplotlib Figure.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from sealkd_jax import diagnostics
from sealkd_jax.plots.panels import Run, panel
from sealkd_jax.plots.style import (
    BLUE,
    INK,
    MUTED,
    PURPLE,
    SMALL,
    TEXT,
    VERMILION,
    cells,
    draw_lines,
    in_percent,
    new_axes,
    steps,
)
from sealkd_jax.plots.words import percent

SECTION = "Classes and confidence"
MOST = 25  # classes that have a bar, or a name beside the confusion matrix


@panel(
    SECTION,
    "Share of each class’s test examples that the network classifies correctly, the worst class on top. Dashed: "
    "chance, the accuracy of guessing.",
    lambda run: {name: run.summary[name] for name in ("accuracy_by_class", "classes", "chance")},
)
def accuracy_by_class(accuracy_by_class: Sequence[float | None], classes: Sequence[str], chance: float) -> Figure:
    """Accuracy of each class as bars, the worst on top; of the `MOST` worst classes if there are more.

    Args:
        accuracy_by_class: `[C]` fractions; None for a class without examples, which has no bar.
        classes: C names.
        chance: 1/C.
    """
    names = _shorten(classes)
    bars = sorted((share, k) for k, share in enumerate(accuracy_by_class) if share is not None)[:MOST]
    which = f"of the {MOST} worst classes" if len(accuracy_by_class) > MOST else "by class"
    figure, (axis,) = new_axes(f"Test accuracy {which}", "test accuracy", height=1.2 + 0.24 * max(len(bars), 4))
    axis.barh(range(len(bars)), [share for share, _ in bars], height=0.7, color=BLUE, alpha=0.6, linewidth=0)
    for y, (share, _) in enumerate(bars):
        axis.text(share, y, f" {percent(share)}", va="center", fontsize=SMALL, color=INK)
    axis.axvline(chance, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
    axis.set(xlim=(0, 1.15), ylim=(len(bars) - 0.4, -0.6), xticks=np.linspace(0, 1, 5))
    axis.grid(False)
    in_percent(axis.xaxis)
    axis.set_yticks(range(len(bars)), [names[k] for _, k in bars], parse_math=False, color=INK)
    return figure


@panel(
    SECTION,
    "Test examples by label (rows) and by what the network answers (columns), in percent of the row. The diagonal is "
    "right; a dark cell beside it is a class that is often taken for another.",
    lambda run: (
        {"confusion": run.summary["confusion"], "classes": run.summary["classes"]} if run.summary["confusion"] else None
    ),
)
def confusion(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> Figure:
    """The confusion matrix, in percent of each row.

    Args:
        confusion: `[C][C]`, counts by label and answer.
        classes: C names.
    """
    matrix = np.array(confusion, float)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    few = len(matrix) <= MOST
    names = _shorten(classes) if few else [""] * len(matrix)
    figure, (axis,) = new_axes("Confusion matrix, % of each label", "answer", height=4.4)
    cells(axis, shares, names, colour=BLUE, form=lambda share: f"{100 * share:.0f}" if share else "", written=12)
    axis.set_ylabel("label", color=MUTED, fontsize=TEXT)
    axis.set_xticks(range(1, len(matrix) + 1) if few else [], names if few else [], parse_math=False)
    axis.tick_params(axis="x", rotation=90 if few and max(map(len, names)) > 2 else 0)
    return figure


def _shorten(names: Sequence[str]) -> list[str]:
    return [name if len(name) < 16 else f"{name[:14]}…" for name in names]


@panel(
    SECTION,
    "Mean confidence (highest softmax probability) and accuracy of each timestep alone. Confidence above accuracy is "
    "overconfidence.",
    lambda run: {
        "confidence": np.asarray(diagnostics.confidence(run.logits)),
        "accuracy": run.summary["accuracy_of_timestep"],
    },
)
def confidence_by_timestep(confidence: np.ndarray, accuracy: np.ndarray) -> Figure:
    """Mean confidence and accuracy of each timestep alone.

    Args:
        confidence: `[T]`, mean over examples of the highest softmax probability.
        accuracy: `[T]`, fractions.
    """
    lines = {"confidence": np.asarray(confidence), "accuracy": np.asarray(accuracy)}
    times = np.arange(1, len(confidence) + 1)
    figure, (axis,) = new_axes("Confidence by timestep", "timestep")
    axis.fill_between(times, lines["confidence"], lines["accuracy"], color=MUTED, alpha=0.15, linewidth=0)
    draw_lines(axis, times, lines, (PURPLE, VERMILION), form=percent)
    steps(axis, len(times))
    in_percent(axis.yaxis)
    return figure


def _final(run: Run) -> dict[str, Any]:
    final = run.logits.mean(0)
    return {"confidence": np.asarray(jax.nn.softmax(final).max(-1)), "right": final.argmax(-1) == run.labels}


@panel(
    SECTION,
    "Test examples grouped by the confidence of the final answer; a larger dot stands for more examples. On the "
    "diagonal the network is as confident as it is accurate, below it overconfident, above it underconfident.",
    _final,
)
def reliability(confidence: np.ndarray, right: np.ndarray, *, bins: int = 15) -> Figure:
    """Accuracy of examples of similar confidence against that confidence; the area of a dot is their number.

    The title has the expected calibration error: the mean distance of the dots from the diagonal, weighted by the
    number of their examples. The bins are those of `diagnostics.expected_calibration_error`.

    Args:
        confidence: `[N]`, highest softmax probability of each example.
        right: `[N]` bool.
    """
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(which, minlength=bins)
    filled = count > 0
    mean_confidence = np.bincount(which, confidence, bins)[filled] / count[filled]
    accuracy = np.bincount(which, right, bins)[filled] / count[filled]
    error = np.sum(count[filled] * np.abs(accuracy - mean_confidence)) / count.sum()
    figure, (axis,) = new_axes(f"Calibration: expected error {100 * error:.1f} %", "confidence", "accuracy")
    axis.plot([0, 1], [0, 1], color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
    axis.vlines(mean_confidence, mean_confidence, accuracy, color=BLUE, linewidth=1)
    area = 12 + 300 * count[filled] / count.sum()
    axis.scatter(mean_confidence, accuracy, area, color=BLUE, alpha=0.85, linewidth=0, clip_on=False)
    axis.set(xlim=(0, 1), ylim=(0, 1.02))
    in_percent(axis.xaxis)
    in_percent(axis.yaxis)
    return figure
