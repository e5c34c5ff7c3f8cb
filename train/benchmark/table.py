"""The table and the numbers that a benchmark leaves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sealkd_jax.files import write_json
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


def save(out: Path, measured: dict[str, Any]) -> None:
    """Write JSON with versions, device and command."""
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, measured | environment())
    print(f"Numbers: {out}")
