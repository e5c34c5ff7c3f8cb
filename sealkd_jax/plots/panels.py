"""The figures of the reports: each registers itself with its section, its caption and what it draws of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sealkd_jax.run_files import Epoch, Summary

    Draw = TypeVar("Draw", bound=Callable[..., Figure])


class Run(NamedTuple):
    """What the files of a finished run say. T: timesteps, N: test examples, C: classes.

    Attributes:
        summary: `summary.json`.
        metrics: the lines of `metrics.jsonl`, oldest first.
        logits: `[T, N, C]`, of the test examples.
        labels: `[N]`.
    """

    summary: Summary
    metrics: list[Epoch]
    logits: np.ndarray
    labels: np.ndarray

    @property
    def in_time(self) -> bool:
        """Whether there is more than one timestep."""
        return len(self.logits) > 1


class Panel(NamedTuple):
    """A figure of a report.

    Attributes:
        section: heading of the section in which it stands.
        caption: how to read it.
        inputs: arguments of `draw`, from a `Run` or a `comparison.json`; None if there is nothing to draw.
    """

    section: str
    caption: str
    inputs: Callable[[Any], dict[str, Any] | None]
    draw: Callable[..., Figure]


PANELS: dict[str, Panel] = {}
"""Name of the figure -> panel. `plots/NAME.png` of a run is that figure."""


def panel(section: str, caption: str, inputs: Callable[[Any], dict[str, Any] | None]) -> Callable[[Draw], Draw]:
    """Register the decorated function as a figure of the reports, under its own name; see `Panel`."""

    def register(draw: Draw) -> Draw:
        PANELS[draw.__name__] = Panel(section, caption, inputs, draw)
        return draw

    return register


def sta_knobs(hyper: Sequence[str]) -> dict[str, Any]:
    """Those of a method's hyper-parameters, `name=value` each, on which the weights of STA depend."""
    given = dict(item.split("=", 1) for item in hyper)
    return {name: float(given[name]) for name in ("score_temperature", "confidence_threshold") if name in given}
