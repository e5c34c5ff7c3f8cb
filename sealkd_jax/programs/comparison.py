"""A comparison of methods: differences paired by seed, and its rows as CSV and as a table."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from sealkd_jax.files import replacing
from sealkd_jax.losses import UNCONFIRMED
from sealkd_jax.programs.cells import Cell

REFERENCE = "uniform_kd"
RESAMPLES = 9999


def paired_difference(accuracy: Sequence[float], reference: Sequence[float]) -> tuple[float, list[float] | None]:
    """Mean of the differences seed by seed `[S]`, and its 95 % bootstrap interval; None for one seed.

    The interval lies between the 2.5 and 97.5 percentiles of the means of resampled differences. With five seeds,
    expect it to be too narrow.
    """
    differences = np.subtract(accuracy, reference)
    if len(differences) == 1:
        return float(differences[0]), None
    draws = np.random.default_rng(0).integers(0, len(differences), (RESAMPLES, len(differences)))
    return float(differences.mean()), np.percentile(differences[draws].mean(1), [2.5, 97.5]).tolist()


def make_rows(cells: Sequence[Cell], results: Sequence[Any]) -> list[dict[str, Any]]:
    """A row of `comparison.json` for each cell.

    The reference of a cell is the cell of `uniform_kd` to which the sweep gave the same values, if there is one alone.
    """
    rows = []
    for cell, result in zip(cells, results, strict=True):
        accuracies = result["test_accuracy"]
        references = [
            results[k]["test_accuracy"]
            for k, other in enumerate(cells)
            if other.options.method == REFERENCE
            and all(cell.swept.get(name, text) == text for name, text in other.swept.items())
        ]
        difference, interval = None, None
        if len(references) == 1 and cell.options.method != REFERENCE:
            difference, interval = paired_difference(accuracies, references[0])
        rows.append(
            {
                "name": cell.name,
                "method": cell.options.method,
                "options": cell.swept,
                "test_accuracy": accuracies,
                "mean": float(np.mean(accuracies)),
                "std": float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None,
                "validation": float(np.mean(result["val_accuracy"])),
                "difference": difference,
                "interval": interval,
                "seconds": result["seconds"],
                "accuracy_by_timestep_mean": np.mean(result["accuracy_by_timestep"], 0).tolist(),
                "unconfirmed": cell.options.method in UNCONFIRMED,
            }
        )
    return rows


def write_csv(path: Path, rows: Sequence[dict[str, Any]], first_seed: int) -> None:
    """Write a line for each cell: the numbers of the table, and the test accuracy of every seed."""
    plain = ("name", "method", "validation", "mean", "std", "difference")
    seeds = range(first_seed, first_seed + len(rows[0]["test_accuracy"]))
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow((*plain, "low", "high", "seconds", *(f"seed_{seed}" for seed in seeds)))
        for row in rows:
            low, high = row["interval"] or (None, None)
            writer.writerow((*(row[name] for name in plain), low, high, row["seconds"], *row["test_accuracy"]))


def comparison_table(comparison: dict[str, Any]) -> Table:
    """The rows of `comparison.json` as a table for a terminal."""
    seeds = comparison["n_seeds"]
    table = Table(
        title=f"{comparison['preset']}: test accuracy, n = {comparison['n_test']}, {seeds} "
        f"seed{'s' * (seeds != 1)}; differences in points"
    )
    table.add_column("method")
    for heading in ("validation", "mean ± std", f"− {REFERENCE} [95 %]", "one seed"):
        table.add_column(heading, justify="right")
    for row in comparison["rows"]:
        std = "" if row["std"] is None else f" ± {100 * row['std']:.2f}"
        difference = "" if row["difference"] is None else f"{100 * row['difference']:+z.2f}"
        if row["interval"] is not None:
            difference += " [{:+z.2f}, {:+z.2f}]".format(*(100 * end for end in row["interval"]))
        name = row["name"] + " †" * row["unconfirmed"]
        accuracies = (f"{row['validation']:.2%}", f"{row['mean']:.2%}{std}")
        table.add_row(name, *accuracies, difference, f"{row['seconds']:.1f} s")
    if comparison["teacher_accuracy"] is not None:
        table.add_row("teacher", "", f"{comparison['teacher_accuracy']:.2%}", "", "")
    notes = {
        "differences are between cells with the same settings": any(row["options"] for row in comparison["rows"]),
        "† follows its paper alone: not checked against its authors’ code": any(
            row["unconfirmed"] for row in comparison["rows"]
        ),
    }
    table.caption = "\n".join(note for note, holds in notes.items() if holds)
    return table
