"""Whether cost grows as the work does: `python -m train.benchmark growth [--option value …]`.

Training steps of a small convolutional student against T, batch and width, the loss against the number of classes, and
an epoch against the rows of teacher logits. Work is operations of convolutions and dense layers, logits, or rows.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure

from sealkd_jax.data import compose
from sealkd_jax.losses import seal_kd_loss
from sealkd_jax.models import create_student
from sealkd_jax.plots.style import CYCLE, MARKERS, MUTED, TEXT, new_axes
from sealkd_jax.programs.command_line import read_options
from sealkd_jax.programs.option import at_least
from sealkd_jax.training import Batch, DeviceData, Recipe, make_epoch
from sealkd_jax.training.epoch import Scale
from train.benchmark.step import CLASSES, as_in_an_epoch, in_a_row, operations, seal_step
from train.benchmark.table import RESULTS_DIR, keep, show
from train.benchmark.timing import in_turn, repeated

AXES: dict[str, tuple[float, ...]] = {
    "timesteps": (1, 4, 16, 64, 256),
    "batch": (8, 32, 128, 512),
    "width": (0.5, 1, 2, 4),
    "classes": (10, 100, 1000),
    "rows": (1e3, 1e4, 1e5, 1e6),
}


@dataclass(frozen=True)
class GrowthOptions:
    """How often."""

    repeats: Annotated[int, at_least(1)] = 5
    """How many times each is measured."""
    out: Path = RESULTS_DIR / "growth.json"
    """Where the numbers go as JSON, and beside it the plot."""


class Case(NamedTuple):
    """A program, its arguments, the work it does, and how many times it does that."""

    program: Callable[..., Any]
    arguments: tuple[Any, ...]
    work: float
    times: int = 1


def some_steps(timesteps: int = 4, batch: int = 32, width: float = 1.0) -> Case:
    """Three steps by SeAl-KD of the spiking-conv student on images of 16×16."""
    network = create_student("spiking-conv", CLASSES, width=width)
    images, labels = jnp.ones((batch, 16, 16, 1)), jnp.zeros(batch, jnp.int32)
    state, step = seal_step(network, images, timesteps)
    work = operations(network, state.variables, images.shape, timesteps)
    batches = in_a_row(Batch(images, labels, jnp.zeros((batch, CLASSES))), 3)
    return Case(as_in_an_epoch(step), (state, *batches), work, 3)


def a_loss(classes: int) -> Case:
    """SeAl-KD's loss and its gradient, [4, 128, C]."""
    student = jax.random.normal(jax.random.key(0), (4, 128, classes))
    gradient = jax.grad(lambda *logits: seal_kd_loss(*logits).mean())
    return Case(gradient, (student, student[0], jnp.zeros(128, jnp.int32)), student.size)


def an_epoch(rows: int) -> Case:
    """An epoch of the spiking-mlp student, teacher logits of so many examples of 8×8 pixels in the device's memory."""
    network = create_student("spiking-mlp", CLASSES)
    data = DeviceData(
        jnp.zeros((rows, 8, 8, 1), jnp.uint8),
        jnp.zeros(rows, jnp.int32),
        Scale(jnp.zeros(1), jnp.ones(1)),
        jnp.zeros((), jnp.int32),
    )
    state, step = seal_step(network, jnp.ones((1, 8, 8, 1)), timesteps=4)
    epoch = make_epoch(step, Recipe(compose(), view_seed=0, views=1, batch_size=250, epochs=1))
    return Case(epoch, (state, data, jnp.zeros((rows, CLASSES)), jax.random.key(0), 0), rows)


def case(axis: str, value: float) -> Case:
    """What is measured at this value of the axis."""
    if axis == "classes":
        return a_loss(int(value))
    if axis == "rows":
        return an_epoch(int(value))
    return some_steps(**{axis: value if axis == "width" else int(value)})


def measure_axis(axis: str, values: tuple[float, ...], repeats: int) -> list[dict[str, float]]:
    """What it does and what it costs at each value: work, seconds, and bytes of temporary memory by XLA's account."""
    cases = [case(axis, value) for value in values]
    compiled = [jax.jit(one.program).lower(*one.arguments).compile() for one in cases]
    # Little work is done several times, so that the first of them, after another program, does not count for most.
    calls = [min(8, math.ceil(max(one.work for one in cases) / one.work)) for one in cases]
    works = {
        str(value): repeated(partial(program, *one.arguments), n)
        for value, program, one, n in zip(values, compiled, cases, calls, strict=True)
    }
    timings = in_turn(works, repeats).values()
    return [
        {
            "value": value,
            "work": one.work,
            "seconds": timing.seconds / (n * one.times),
            "bytes": program.memory_analysis().temp_size_in_bytes,
        }
        for value, one, program, timing, n in zip(values, cases, compiled, timings, calls, strict=True)
    ]


def figure_of(measured: dict[str, list[dict[str, float]]]) -> Figure:
    """Times the work of the least against times its time, and times its memory; dotted where they grow alike."""
    figure, axes = new_axes("Cost against work", "times the least work", "times its time", height=6, rows=2)
    axes[1].set_ylabel("times its memory", color=MUTED, fontsize=TEXT)
    for axis, cost in zip(axes, ("seconds", "bytes"), strict=True):
        axis.set(xscale="log", yscale="log")
        axis.axline((1, 1), (10, 10), color=MUTED, linestyle=":", linewidth=1)
        for (name, cases), colour, marker in zip(measured.items(), CYCLE, MARKERS, strict=False):
            work, costs = ([case[key] / cases[0][key] for case in cases] for key in ("work", cost))
            axis.plot(work, costs, color=colour, marker=marker, markersize=4, label=name)
    axes[0].legend(frameon=False, fontsize=TEXT)
    return figure


def main(argv: list[str]) -> None:
    """Prints a table, and writes JSON and a plot."""
    options = read_options(GrowthOptions, __doc__, argv, "benchmark growth")
    measured = {axis: measure_axis(axis, values, options.repeats) for axis, values in AXES.items()}
    rows = {}
    for axis, cases in measured.items():
        for now in cases:
            work, seconds, memory = (now[key] / cases[0][key] for key in ("work", "seconds", "bytes"))
            rows[f"{axis} {now['value']:g}"] = (
                f"{1e3 * now['seconds']:.4g} ms",
                f"{now['bytes'] / 1e6:.4g} MB",
                f"{work:.4g}",
                f"{seconds:.4g}",
                f"{memory:.4g}",
            )
    show("Cost against work", ("median", "memory", "× work", "× time", "× memory"), rows, "× of the first of its kind.")
    keep(options.out, {"measured": measured}, figure_of(measured))
