"""What the test predictions show: where errors stand in time, who listens to whom, how sure the network is.

T: timesteps, N: test examples. Every function takes plain arrays and returns a matplotlib Figure.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from sealkd_jax.plots.style import (
    BLUE,
    INK,
    MUTED,
    PURPLE,
    TEXT,
    VERMILION,
    draw_lines,
    end_labels,
    name_lines,
    new_axes,
    percent,
    steps,
)
from sealkd_jax.plots.timesteps import cells


def error_raster(wrong: np.ndarray) -> Figure:
    """Every test example with a wrong timestep as a row, most errors on top; the others are counted.

    Args:
        wrong: [T, N] bool, whether the prediction of timestep t alone is not the label.
    """
    timesteps, examples = wrong.shape
    rows = wrong[:, wrong.any(0)].T
    rows = rows[np.lexsort((*rows.T[::-1], rows.sum(1)))[::-1]]
    figure, (axis,) = new_axes("Errors by example and timestep", "timestep", "examples with an error", height=4)
    always = f"{examples - len(rows)} of {examples} examples are right at every timestep"
    figure.text(0.01, 0.01, always, color=MUTED, fontsize=TEXT, va="bottom")
    figure.set_layout_engine("constrained", rect=(0, 0.07, 1, 0.93))
    axis.grid(False)
    steps(axis, timesteps)
    axis.set_xlim(0.5, timesteps + 0.5)
    axis.set_ylim(max(len(rows), 1), 0)
    if len(rows):
        pixels = np.where(rows[..., None], to_rgba(VERMILION), (0, 0, 0, 0))
        extent = (0.5, timesteps + 0.5, len(rows), 0)
        axis.imshow(pixels, extent=extent, aspect="auto", interpolation="none")
        _name_blocks(axis, rows.sum(1), timesteps)
    return figure


def _name_blocks(axis: Axes, errors: np.ndarray, timesteps: int) -> None:
    """Says beside each block of rows with the same number of errors [R] how many there are."""
    labels = []
    for count in range(timesteps, 0, -1) if timesteps <= 10 else (timesteps, 1):
        block = np.flatnonzero(errors == count)
        if block.size:
            which = "all" if count == timesteps else count
            labels.append((block.mean() + 0.5, f"{which} wrong: {block.size}", INK))
            axis.axhline(block[-1] + 1, color=MUTED, linewidth=0.5)
    end_labels(axis, labels)


def sta_weights(weights: np.ndarray) -> Figure:
    """How much each timestep (row) listens to each other one (column), averaged over the examples.

    Args:
        weights: [T, T], rows sum to 1, zero diagonal.
    """
    timesteps = len(weights)
    figure, (axis,) = new_axes("Who listens to whom (STA weights)", "timestep listened to", height=3.6)
    names = [str(t) for t in range(1, timesteps + 1)]
    others = weights[~np.eye(timesteps, dtype=bool)]
    palest = others.min() - 0.3 * np.ptp(others)  # weights differ little; 0 at the pale end would hide it

    def form(weight: float) -> str:
        return f"{weight:.3f}" if weight else "–"

    cells(axis, weights, names, colour=PURPLE, form=form, lowest=palest)
    axis.set_ylabel("timestep that listens", color=MUTED, fontsize=TEXT)
    return figure


def confidence_by_timestep(confidence: np.ndarray, accuracy: np.ndarray) -> Figure:
    """Mean confidence and accuracy of each timestep alone.

    Args:
        confidence: [T], mean over the examples of the highest softmax probability.
        accuracy: [T], fractions.
    """
    lines = {"confidence": np.asarray(confidence), "accuracy": np.asarray(accuracy)}
    times = np.arange(1, len(confidence) + 1)
    figure, (axis,) = new_axes("Confidence by timestep", "timestep")
    axis.fill_between(times, lines["confidence"], lines["accuracy"], color=MUTED, alpha=0.15, linewidth=0)
    draw_lines(axis, times, lines, (PURPLE, VERMILION))
    steps(axis, len(times))
    axis.yaxis.set_major_formatter(percent)
    name_lines(axis, lines, (PURPLE, VERMILION), form=percent)
    return figure


def reliability(confidence: np.ndarray, right: np.ndarray, *, bins: int = 15) -> Figure:
    """Accuracy of the examples of like confidence against that confidence; the dot's area is their number.

    The expected calibration error is in the title: the mean distance of the dots from the diagonal, weighted
    by the number of their examples. Its bins are those of `diagnostics.expected_calibration_error`.

    Args:
        confidence: [N], highest softmax probability of each example.
        right: [N] bool.
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
    axis.xaxis.set_major_formatter(percent)
    axis.yaxis.set_major_formatter(percent)
    return figure
