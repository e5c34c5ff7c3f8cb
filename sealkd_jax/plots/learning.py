"""What training did in each epoch: losses, accuracies, wrong timesteps, learning rate and gradient norm.

E: epochs. Every function takes the lines of `metrics.jsonl` as dictionaries, oldest first, and returns a matplotlib
Figure.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from sealkd_jax.plots.panels import panel
from sealkd_jax.plots.style import (
    BLUE,
    CYCLE,
    GREEN,
    INK,
    MUTED,
    TEXT,
    VERMILION,
    draw_lines,
    in_percent,
    new_axes,
    steps,
)
from sealkd_jax.plots.words import percent

SECTION = "Training"
Metrics = Sequence[dict]


def column(metrics: Metrics, name: str, term: str | None = None) -> np.ndarray:
    """A quantity over the epochs, `[E]` float64; NaN where an epoch lacks it."""
    values = [line.get(name) for line in metrics]
    if term is not None:
        values = [(value or {}).get(term) for value in values]
    return np.array([np.nan if value is None else value for value in values], float)


@panel(
    SECTION,
    "Accuracy of the mean logits after each epoch. The ring marks the model that is reported, the best on the "
    "validation split. A growing gap between training and validation is overfitting. If training has K views, every "
    "K-th epoch shows the images as they are, and training accuracy jumps there.",
    lambda run: {
        "metrics": run.metrics,
        "teacher_accuracy": run.summary["teacher_accuracy"],
        "best_epoch": run.summary["best_epoch"],
    },
)
def accuracy(metrics: Metrics, *, teacher_accuracy: float | None, best_epoch: int | None) -> Figure:
    """Accuracy of the mean logits in training and validation by epoch, and the teacher's on the test split.

    Args:
        teacher_accuracy: fraction in [0, 1]; None: no line.
        best_epoch: the epoch, from 1, whose model is reported: ringed.
    """
    lines = {"validation": column(metrics, "val_accuracy"), "training": column(metrics, "train_accuracy")}
    figure, (axis,) = new_axes("Accuracy by epoch", "epoch", "accuracy")
    epochs = column(metrics, "epoch")
    draw_lines(axis, epochs, lines, (BLUE, GREEN), form=percent, teacher=teacher_accuracy)
    best = np.flatnonzero(epochs == best_epoch)
    axis.plot(epochs[best], lines["validation"][best], "o", color=BLUE, markersize=9, markerfacecolor="none")
    steps(axis, len(metrics), first=metrics[0]["epoch"])
    in_percent(axis.yaxis)
    return figure


@panel(
    SECTION,
    "The training loss and its terms before weighting, averaged over each epoch. A term that stays flat is not being "
    "learned.",
    lambda run: {"metrics": run.metrics},
)
def loss(metrics: Metrics) -> Figure:
    """The total loss and each of its terms (unweighted) by epoch; logarithmic if all are positive."""
    names = list(dict.fromkeys(name for line in metrics for name in line.get("terms", {}) if name != "wrong"))
    lines = {"total": column(metrics, "loss")} | {name: column(metrics, "terms", name) for name in names}
    figure, (axis,) = new_axes("Training loss", "epoch", "nats")
    draw_lines(axis, column(metrics, "epoch"), lines, (INK, *CYCLE))
    steps(axis, len(metrics), first=metrics[0]["epoch"])
    finite = np.concatenate([line[np.isfinite(line)] for line in lines.values()])
    if finite.size and finite.min() > 0:
        axis.set_yscale("log", subs=(1, 2, 5))
        for set_formatter in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
            set_formatter("{x:g}")
    return figure


@panel(
    SECTION,
    "Share of timesteps of the training examples with a wrong prediction: those that error-aware alignment corrects.",
    lambda run: {"metrics": run.metrics} if any("wrong" in line["terms"] for line in run.metrics) else None,
)
def wrong_timesteps(metrics: Metrics) -> Figure:
    """Share of pairs of training example and timestep with a wrong prediction, by epoch: those that ELA corrects."""
    figure, (axis,) = new_axes("Wrong timesteps in training", "epoch", "share of timesteps")
    lines = {"wrong": column(metrics, "terms", "wrong")}
    draw_lines(axis, column(metrics, "epoch"), lines, (VERMILION,), form=percent)
    steps(axis, len(metrics), first=metrics[0]["epoch"])
    axis.set_ylim(bottom=0)
    in_percent(axis.yaxis)
    return figure


@panel(
    SECTION,
    "The schedule of the learning rate, and the norm of the gradient; a jump of the norm is an unstable step.",
    lambda run: {"metrics": run.metrics},
)
def optimisation(metrics: Metrics) -> Figure:
    """Learning rate and gradient norm by epoch, one above the other."""
    figure, axes = new_axes("Learning rate and gradient", "epoch", rows=2)
    for axis, name, label in zip(axes, ("learning_rate", "grad_norm"), ("learning rate", "gradient norm"), strict=True):
        draw_lines(axis, column(metrics, "epoch"), {"last": column(metrics, name)})
        axis.set_ylim(bottom=0)
        axis.set_ylabel(label, color=MUTED, fontsize=TEXT)
    steps(axes[-1], len(metrics), first=metrics[0]["epoch"])
    figure.align_ylabels()
    return figure
