"""The table, the numbers and the picture that a benchmark leaves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from sealkd_jax.files import replacing, write_json
from sealkd_jax.plots.style import BLUE, new_axes
from sealkd_jax.programs.environment import environment

RESULTS_DIR = Path("runs/benchmark")


def print_table(title: str, headings: Sequence[str], rows: Mapping[str, Sequence[str]], note: str = "") -> None:
    """Print a table with a line for each name in `rows`."""
    table = Table(title=title, caption=note or None)
    table.add_column("")
    for heading in headings:
        table.add_column(heading, justify="right")
    for name, cells in rows.items():
        table.add_row(name, *cells)
    Console().print(table)


def save(out: Path, measured: dict[str, Any], figure: Figure | None = None) -> None:
    """Write JSON with versions, device and command, and beside it the figure as PNG."""
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, measured | environment())
    print(f"Numbers: {out}")
    if figure is not None:
        picture = out.with_suffix(".png")
        with replacing(picture) as partial:
            figure.savefig(partial, format="png", dpi=150)
        print(f"Picture: {picture}")


def bars(title: str, x: str, values: dict[str, float]) -> Figure:
    """A bar for each name, the first on top, labelled with its number."""
    figure, (axis,) = new_axes(title, x, height=1.2 + 0.3 * len(values))
    names = list(values)[::-1]
    axis.barh(range(len(names)), [values[name] for name in names], color=BLUE, height=0.6)
    for y, name in enumerate(names):
        number = f"{values[name]:,.0f}" if values[name] >= 100 else f"{values[name]:.3g}"
        axis.annotate(number, (values[name], y), (4, 0), textcoords="offset points", va="center")
    axis.set_yticks(range(len(names)), names)
    axis.margins(x=0.15)
    axis.set_xlim(left=0)
    return figure
