"""What there is, as a list in a terminal or as JSON: presets, methods, networks."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True)
class ListOptions:
    """How a list is printed."""

    json: bool = False
    """Print JSON."""


class Entry(NamedTuple):
    """One thing: its name, a line on it, and another with its numbers."""

    name: str
    description: str
    numbers: str


def print_json(facts: Any) -> None:
    """Print JSON, indented."""
    print(json.dumps(facts, indent=1, ensure_ascii=False))


def print_entries(entries: Iterable[Entry], title: str = "") -> None:
    """Print each entry beside its name."""
    table = Table.grid(padding=(0, 2), pad_edge=False)
    for name, description, numbers in entries:
        lines = [Text(description)] * bool(description) + [Text(numbers, style="dim")] * bool(numbers)
        table.add_row(Text(name, style="bold"), Text("\n").join(lines))
    console = Console()
    if title:
        console.print(Text(title, style="bold"))
    console.print(table)


def joined(values: Mapping[str, Any]) -> str:
    """NAME=VALUE for each."""
    return " ".join(
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}" for name, value in values.items()
    )
