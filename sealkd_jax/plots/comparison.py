"""How methods compare: accuracies with every seed, paired differences, and the ladder up to SeAl-KD.

A row is one of `comparison.json`: name, test_accuracy `[S]` (S seeds), mean, std, difference, interval and
accuracy_by_timestep_mean `[T]`; accuracies are fractions. Every function returns a matplotlib Figure.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sealkd_jax.plots.panels import panel
from sealkd_jax.plots.style import (
    BLUE,
    CYCLE,
    INK,
    MUTED,
    PAPER,
    SMALL,
    VERMILION,
    draw_lines,
    in_percent,
    new_axes,
    steps,
)
from sealkd_jax.plots.words import percent, points

DIFFERENCES = "Which methods differ"
STEPS = "From no distillation to SeAl-KD"

LADDER = ("none", "uniform_kd", "ela", "seal")
"""Each adds one idea to the one before; `sta` stands beside them."""


@panel(
    DIFFERENCES,
    "Large dots are means over seeds with one standard deviation, small dots the single seeds. Where the small dots of "
    "two methods overlap, the methods may not differ.",
    lambda found: {name: found[name] for name in ("rows", "reference", "teacher_accuracy")},
)
def accuracies(rows: Sequence[dict], *, reference: str, teacher_accuracy: float | None) -> Figure:
    """Test accuracy, the highest mean on top: each seed, mean ± standard deviation, and the teacher's line."""
    rows = sorted(rows, key=lambda row: row["mean"])
    figure, axis = _row_axes("Test accuracy", "test accuracy", rows, reference)
    for y, row in enumerate(rows):
        colour = VERMILION if row["name"] == reference else BLUE
        seeds = np.asarray(row["test_accuracy"], float)
        axis.plot(seeds, np.full(len(seeds), y - 0.22), "o", markersize=3.5, color=colour, alpha=0.55, linewidth=0)
        _mean_and_std(axis, row, y, colour, along="x")
    in_percent(axis.xaxis)
    axis.margins(x=0.08)
    if teacher_accuracy is not None:
        _teacher(axis, teacher_accuracy)
    return figure


def _row_axes(title: str, x: str, rows: Sequence[dict], reference: str) -> tuple[Figure, Axes]:
    """A figure with a named line for each row, the first at the bottom."""
    figure, (axis,) = new_axes(title, x, height=1.2 + 0.28 * len(rows))
    names = [f"{row['name']}{' †' if row.get('unconfirmed') else ''}" for row in rows]
    names = [f"{name} (reference)" if row["name"] == reference else name for name, row in zip(names, rows, strict=True)]
    axis.set_yticks(range(len(rows)), names, parse_math=False, color=INK)
    axis.set_ylim(-0.6, len(rows) - 0.4)
    axis.xaxis.set_major_locator(MaxNLocator(5))
    return figure, axis


def _mean_and_std(axis: Axes, row: dict, at: float, colour: str, *, along: str) -> None:
    """A dot at the mean and a bar of ± one standard deviation, `along` x or y, at `at` on the other axis."""
    mean, std = row["mean"], row["std"] or 0.0
    x, y, x_std, y_std = (mean, at, std, None) if along == "x" else (at, mean, None, std)
    axis.errorbar(x, y, y_std, x_std, fmt="o", markersize=7, color=colour, elinewidth=1.6, capsize=3)


