"""What there is, as a list in a terminal or as JSON: presets, methods, networks."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True)
class ListOptions:
    """How a list is printed."""

    json: bool = False
    """Print JSON."""


def print_json(value: Any) -> None:
    """Print JSON, indented."""
    print(json.dumps(value, indent=1, ensure_ascii=False))


def print_entries(entries: Iterable[tuple[str, str, str]], title: str = "") -> None:
    """Print each name with a description beside it, and a dimmer line below that one. Either may be empty."""
    table = Table.grid(padding=(0, 2), pad_edge=False)
    for name, description, detail in entries:
        lines = [Text(description)] * bool(description) + [Text(detail, style="dim")] * bool(detail)
        table.add_row(Text(name, style="bold"), Text("\n").join(lines))
    console = Console()
    if title:
        console.print(Text(title, style="bold"))
    console.print(table)
