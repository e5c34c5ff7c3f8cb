"""What training did, epoch by epoch: losses, accuracies, wrong timesteps, learning rate and gradient norm.

E: epochs. Every function takes the lines of `metrics.jsonl` as dictionaries, oldest first, and returns a
matplotlib Figure.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sealkd_jax.plots.style import (
    BLUE,
    CYCLE,
    GREEN,
    INK,
    MUTED,
    SMALL,
    VERMILION,
    draw_lines,
    name_lines,
    new_axes,
    percent,
    steps,
)

Metrics = Sequence[dict]


def column(metrics: Metrics, name: str, term: str | None = None) -> np.ndarray:
    """One quantity over the epochs, [E] float64; NaN where an epoch does not have it."""
    values = [line.get(name) for line in metrics]
    if term is not None:
        values = [(value or {}).get(term) for value in values]
    return np.array([np.nan if value is None else value for value in values], float)


def loss_curves(metrics: Metrics) -> Figure:
    """The total loss and each of its terms (unweighted) by epoch; logarithmic where all are positive."""
    names = list(dict.fromkeys(name for line in metrics for name in line.get("terms", {}) if name != "wrong"))
    lines = {"total": column(metrics, "loss")} | {name: column(metrics, "terms", name) for name in names}
    figure, (axis,) = _by_epoch("Training loss", metrics, lines, (INK, *CYCLE))
    axis.set_ylabel("nats", color=MUTED, fontsize=SMALL)
    finite = np.concatenate([line[np.isfinite(line)] for line in lines.values()])
    if finite.size and finite.min() > 0:
        axis.set_yscale("log", subs=(1, 2, 5))
        for ticks in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
            ticks("{x:g}")
    name_lines(axis, lines, (INK, *CYCLE))
    return figure


def accuracy_curves(metrics: Metrics, *, teacher_accuracy: float | None, best_epoch: int | None) -> Figure:
    """Accuracy of the mean logits in training and validation by epoch, and the teacher's on the test set.

    Args:
        teacher_accuracy: fraction in [0, 1]; None: no line.
        best_epoch: the epoch (from 1) whose model was kept: ringed.
    """
    lines = {"validation": column(metrics, "val_accuracy"), "training": column(metrics, "train_accuracy")}
    figure, (axis,) = _by_epoch("Accuracy", metrics, lines, (BLUE, GREEN))
    epochs = column(metrics, "epoch")
    best = np.flatnonzero(epochs == best_epoch)
    axis.plot(epochs[best], lines["validation"][best], "o", color=BLUE, markersize=9, markerfacecolor="none")
    axis.yaxis.set_major_formatter(percent)
    name_lines(axis, lines, (BLUE, GREEN), form=percent, teacher=teacher_accuracy)
    return figure


def wrong_timesteps(metrics: Metrics) -> Figure:
    """Share of (training example, timestep) pairs that were wrong, by epoch: what ELA has to correct."""
    lines = {"wrong": column(metrics, "terms", "wrong")}
    figure, (axis,) = _by_epoch("Wrong training timesteps", metrics, lines, (VERMILION,))
    axis.set_ylim(bottom=0)
    axis.yaxis.set_major_formatter(percent)
    name_lines(axis, lines, (VERMILION,), form=percent)
    return figure


def optimisation(metrics: Metrics) -> Figure:
    """Learning rate and gradient norm by epoch, one above the other."""
    figure, axes = new_axes("Optimisation", "epoch", rows=2)
    for axis, name in zip(axes, ("learning_rate", "grad_norm"), strict=True):
        values = column(metrics, name)
        draw_lines(axis, column(metrics, "epoch"), {name: values})
        axis.set_ylim(bottom=0)
        axis.set_ylabel(name.replace("_", " "), color=MUTED, fontsize=SMALL)
        name_lines(axis, {"": values})
    steps(axes[-1], len(metrics), first=metrics[0]["epoch"])
    figure.align_ylabels()
    return figure


def _by_epoch(
    title: str, metrics: Sequence[dict], lines: dict[str, np.ndarray], colours: Sequence[str]
) -> tuple[Figure, list[Axes]]:
    figure, axes = new_axes(title, "epoch")
    draw_lines(axes[0], column(metrics, "epoch"), lines, colours)
    steps(axes[0], len(metrics), first=metrics[0]["epoch"])
    return figure, axes
