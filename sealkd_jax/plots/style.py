"""How every figure looks: the palette, the axes, and the two ways out (PNG, and SVG in the page's theme).

A figure is drawn once, in the light colours. The PNG keeps them, on white. In the SVG each of them becomes a
CSS variable, so that the page decides: the same drawing reads on a light and on a dark page. The hues keep
apart for colour-blind readers (after Okabe and Ito) and no figure tells things apart by hue alone.
"""

import io
import re
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# name -> (on a light page, on a dark page). The SVG finds what to replace by the light colour: all differ.
COLOURS = {
    "paper": ("#fefefe", "#14171c"),
    "ink": ("#1f2328", "#e6e9ee"),
    "muted": ("#656d76", "#9aa3ad"),
    "grid": ("#e3e7ec", "#2b3038"),
    "blue": ("#0072b2", "#5cb3f0"),
    "vermilion": ("#d55e00", "#ff8f4d"),
    "green": ("#008a64", "#3ecf9f"),
    "purple": ("#a8478a", "#e796c8"),
    "amber": ("#a87300", "#f2bd42"),
}
PAPER, INK, MUTED, GRID, BLUE, VERMILION, GREEN, PURPLE, AMBER = (light for light, _ in COLOURS.values())
CYCLE = (BLUE, VERMILION, GREEN, PURPLE, AMBER)
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)), (0, (3, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v")

HEIGHT = 3.2  # inches; a figure of this width and height is one panel of the page
WIDTH = 4.7
SMALL = 8.5  # points
TEXT = 9.5


def new_axes(
    title: str, x: str = "", y: str = "", *, height: float = HEIGHT, rows: int = 1
) -> tuple[Figure, list[Axes]]:
    """An empty figure with a title and `rows` axes below one another that share their x axis.

    Args:
        x, y: labels of the shared x axis and of the first y axis.
        height: in inches.
    """
    figure = Figure(figsize=(WIDTH, height), layout="constrained", facecolor="none")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    axes = list(figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0])
    for axis in axes:
        axis.set_facecolor("none")
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.spines["bottom"].set_color(MUTED)
        axis.grid(axis="y", color=GRID, linewidth=0.8)
        axis.set_axisbelow(True)
        axis.tick_params(which="both", colors=MUTED, labelsize=SMALL, length=0, pad=5)
    axes[-1].set_xlabel(x, color=MUTED, fontsize=TEXT)
    axes[0].set_ylabel(y, color=MUTED, fontsize=TEXT)
    return figure, axes


def percent(share: float, _position: float | None = None) -> str:
    """A share in [0, 1] in percent, to four digits.

    >>> percent(0.07), percent(0.98766)
    ('7 %', '98.77 %')
    """
    return f"{100 * share:.4g} %"


def steps(axis: Axes, count: int, first: int = 1) -> None:
    """An x axis that counts `count` epochs or timesteps, `first` upwards, with whole numbers as ticks."""
    axis.set_xlim(first - 0.3, first + count - 0.7)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))


def spread(positions: np.ndarray, gap: float, low: float, high: float) -> np.ndarray:
    """The positions [n], moved so that neighbours are `gap` apart and none leaves [low, high].

    Positions that would touch become a block around their mean. Where n labels do not fit, they are spaced
    evenly over the whole range.

    >>> spread(np.array([0.5, 0.52, 0.1]), 0.1, 0.0, 1.0).round(2).tolist()
    [0.46, 0.56, 0.1]
    """
    positions = np.asarray(positions, float)
    if len(positions) * gap > high - low:
        gap = (high - low) / len(positions)
    order = np.argsort(positions, kind="stable")
    groups: list[tuple[list[float], int]] = []  # wished-for positions of labels that touch, as one block
    for wish in positions[order]:
        groups.append(([wish], 1))
        while len(groups) > 1 and _start(groups[-1], gap, low, high) < (
            _start(groups[-2], gap, low, high) + groups[-2][1] * gap - 1e-12
        ):
            (wishes, n), (more, m) = groups[-2:]
            groups[-2:] = [(wishes + more, n + m)]
    placed = [_start(group, gap, low, high) + k * gap for group in groups for k in range(group[1])]
    out = np.empty_like(positions)
    out[order] = placed
    return out