def _teacher(axis: Axes, accuracy: float) -> None:
    """The teacher's line, or an arrow to it if it is so far off that it would flatten all differences."""
    low, high = axis.get_xlim()
    if low - (high - low) <= accuracy <= high + (high - low):
        axis.axvline(accuracy, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
        place: dict[str, Any] = {"x": accuracy, "ha": "center", "transform": axis.get_xaxis_transform()}
    else:
        above = accuracy > high
        place = {"x": float(above), "ha": "right" if above else "left", "transform": axis.transAxes}
    arrow = " →" if accuracy > axis.get_xlim()[1] else " ←" if accuracy < axis.get_xlim()[0] else ""
    axis.text(y=1.02, s=f"teacher {percent(accuracy)}{arrow}", color=MUTED, fontsize=SMALL, va="bottom", **place)


@panel(
    DIFFERENCES,
    "Mean difference to the reference, paired by seed, with its interval. Hollow and grey: the interval includes zero, "
    "so no difference is shown.",
    lambda found: (
        {name: found[name] for name in ("rows", "reference")}
        if any(row["difference"] is not None for row in found["rows"])
        else None
    ),
)
def differences(rows: Sequence[dict], *, reference: str) -> Figure:
    """Difference of each row to the reference in percentage points, with its interval; hollow if it includes zero."""
    rows = sorted((row for row in rows if row["difference"] is not None), key=lambda row: row["difference"])
    figure, axis = _row_axes(f"Difference to {reference}, same seeds", "percentage points", rows, reference)
    axis.axvline(0, color=MUTED, linewidth=1.2)
    for y, row in enumerate(rows):
        middle = 100 * row["difference"]
        shown = row["interval"] is not None and not includes_zero(row["interval"])
        colour = BLUE if shown else MUTED
        if row["interval"] is not None:
            low, high = (100 * end for end in row["interval"])
            axis.plot([low, high], [y, y], color=colour, linewidth=1.6, solid_capstyle="butt")
        axis.plot(middle, y, "o", markersize=7, color=colour, markerfacecolor=colour if shown else PAPER)
        text = points(row["difference"])
        axis.text(1.03, y, text, transform=axis.get_yaxis_transform(), fontsize=SMALL, color=colour, va="center")
    axis.margins(x=0.08)
    return figure


def includes_zero(interval: Sequence[float]) -> bool:
    """Whether the interval [low, high] leaves the sign of the difference open."""
    low, high = interval
    return low <= 0 <= high


def _ladder(found: dict[str, Any]) -> dict[str, Any] | None:
    """The rows, if at least two are steps of the ladder."""
    return {"rows": found["rows"]} if sum(row["name"] in LADDER for row in found["rows"]) >= 2 else None


@panel(
    STEPS,
    "Each step to the right adds one idea; STA alone stands beside them. Small dots are single seeds, bars one "
    "standard deviation.",
    _ladder,
)
def ladder(rows: Sequence[dict]) -> Figure:
    """The rows of none → uniform_kd → ela → seal that there are, joined by a line, and sta beside them."""
    by_name = {row["name"]: row for row in rows}
    steps_up = [name for name in LADDER if name in by_name]
    names = steps_up + ["sta"] * ("sta" in by_name)
    figure, (axis,) = new_axes("Test accuracy by step", height=3.6)
    axis.plot(
        range(len(steps_up)),
        [by_name[name]["mean"] for name in steps_up],
        color=BLUE,
        linewidth=1.2,
        zorder=1,
    )
    for x, name in enumerate(names):
        row, colour = by_name[name], BLUE if name != "sta" else CYCLE[2]
        seeds = np.asarray(row["test_accuracy"], float)
        axis.plot(np.full(len(seeds), x - 0.16), seeds, "o", markersize=3.5, color=colour, alpha=0.55, linewidth=0)
        _mean_and_std(axis, row, x, colour, along="y")
    means = [percent(by_name[name]["mean"]) for name in names]
    axis.set_xticks(range(len(names)), [f"{name}\n{mean}" for name, mean in zip(names, means, strict=True)], color=INK)
    axis.set_xlim(-0.5, len(names) - 0.2)
    axis.margins(y=0.15)
    in_percent(axis.yaxis)
    return figure


@panel(
    STEPS,
    "Accuracy if the network stops after that many timesteps, mean over seeds. A gap at the left is what a method "
    "gains with few timesteps.",
    _ladder,
)
def ladder_by_timestep(rows: Sequence[dict]) -> Figure:
    """Mean accuracy after 1 to T timesteps of the rows of the ladder and sta."""
    lines = {
        row["name"]: np.asarray(row["accuracy_by_timestep_mean"], float)
        for name in (*LADDER, "sta")
        for row in rows
        if row["name"] == name
    }
    figure, (axis,) = new_axes("Test accuracy after each timestep", "timestep", height=3.6)
    timesteps = len(next(iter(lines.values())))
    draw_lines(axis, np.arange(1, timesteps + 1), lines, form=percent)
    steps(axis, timesteps)
    in_percent(axis.yaxis)
    return figure
