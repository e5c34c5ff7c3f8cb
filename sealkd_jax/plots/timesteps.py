"""What the timesteps of one network do: accuracy and spikes by timestep.

T: timesteps. Every function takes plain arrays and returns a matplotlib Figure.
"""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from sealkd_jax.plots.style import (
    BLUE,
    DASHES,
    INK,
    MARKERS,
    MUTED,
    PAPER,
    SMALL,
    VERMILION,
    draw_lines,
    name_lines,
    new_axes,
    percent,
    shade,
    steps,
)


def standard_error(accuracy: float | Sequence[float] | np.ndarray, n: int) -> np.ndarray:
    """Binomial standard error √(p(1−p)/n) of accuracies [T] measured on n examples."""
    p = np.asarray(accuracy, float)
    return np.sqrt(p * (1 - p) / n)


def accuracy_by_timestep(
    accumulated: Sequence[float],
    alone: Sequence[float],
    *,
    n_test: int,
    teacher_accuracy: float | None = None,
) -> Figure:
    """Test accuracy after 1..T timesteps and of each alone, with standard errors, against the teacher's.

    Args:
        accumulated: [T] fractions, of the logits summed over timesteps 1..t.
        alone: [T] fractions, of the logits of timestep t.
        n_test: number of test examples (for the error bars).
    """
    lines = {"accumulated": np.asarray(accumulated, float), "alone": np.asarray(alone, float)}
    figure, (axis,) = new_axes("Test accuracy by timestep", "timestep")
    times = np.arange(1, len(accumulated) + 1)
    draw_lines(axis, times, lines, (BLUE, VERMILION))
    for values, colour in zip(lines.values(), (BLUE, VERMILION), strict=True):
        error = standard_error(values, n_test)
        axis.errorbar(times, values, error, fmt="none", color=colour, elinewidth=1.2, capsize=2.5)
    steps(axis, len(times))
    axis.yaxis.set_major_formatter(percent)
    name_lines(axis, lines, (BLUE, VERMILION), form=percent, teacher=teacher_accuracy)
    return figure


def early_exit(
    thresholds: Sequence[float], timesteps: Sequence[float], accuracy: Sequence[float], fixed: Sequence[float]
) -> Figure:
    """Test accuracy against the mean number of timesteps, stopping when sure, beside always so many timesteps.

    Args:
        thresholds: [K] confidences at which an example is decided, ascending; a few are written beside their dots.
        timesteps: [K] how many were taken, mean over the examples, at these.
        accuracy: [K] at these.
        fixed: [T] accuracy of always 1..T timesteps.
    """
    figure, (axis,) = new_axes("Stopping when sure", "timesteps, mean over test examples", "test accuracy")
    lines = {"stops when sure": np.asarray(accuracy, float), "always T": np.asarray(fixed, float)}
    times = (np.asarray(timesteps, float), np.arange(1, len(fixed) + 1))
    for values, x, colour, dashes, marker in zip(
        lines.values(), times, (BLUE, VERMILION), DASHES, MARKERS, strict=False
    ):
        axis.plot(x, values, color=colour, linestyle=dashes, linewidth=1.8, marker=marker, markersize=4)
    steps(axis, len(fixed))
    axis.margins(y=0.15)
    axis.yaxis.set_major_formatter(percent)
    apart = 0.3 * (len(fixed) - 1)  # room for a label; above and left of a rising curve nothing else is drawn
    written = 1.0
    for threshold, x, y in zip(thresholds, times[0], lines["stops when sure"], strict=True):
        if threshold <= 1 and x - written >= apart:
            written = x
            axis.annotate(
                f"≥ {percent(threshold)}",
                (x, y),
                (-2, 6),
                textcoords="offset points",
                ha="right",
                va="bottom",
                fontsize=SMALL,
                color=BLUE,
                path_effects=[withStroke(linewidth=2.5, foreground=PAPER)],
                parse_math=False,
            )
    name_lines(axis, lines, (BLUE, VERMILION), form=percent)
    return figure


def firing_rates(rates: dict[str, Sequence[float]]) -> Figure:
    """Share of neurons that spike, in percent, by layer (rows, input first) and timestep (columns).

    Args:
        rates: layer name -> [T] fractions (spikes per neuron and timestep).
    """
    figure, (axis,) = new_axes("Firing rate by layer, %", "timestep", height=1.1 + 0.28 * max(len(rates), 4))
    shares = np.array(list(rates.values()), float)
    cells(axis, shares, list(rates), colour=BLUE, form=lambda share: f"{100 * share:.1f}")
    return figure


def cells(
    axis: Axes,
    values: np.ndarray,
    rows: Sequence[str],
    *,
    colour: str,
    form: Callable[[float], str],
    lowest: float = 0.0,
) -> None:
    """A table [R, T] of numbers ≥ 0 as shaded cells, with the numbers in them while they fit.

    Args:
        rows: R names, the first on top.
        form: how to write a number.
        lowest: the number at the pale end of the colours.
    """
    columns = values.shape[1]
    edges = np.arange(columns + 1) + 0.5, np.arange(len(rows) + 1) - 0.5
    mesh = axis.pcolormesh(*edges, values, cmap=shade(colour), vmin=lowest, linewidth=0)
    axis.invert_yaxis()
    axis.grid(False)
    axis.spines["bottom"].set_visible(False)
    axis.set_yticks(range(len(rows)), rows, parse_math=False, color=INK)
    steps(axis, columns)
    axis.set_xlim(0.5, columns + 0.5)
    if columns <= 8:
        for (row, column), value in np.ndenumerate(values):
            axis.text(column + 1, row, form(value), ha="center", va="center", fontsize=SMALL, color=INK)
    else:
        bar = axis.figure.colorbar(mesh, ax=axis, format=lambda value, _position: form(value))
        bar.outline.set_visible(False)
        bar.ax.tick_params(colors=MUTED, labelsize=SMALL, length=0)