def _start(group: tuple[list[float], int], gap: float, low: float, high: float) -> float:
    wishes, n = group
    return float(np.clip(np.mean(wishes) - (n - 1) * gap / 2, low, max(low, high - (n - 1) * gap)))


def end_labels(axis: Axes, labels: Sequence[tuple[float, str, str]]) -> None:
    """Names lines where they end, right of the axes, instead of in a legend.

    Args:
        labels: (y where the line ends, in data units; text; colour). A y that is not finite gets no label.
            The limits of the y axis must be final.
    """
    labels = [label for label in labels if np.isfinite(label[0])]
    if not labels:
        return
    bottom, top = axis.get_ylim()
    scale = axis.yaxis.get_transform().transform
    low, high = scale(np.array([bottom, top]))
    at = (scale(np.array([y for y, _, _ in labels])) - low) / (high - low)
    height = axis.figure.bbox.height / axis.figure.dpi
    inches = axis.get_position().height * height * 0.9  # constrained layout takes some away
    gap = SMALL * 1.3 / 72 / inches
    for y, (_, text, colour) in zip(spread(at, gap, 0.0, 1.0), labels, strict=True):
        axis.text(
            1.03,
            y,
            text,
            transform=axis.transAxes,
            color=colour,
            fontsize=SMALL,
            va="center",
            parse_math=False,
        )


def draw_lines(axis: Axes, x: np.ndarray, lines: dict[str, np.ndarray], colours: Sequence[str] = CYCLE) -> None:
    """Draws each line [n] over x [n], kept apart by colour and dashes, with markers where points are few."""
    for index, values in enumerate(lines.values()):
        axis.plot(
            x,
            values,
            color=colours[index % len(colours)],
            linestyle=DASHES[index % len(DASHES)],
            linewidth=1.8,
            marker=MARKERS[index % len(MARKERS)] if len(x) <= 12 else None,
            markersize=4,
        )


def name_lines(
    axis: Axes,
    lines: dict[str, np.ndarray],
    colours: Sequence[str] = CYCLE,
    *,
    form: Callable[[float], str] = "{:.3g}".format,
    teacher: float | None = None,
) -> None:
    """Fixes the limits, draws the teacher's line, and writes each line's name and last value where it ends.

    Args:
        form: how to write the value, such as `percent`.
    """
    labels = []
    if teacher is not None:
        axis.axhline(teacher, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
        labels.append((teacher, f"teacher {form(teacher)}", MUTED))
    axis.set_ylim(axis.get_ylim())
    for index, (name, values) in enumerate(lines.items()):
        labels.append((values[-1], f"{name} {form(values[-1])}", colours[index % len(colours)]))
    end_labels(axis, labels)


def shade(colour: str) -> LinearSegmentedColormap:
    """A colour map from nothing (transparent: the page shows) to `colour` at 85 %, for shares and weights."""
    return LinearSegmentedColormap.from_list("shade", [(*to_rgb(colour), 0.0), (*to_rgb(colour), 0.85)])


def _settle(figure: Figure) -> None:
    """Lays the figure out, once: it is saved twice, and layout is a third of the time that takes."""
    if engine := figure.get_layout_engine():
        engine.execute(figure)
        figure.set_layout_engine("none")


def to_png(figure: Figure) -> bytes:
    """The figure in light colours on white."""
    _settle(figure)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=180, facecolor=COLOURS["paper"][0])
    return out.getvalue()


def to_svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an <svg> element for a page that defines the CSS variables `--ink`, `--blue`, …

    Args:
        name: goes before every id, so that several figures live in one page.
        description: for screen readers; without characters that are special in HTML.
    """
    _settle(figure)
    out = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(out, format="svg", metadata=nothing)
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>|<!--.*?-->| xmlns(:xlink)?=\"[^\"]*\"", "", svg, flags=re.DOTALL)
    svg = re.sub(r"(<svg[^>]*?) width=\"[^\"]*\" height=\"[^\"]*\"", r"\1", svg, count=1)
    svg = re.sub(r"\bid=\"|(?<=\"#)|(?<=url\(#)", lambda found: f"{found[0]}{name}-", svg)
    for colour, (light, _) in COLOURS.items():
        svg = svg.replace(light, f"var(--{colour})")
    svg = re.sub(r"\s*\n\s*", " ", svg).strip()
    return svg.replace("<svg", f'<svg role="img" aria-label="{description}"', 1)
