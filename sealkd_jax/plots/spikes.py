"""Spikes and energy of a network, by layer. Every function returns a matplotlib Figure."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from sealkd_jax.plots.panels import panel
from sealkd_jax.plots.style import BLUE, INK, MUTED, SMALL, cells, new_axes
from sealkd_jax.plots.words import joules

SECTION = "Spikes and energy"


@panel(
    SECTION,
    "Share of a layer’s neurons that fire at each timestep, in percent, the first layer on top. A row near 0 is a dead "
    "layer. Fewer spikes cost less energy.",
    lambda run: {"rates": run.summary["firing_rates"]},
)
def firing_rates(rates: dict[str, Sequence[float]]) -> Figure:
    """Share of neurons that fire, in percent, by layer (rows) and timestep (columns).

    Args:
        rates: layer name -> `[T]` fractions, input first.
    """
    figure, (axis,) = new_axes("Firing rate by layer, %", "timestep", height=1.1 + 0.28 * max(len(rates), 4))
    shares = np.array(list(rates.values()), float)
    cells(axis, shares, list(rates), colour=BLUE, form=lambda share: f"{100 * share:.1f}")
    return figure


@panel(
    SECTION,
    "Estimated energy of classifying one example: the ANN of the same layers, the SNN, and the SNN’s layers. It is "
    "computed from the number of operations, not measured.",
    lambda run: {name: run.summary["energy"][name] for name in ("snn_picojoule", "ann_picojoule", "layers")},
)
def energy(snn_picojoule: float, ann_picojoule: float, layers: dict[str, float]) -> Figure:
    """Estimated energy per example of the ANN, the SNN, and each layer of the SNN, as bars.

    Args:
        layers: layer name -> picojoules, input first.
    """
    bars = {"ANN": ann_picojoule, "SNN": snn_picojoule} | {f"   {name}": value for name, value in layers.items()}
    figure, (axis,) = new_axes("Estimated energy per example", height=1.0 + 0.28 * max(len(bars), 4))
    colours = [MUTED, BLUE, *[BLUE] * len(layers)]
    drawn = axis.barh(range(len(bars)), list(bars.values()), height=0.7, color=colours, linewidth=0)
    for y, (bar, value) in enumerate(zip(drawn, bars.values(), strict=True)):
        bar.set_alpha(1.0 if y < 2 else 0.5)
        axis.text(value, y, f"  {joules(value)}", va="center", fontsize=SMALL, color=INK)
    axis.invert_yaxis()
    axis.grid(False)
    axis.spines["bottom"].set_visible(False)
    axis.set_xticks([])
    axis.set_yticks(range(len(bars)), list(bars), parse_math=False, color=INK)
    axis.margins(x=0.2)
    return figure
