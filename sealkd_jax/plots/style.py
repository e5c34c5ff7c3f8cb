"""How every figure looks: the palette, the axes, and the two formats (PNG, and SVG in the theme of the page).

A figure is drawn once, in the light colours. The PNG keeps them, on white. In the SVG each becomes a CSS variable, so
that the figure follows the page's light or dark theme. The hues are distinct for colour-blind readers (after Okabe and
Ito), and lines also differ in dashes and markers.
"""

import io
import re
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sealkd_jax.plots.words import percent

# name -> (on a light page, on a dark page). `to_svg` finds the light colours by their text, so all differ.
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

HEIGHT = 3.2  # inches, the height of most panels
WIDTH = 4.7
SMALL = 8.5  # points
TEXT = 9.5


def new_axes(
    title: str, x: str = "", y: str = "", *, height: float = HEIGHT, rows: int = 1, sharex: bool = True
) -> tuple[Figure, list[Axes]]:
    """An empty figure with a title and `rows` axes below one another.

    Args:
        x, y: labels of the last x axis and of the first y axis.
        height: in inches.
        sharex: whether the axes share their x axis.
    """
    figure = Figure(figsize=(WIDTH, height), layout="constrained", facecolor="none")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    axes = list(figure.subplots(rows, 1, sharex=sharex, squeeze=False)[:, 0])
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


def in_percent(axis: Axis) -> None:
    """Label the ticks of an x or y axis of shares in percent."""
    axis.set_major_formatter(lambda share, _position: f"{100 * share:.4g} %")


def steps(axis: Axes, count: int, first: int = 1) -> None:
    """Count `count` epochs or timesteps on the x axis, from `first`, with whole numbers as ticks."""
    axis.set_xlim(first - 0.3, first + count - 0.7)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))


def draw_lines(
    axis: Axes,
    x: Sequence[float] | np.ndarray,
    lines: dict[str, np.ndarray],
    colours: Sequence[str] = CYCLE,
    *,
    form: Callable[[float], str] = "{:.3g}".format,
    teacher: float | None = None,
) -> None:
    """Draw each line `[n]` over x `[n]`, and beside the axes a legend: names and last values, the highest on top.

    Lines differ in colour and dashes, and in markers where points are few. Lines that the axes already have stay in the
    legend.

    Args:
        form: writes a value, such as `percent`.
        teacher: where to draw the teacher's line.
    """
    for index, (name, values) in enumerate(lines.items(), start=len(axis.get_lines())):
        axis.plot(
            x,
            values,
            color=colours[index % len(colours)],
            linestyle=DASHES[index % len(DASHES)],
            linewidth=1.8,
            marker=MARKERS[index % len(MARKERS)] if len(x) <= 12 else None,
            markersize=4,
            clip_on=False,
            label=f"{name} {form(values[-1])}".rstrip() if np.isfinite(values[-1]) else name,
        )
    if teacher is not None:
        axis.axhline(teacher, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), label=f"teacher {percent(teacher)}")
    drawn = sorted(axis.get_lines(), key=lambda line: -np.nan_to_num(np.asarray(line.get_ydata(), float)[-1]))
    legend = axis.legend(
        handles=drawn,
        loc="center left",
        bbox_to_anchor=(1, 0.5),
        frameon=False,
        fontsize=SMALL,
        labelcolor="linecolor",
        handlelength=1.6,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def cells(
    axis: Axes,
    values: np.ndarray,
    rows: Sequence[str],
    *,
    colour: str,
    form: Callable[[float], str],
    lowest: float = 0.0,
    written: int = 8,
) -> None:
    """Shade the cells of a table `[R, K]` of numbers ≥ 0, with the numbers in them if there are few columns.

    Args:
        rows: R names, the first on top; the columns count from 1.
        form: writes a number.
        lowest: the number at the pale end of the colours.
        written: the most columns whose numbers are written; a colour bar stands for those of more.
    """
    count = values.shape[1]
    palette = LinearSegmentedColormap.from_list("shade", [(*to_rgb(colour), 0.0), (*to_rgb(colour), 0.85)])
    extent = (0.5, count + 0.5, len(rows) - 0.5, -0.5)
    image = axis.imshow(values, palette, vmin=lowest, extent=extent, aspect="auto", interpolation="none")
    axis.grid(False)
    axis.spines["bottom"].set_visible(False)
    axis.set_yticks(range(len(rows)), rows, parse_math=False, color=INK)
    steps(axis, count)
    axis.set_xlim(0.5, count + 0.5)
    if count <= written:
        for (row, column), value in np.ndenumerate(values):
            axis.text(column + 1, row, form(value), ha="center", va="center", fontsize=SMALL, color=INK)
    else:
        bar = axis.figure.colorbar(image, ax=axis, format=lambda value, _position: form(value))
        bar.outline.set_visible(False)
        bar.ax.tick_params(colors=MUTED, labelsize=SMALL, length=0)


def _lay_out(figure: Figure) -> None:
    """Compute the layout once for both formats: it takes a third of the time of saving."""
    if engine := figure.get_layout_engine():
        engine.execute(figure)
        figure.set_layout_engine("none")


def to_png(figure: Figure) -> bytes:
    """The figure in light colours on white."""
    _lay_out(figure)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=180, facecolor=COLOURS["paper"][0])
    return out.getvalue()


def to_svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an `<svg>` element for a page that defines the CSS variables `--ink`, `--blue`, …

    Args:
        name: prefix of every id, so that one page can hold several figures.
        description: for screen readers; without characters that are special in HTML.
    """
    _lay_out(figure)
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>|<!--.*?-->| xmlns(:xlink)?=\"[^\"]*\"", "", svg, flags=re.DOTALL)
    svg = re.sub(r"(<svg[^>]*?) width=\"[^\"]*\" height=\"[^\"]*\"", r"\1", svg, count=1)
    svg = re.sub(r"\bid=\"|(?<=\"#)|(?<=url\(#)", lambda found: f"{found[0]}{name}-", svg)
    for colour, (light, _) in COLOURS.items():
        svg = svg.replace(light, f"var(--{colour})")
    svg = re.sub(r"\s*\n\s*", " ", svg).strip()
    return svg.replace("<svg", f'<svg role="img" aria-label="{description}"', 1)
