"""How methods compare: accuracies with every seed, paired differences, and the ladder up to SeAl-KD.

A row is one of `comparison.json`, a method in one setting: name, method, options (its values of the sweep), chosen,
test_accuracy `[S]` (S seeds), mean, std, difference, interval, bootstrap and accuracy_by_timestep_mean `[T]`;
accuracies are fractions; rows of newer files also have picojoule. All figures but `sweep` and `accuracy_by_energy` are
of the chosen settings. Every function returns a matplotlib Figure.
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
    TEXT,
    VERMILION,
    draw_lines,
    in_percent,
    new_axes,
    steps,
)
from sealkd_jax.plots.words import count, joules, percent, points

DIFFERENCES = "Which methods differ"
SWEEP = "Settings of the sweep"
ENERGY = "Accuracy and energy"
STEPS = "From no distillation to SeAl-KD"

LADDER = ("none", "uniform_kd", "ela", "seal")
"""Each adds one idea to the one before; `sta` stands beside them."""


def chosen(found: Any) -> list[Any]:
    """The rows of a comparison that stand for their methods: those with the highest validation accuracy."""
    return [row for row in found["rows"] if row["chosen"]]


@panel(
    DIFFERENCES,
    "Large dots are means over seeds with one standard deviation, small dots the single seeds. Where the small dots of "
    "two methods overlap, the methods may not differ.",
    lambda found: {
        "rows": chosen(found),
        "reference": found["reference"],
        "teacher_accuracy": found["teacher_accuracy"],
    },
)
def accuracies(rows: Sequence[dict], *, reference: str, teacher_accuracy: float | None) -> Figure:
    """Test accuracy, the highest mean on top: each seed, mean ± standard deviation, and the teacher's line."""
    rows = sorted(rows, key=lambda row: row["mean"])
    figure, axis = _row_axes(f"Test accuracy, {_seeds(rows)}", "test accuracy", rows, reference)
    for y, row in enumerate(rows):
        colour = VERMILION if row["method"] == reference else BLUE
        seeds = np.asarray(row["test_accuracy"], float)
        axis.plot(seeds, np.full(len(seeds), y - 0.22), "o", markersize=3.5, color=colour, alpha=0.55, linewidth=0)
        _mean_and_std(axis, row, y, colour, along="x")
    in_percent(axis.xaxis)
    axis.margins(x=0.08)
    if teacher_accuracy is not None:
        _teacher(axis, teacher_accuracy)
    return figure


def _seeds(rows: Sequence[dict]) -> str:
    return f"n = {count(len(rows[0]['test_accuracy']), 'seed')}"


def _row_axes(title: str, x: str, rows: Sequence[dict], reference: str) -> tuple[Figure, Axes]:
    """A figure with a named line for each row, the first at the bottom."""
    figure, (axis,) = new_axes(title, x, height=1.2 + 0.28 * len(rows))
    mark = " (reference)"
    names = [row["method"] + " †" * row["unconfirmed"] + mark * (row["method"] == reference) for row in rows]
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
    "Mean difference to the reference, paired by seed. Bar: its 95 % interval by Student’s t, from three seeds on. "
    "Thin bar: the bootstrap’s, from five seeds on. Hollow and grey: there is no interval, or it includes zero, so no "
    "difference is shown.",
    lambda found: (
        {"rows": chosen(found), "reference": found["reference"]}
        if any(row["difference"] is not None for row in chosen(found))
        else None
    ),
)
def differences(rows: Sequence[dict], *, reference: str) -> Figure:
    """Difference of each row to the reference in percentage points, with its intervals; hollow if none is shown."""
    rows = sorted((row for row in rows if row["difference"] is not None), key=lambda row: row["difference"])
    title = f"Difference to {reference}, {_seeds(rows)}"
    figure, axis = _row_axes(title, "percentage points", rows, reference)
    axis.axvline(0, color=MUTED, linewidth=1.2)
    for y, row in enumerate(rows):
        colour = BLUE if differs(row) else MUTED
        for name, at, width in (("interval", y, 1.8), ("bootstrap", y - 0.25, 0.8)):
            if row[name] is not None:
                ends = 100 * np.array(row[name])
                axis.plot(ends, [at, at], color=colour, linewidth=width, solid_capstyle="butt")
        face = colour if differs(row) else PAPER
        axis.plot(100 * row["difference"], y, "o", markersize=7, color=colour, markerfacecolor=face)
        text = points(row["difference"])
        axis.text(1.03, y, text, transform=axis.get_yaxis_transform(), fontsize=SMALL, color=colour, va="center")
    axis.margins(x=0.08)
    return figure


def differs(row: Any) -> bool:
    """Whether a row is shown to differ from the reference: there is an interval, and it excludes zero."""
    return row["interval"] is not None and not row["interval"][0] <= 0 <= row["interval"][1]


def swept(rows: Sequence[dict]) -> dict[str, list[str]]:
    """The options that were varied, and the values of each: in order of size, or as given if they are no numbers."""
    values: dict[str, dict[str, None]] = {}
    for row in rows:
        for name, text in row["options"].items():
            values.setdefault(name, {})[text] = None
    return {name: _in_order(list(texts)) for name, texts in values.items() if len(texts) > 1}


