"""Energy of one classification, spiking network against ANN."""

from matplotlib.figure import Figure

from sealkd_jax.plots.style import BLUE, INK, MUTED, SMALL, new_axes

UNITS = ((1e12, "J"), (1e9, "mJ"), (1e6, "µJ"), (1e3, "nJ"), (1.0, "pJ"))


def joules(picojoule: float) -> str:
    """An energy in the unit that suits it.

    >>> joules(5.0), joules(12_345.0), joules(4.6e7)
    ('5 pJ', '12.3 nJ', '46 µJ')
    """
    scale, unit = next(((scale, unit) for scale, unit in UNITS if picojoule >= scale), UNITS[-1])
    return f"{picojoule / scale:.3g} {unit}"


def energy(snn: float, ann: float, layers: dict[str, float]) -> Figure:
    """Energy per example of the ANN, of the SNN, and of each layer of the SNN, as bars.

    Args:
        snn, ann: picojoules.
        layers: layer name -> picojoules, input first.
    """
    bars = {"ANN": ann, "SNN": snn} | {f"   {name}": value for name, value in layers.items()}
    figure, (axis,) = new_axes("Energy per example", height=1.0 + 0.28 * max(len(bars), 4))
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
