"""A comparison of methods: settings chosen by validation, differences paired by seed, and the rows as CSV and table."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table
from scipy.special import stdtrit

from sealkd_jax.files import replacing
from sealkd_jax.losses import UNCONFIRMED
from sealkd_jax.plots.words import count
from sealkd_jax.programs.cells import Cell

REFERENCE = "uniform_kd"
RESAMPLES = 9999
FEWEST = 3  # seeds for an interval of Student's t
FEWEST_BOOTSTRAPPED = 5  # the bootstrap of fewer is much too narrow


class Difference(NamedTuple):
    """A mean difference, paired by seed, and its 95 % intervals: of Student's t and of the percentile bootstrap."""

    mean: float | None
    interval: list[float] | None
    bootstrap: list[float] | None


def paired_difference(accuracy: Sequence[float], reference: Sequence[float]) -> Difference:
    """The difference of accuracies `[S]` to a reference's of the same S seeds.

    The interval of Student's t is None for fewer than three seeds. The bootstrap's, between the 2.5 and 97.5
    percentiles of the means of resampled differences, is None for fewer than five.
    """
    differences = np.subtract(accuracy, reference)
    n, mean = len(differences), float(differences.mean())
    interval, bootstrap = None, None
    if n >= FEWEST:
        half = float(stdtrit(n - 1, 0.975) * differences.std(ddof=1) / np.sqrt(n))
        interval = [mean - half, mean + half]
    if n >= FEWEST_BOOTSTRAPPED:
        draws = np.random.default_rng(0).integers(0, n, (RESAMPLES, n))
        bootstrap = np.percentile(differences[draws].mean(1), [2.5, 97.5]).tolist()
    return Difference(mean, interval, bootstrap)


def make_rows(cells: Sequence[Cell], results: Sequence[Any]) -> list[dict[str, Any]]:
    """A row of `comparison.json` for each cell, the method with the highest test accuracy first.

    A method stands for its setting with the highest mean validation accuracy, the first of equals: it is `chosen`, it
    is compared with the chosen setting of `uniform_kd`, and it decides the place of the method. Another setting is
    compared with the cell of `uniform_kd` to which the sweep gave the same values, if there is one alone.
    """
    chosen: dict[str, int] = {}
    for k, cell in enumerate(cells):
        best = chosen.setdefault(cell.options.method, k)
        if np.mean(results[k]["val_accuracy"]) > np.mean(results[best]["val_accuracy"]):
            chosen[cell.options.method] = k
    rows = [_make_row(k, cells, results, chosen) for k in range(len(cells))]
    means = {method: rows[k]["mean"] for method, k in chosen.items()}
    return sorted(rows, key=lambda row: -means[row["method"]])


def _make_row(k: int, cells: Sequence[Cell], results: Sequence[Any], chosen: dict[str, int]) -> dict[str, Any]:
    cell, result, method = cells[k], results[k], cells[k].options.method
    accuracies, is_chosen = result["test_accuracy"], k in chosen.values()
    references = [
        other
        for other, reference in enumerate(cells)
        if method != REFERENCE
        and reference.options.method == REFERENCE
        and (
            other in chosen.values()
            if is_chosen
            else all(cell.swept.get(name, text) == text for name, text in reference.swept.items())
        )
    ]
    difference, against = Difference(None, None, None), None
    if len(references) == 1:
        difference = paired_difference(accuracies, results[references[0]]["test_accuracy"])
        against = cells[references[0]].name
    return {
        "name": cell.name,
        "method": method,
        "options": cell.swept,
        "chosen": is_chosen,
        "test_accuracy": accuracies,
        "mean": float(np.mean(accuracies)),
        "std": float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None,
        "validation": float(np.mean(result["val_accuracy"])),
        "against": against,
        "difference": difference.mean,
        "interval": difference.interval,
        "bootstrap": difference.bootstrap,
        "seconds": result["seconds"],
        "accuracy_by_timestep_mean": np.mean(result["accuracy_by_timestep"], 0).tolist(),
        "unconfirmed": method in UNCONFIRMED,
        **({"picojoule": float(np.mean(result["picojoule"]))} if "picojoule" in result else {}),
    }


def write_csv(path: Path, rows: Sequence[dict[str, Any]], first_seed: int) -> None:
    """Write a line for each cell: the numbers of the table, and the test accuracy of every seed."""
    plain = ("name", "method", "chosen", "validation", "mean", "std", "against", "difference")
    seeds = range(first_seed, first_seed + len(rows[0]["test_accuracy"]))
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        ends = ("t_low", "t_high", "bootstrap_low", "bootstrap_high")
        writer.writerow((*plain, *ends, "seconds", *(f"seed_{seed}" for seed in seeds)))
        for row in rows:
            intervals = (end for name in ("interval", "bootstrap") for end in row[name] or (None, None))
            writer.writerow((*(row[name] for name in plain), *intervals, row["seconds"], *row["test_accuracy"]))


def comparison_table(comparison: dict[str, Any]) -> Table:
    """The rows of `comparison.json` as a table for a terminal."""
    seeds, swept = comparison["n_seeds"], not all(row["chosen"] for row in comparison["rows"])
    table = Table(
        title=f"{comparison['preset']}: test accuracy on {comparison['n_test']} examples, n = {count(seeds, 'seed')}; "
        "differences in points"
    )
    table.add_column("method")
    for heading in ("validation", "mean ± std", f"− {REFERENCE} [95 %, t]", "one seed"):
        table.add_column(heading, justify="right")
    for row in comparison["rows"]:
        std = "" if row["std"] is None else f" ± {100 * row['std']:.2f}"
        difference = "" if row["difference"] is None else f"{100 * row['difference']:+z.2f}"
        if row["interval"] is not None:
            difference += " [{:+z.2f}, {:+z.2f}]".format(*(100 * end for end in row["interval"]))
        name = row["name"] + " ✓" * (swept and row["chosen"]) + " †" * row["unconfirmed"]
        accuracies = (f"{row['validation']:.2%}", f"{row['mean']:.2%}{std}")
        table.add_row(name, *accuracies, difference, f"{row['seconds']:.1f} s")
    if comparison["teacher_accuracy"] is not None:
        table.add_row("teacher", "", f"{comparison['teacher_accuracy']:.2%}", "", "")
    own = comparison["teacher"] is not None and comparison["teacher_accuracy"] is None
    notes = {
        f"the teacher's logits: {comparison['teacher']}": own,
        f"✓ chosen by validation, and compared with the chosen {REFERENCE}": swept,
        f"no intervals with fewer than {FEWEST} seeds: the differences may be chance": seeds < FEWEST,
        "† follows its paper alone: not checked against its authors’ code": any(
            row["unconfirmed"] for row in comparison["rows"]
        ),
    }
    table.caption = "\n".join(note for note, holds in notes.items() if holds)
    return table
