"""How sure the network is of its answers.

T: timesteps, N: test examples. Every function takes arrays and returns a matplotlib Figure.
"""

from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from sealkd_jax import diagnostics
from sealkd_jax.plots.panels import Run, panel
from sealkd_jax.plots.style import BLUE, MUTED, PURPLE, VERMILION, draw_lines, in_percent, new_axes, steps
from sealkd_jax.plots.words import percent

SECTION = "Confidence"


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