def _in_order(texts: list[str]) -> list[str]:
    try:
        return sorted(texts, key=float)
    except ValueError:
        return texts


@panel(
    SWEEP,
    "Test accuracy, mean and standard deviation over seeds, of each method over the values of an option; its other "
    "options have the chosen values. The ring marks the setting that is chosen by validation accuracy: test accuracy "
    "may be higher elsewhere.",
    lambda found: {"rows": found["rows"]} if swept(found["rows"]) else None,
)
def sweep(rows: Sequence[dict]) -> Figure:
    """A curve for each method over the values of each option of the sweep, through the chosen setting."""
    options, methods = swept(rows), list(dict.fromkeys(row["method"] for row in rows))
    title = f"Test accuracy by setting, {_seeds(rows)}"
    figure, axes = new_axes(title, height=0.6 + 2.4 * len(options), rows=len(options), sharex=False)
    for axis, (option, values) in zip(axes, options.items(), strict=True):
        for best in (row for row in rows if row["chosen"] and option in row["options"]):
            curve = [row for row in rows if row["method"] == best["method"] and _apart(row, best) <= {option}]
            curve.sort(key=lambda row: values.index(row["options"][option]))
            x = [values.index(row["options"][option]) for row in curve]
            means = np.array([row["mean"] for row in curve])
            colour = CYCLE[methods.index(best["method"]) % len(CYCLE)]
            draw_lines(axis, x, {best["method"]: means}, (colour,), form=lambda _: "")
            stds = [row["std"] or 0.0 for row in curve]
            axis.errorbar(x, means, stds, fmt="none", color=colour, elinewidth=1.2)
            place = values.index(best["options"][option]), best["mean"]
            axis.scatter(*place, s=90, facecolors="none", edgecolors=colour, linewidths=1.4, zorder=3)
        axis.set_xticks(range(len(values)), values, parse_math=False)
        axis.set_xlabel(option.replace("_", " "), color=MUTED, fontsize=TEXT, parse_math=False)
        axis.margins(x=0.08)
        in_percent(axis.yaxis)
    return figure


def _apart(row: dict, other: dict) -> set[str]:
    """The options in which two rows of a method differ."""
    return {name for name, value in row["options"].items() if value != other["options"][name]}


def _ladder(found: dict[str, Any]) -> dict[str, Any] | None:
    """The chosen rows, if at least two are steps of the ladder."""
    rows = chosen(found)
    return {"rows": rows} if sum(row["method"] in LADDER for row in rows) >= 2 else None


@panel(
    STEPS,
    "Each step to the right adds one idea; STA alone stands beside them. Small dots are single seeds, bars one "
    "standard deviation.",
    _ladder,
)
def ladder(rows: Sequence[dict]) -> Figure:
    """The rows of none → uniform_kd → ela → seal that there are, joined by a line, and sta beside them."""
    by_name = {row["method"]: row for row in rows}
    steps_up = [name for name in LADDER if name in by_name]
    names = steps_up + ["sta"] * ("sta" in by_name)
    figure, (axis,) = new_axes(f"Test accuracy by step, {_seeds(rows)}", height=3.6)
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
    by_name = {row["method"]: np.array(row["accuracy_by_timestep_mean"], float) for row in rows}
    figure, (axis,) = new_axes("Test accuracy after each timestep", "timestep", "test accuracy", height=3.6)
    for name in (name for name in (*LADDER, "sta") if name in by_name):
        draw_lines(axis, np.arange(1, len(by_name[name]) + 1), {name: by_name[name]}, form=percent)
    steps(axis, max(map(len, by_name.values())))
    in_percent(axis.yaxis)
    return figure


@panel(
    ENERGY,
    "Mean accuracy over seeds against the estimated energy of one example, each method in each of its settings: above "
    "and to the left is better. --spike-rate trades one for the other.",
    lambda found: {"rows": costed} if len(costed := [row for row in found["rows"] if "picojoule" in row]) > 1 else None,
)
def accuracy_by_energy(rows: Sequence[dict]) -> Figure:
    """Mean test accuracy of every row against its energy."""
    figure, (axis,) = new_axes(f"Test accuracy by energy, {_seeds(rows)}", "energy of one example", height=3.6)
    methods = list(dict.fromkeys(row["method"] for row in rows))
    for row in rows:
        colour = CYCLE[methods.index(row["method"]) % len(CYCLE)]
        axis.errorbar(row["picojoule"], row["mean"], row["std"] or 0.0, fmt="o", markersize=6, color=colour, capsize=3)
        name = axis.annotate(row["name"], (row["picojoule"], row["mean"]), (5, 4), textcoords="offset points")
        name.set(color=INK, fontsize=SMALL, parse_math=False)
    axis.xaxis.set_major_formatter(lambda picojoule, _: joules(picojoule) if picojoule > 0 else "0")
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.margins(x=0.2, y=0.15)
    in_percent(axis.yaxis)
    return figure
