"""What the timesteps of a network do: accuracy, early exit, errors, and the weights of STA.

T: timesteps, N: test examples, K: thresholds. Every function takes arrays and returns a matplotlib Figure.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from sealkd_jax import diagnostics
from sealkd_jax.plots.panels import Run, panel, sta_knobs
from sealkd_jax.plots.style import (
    BLUE,
    MUTED,
    PAPER,
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

SECTION = "What the timesteps do"

EXITS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, math.inf)
"""Confidences at which examples may stop: at the first all stop after one timestep, at the last none before T."""


@panel(
    SECTION,
    "Blue: accuracy if the network stops after that many timesteps. Orange: accuracy of each timestep alone. Bars show "
    "one standard error. Where the blue line is flat, fewer timesteps would do.",
    lambda run: {
        "accumulated": run.summary["accuracy_by_timestep"],
        "alone": run.summary["accuracy_of_timestep"],
        "n_test": run.summary["n_test"],
        "teacher_accuracy": run.summary["teacher_accuracy"],
    },
)
def accuracy_by_timestep(
    accumulated: Sequence[float], alone: Sequence[float], *, n_test: int, teacher_accuracy: float | None = None
) -> Figure:
    """Test accuracy after 1 to T timesteps and of each alone, with standard errors, and the teacher's.

    Args:
        accumulated: `[T]` fractions, of the mean logits of timesteps 1 to t.
        alone: `[T]` fractions, of the logits of timestep t.
        n_test: number of test examples, for the error bars.
        teacher_accuracy: fraction; None: no line.
    """
    lines = {"accumulated": np.asarray(accumulated, float), "alone": np.asarray(alone, float)}
    figure, (axis,) = new_axes("Test accuracy by timestep", "timestep", "test accuracy")
    times = np.arange(1, len(accumulated) + 1)
    draw_lines(axis, times, lines, (BLUE, VERMILION), form=percent, teacher=teacher_accuracy)
    for values, colour in zip(lines.values(), (BLUE, VERMILION), strict=True):
        error = diagnostics.standard_error(values, n_test)
        axis.errorbar(times, values, error, fmt="none", color=colour, elinewidth=1.2, capsize=2.5)
    steps(axis, len(times))
    in_percent(axis.yaxis)
    return figure


def _exits(run: Run) -> dict[str, Any] | None:
    if not run.in_time:
        return None
    curve = diagnostics.early_exit_curve(run.logits, run.labels, np.array(EXITS, np.float32))
    fixed = run.summary["accuracy_by_timestep"]
    return {"thresholds": EXITS, "timesteps": curve.timesteps, "accuracy": curve.accuracy, "fixed": fixed}


@panel(
    SECTION,
    "Blue: each example stops as soon as the confidence reaches a threshold, which is written at some points. Orange: "
    "all examples take the same number of timesteps. Where blue is above orange, stopping early saves timesteps at the "
    "same accuracy.",
    _exits,
)
def early_exit(
    thresholds: Sequence[float], timesteps: Sequence[float], accuracy: Sequence[float], fixed: Sequence[float]
) -> Figure:
    """Test accuracy against the mean number of timesteps with early exit, and with a fixed number of timesteps.

    Args:
        thresholds: `[K]` confidences at which an example stops, ascending; a few are written beside their points.
        timesteps: `[K]`, taken at these, mean over examples.
        accuracy: `[K]`, at these.
        fixed: `[T]`, accuracy after 1 to T timesteps.
    """
    figure, (axis,) = new_axes("Early exit", "timesteps taken, mean over test examples", "test accuracy")
    times = np.asarray(timesteps, float)
    early, always = {"early exit": np.asarray(accuracy, float)}, {"fixed": np.asarray(fixed, float)}
    draw_lines(axis, times, early, (BLUE, VERMILION), form=percent)
    draw_lines(axis, np.arange(1, len(fixed) + 1), always, (BLUE, VERMILION), form=percent)
    steps(axis, len(fixed))
    axis.margins(y=0.15)
    in_percent(axis.yaxis)
    apart = 0.3 * (len(fixed) - 1)  # room for a label: above and left of a rising curve nothing else is drawn
    written = 1.0
    for threshold, x, y in zip(thresholds, times, early["early exit"], strict=True):
        if threshold <= 1 and x - written >= apart:
            written = x
            axis.annotate(
                f"≥ {100 * threshold:g} %",
                (x, y),
                (-2, 6),
                textcoords="offset points",
                ha="right",
                va="bottom",
                fontsize=SMALL,
                color=BLUE,
                path_effects=[withStroke(linewidth=2.5, foreground=PAPER)],
            )
    return figure


@panel(
    SECTION,
    "Each row is a test example that at least one timestep gets wrong, each orange cell a wrong timestep. Rows with "
    "the most errors come first. A row that is orange only at the left is corrected by later timesteps; one that is "
    "orange throughout is beyond the network.",
    lambda run: {"wrong": ~np.asarray(diagnostics.correct(run.logits, run.labels))} if run.in_time else None,
)
def error_raster(wrong: np.ndarray) -> Figure:
    """The test examples with a wrong timestep as rows, most errors first; the others are counted.

    Args:
        wrong: `[T, N]` bool, whether the prediction of timestep t alone is not the label.
    """
    timesteps, examples = wrong.shape
    rows = wrong[:, wrong.any(0)].T
    rows = rows[np.lexsort((*rows.T[::-1], rows.sum(1)))[::-1]]
    figure, (axis,) = new_axes("Which timesteps err", "timestep", "examples with an error", height=4)
    text = f"{examples - len(rows)} of {examples} examples are right at every timestep, {wrong.all(0).sum()} at none"
    figure.text(0.01, 0.01, text, color=MUTED, fontsize=SMALL, va="bottom")
    figure.set_layout_engine("constrained", rect=(0, 0.07, 1, 0.93))
    axis.grid(False)
    steps(axis, timesteps)
    axis.set_xlim(0.5, timesteps + 0.5)
    axis.set_ylim(max(len(rows), 1), 0)
    if len(rows):
        pixels = np.where(rows[..., None], to_rgba(VERMILION), (0, 0, 0, 0))
        extent = (0.5, timesteps + 0.5, len(rows), 0)
        axis.imshow(pixels, extent=extent, aspect="auto", interpolation="none")
    return figure


def _weights(run: Run) -> dict[str, Any] | None:
    knobs = sta_knobs(run.summary.get("hyper", ()))
    return {"weights": np.asarray(diagnostics.mean_sta_weights(run.logits, **knobs))} if run.in_time else None


@panel(
    SECTION,
    "How much the timestep of a row learns from that of a column, averaged over the test examples; each row sums to 1. "
    "A dark column is a timestep that is confident and agrees with the others. The colours stretch small differences: "
    "compare the numbers.",
    _weights,
)
def sta_weights(weights: np.ndarray) -> Figure:
    """The weight that each timestep (row) gives to each other one (column), averaged over examples.

    Args:
        weights: `[T, T]`, rows sum to 1, zero diagonal.
    """
    timesteps = len(weights)
    figure, (axis,) = new_axes("Which timestep learns from which (STA weights)", "source timestep", height=3.6)
    names = [str(t) for t in range(1, timesteps + 1)]
    others = weights[~np.eye(timesteps, dtype=bool)]
    palest = others.min() - 0.3 * np.ptp(others)  # weights differ little; with 0 at the pale end all would look alike

    def form(weight: float) -> str:
        return f"{weight:.3f}" if weight else "–"

    cells(axis, weights, names, colour=PURPLE, form=form, lowest=palest)
    axis.set_ylabel("learning timestep", color=MUTED, fontsize=TEXT)
    return figure
