"""The report of a comparison of methods, from the `comparison.json` in its directory."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from sealkd_jax.plots.comparison import DIFFERENCES, ENERGY, STEPS, SWEEP, chosen, differs
from sealkd_jax.plots.words import count, duration, percent, points
from sealkd_jax.report.page import section, table, write_page
from sealkd_jax.run_files import Comparison, Row, read_comparison


def write_comparison_report(out_dir: str | Path) -> Path:
    """Draw `plots/*.png` and write the self-contained `report.html` of a comparison.

    Args:
        out_dir: holds `comparison.json`.
    Returns:
        the path of `report.html`.
    """
    out_dir = Path(out_dir)
    comparison = read_comparison(out_dir)
    versions = [("device", comparison["device"]), *comparison["versions"].items()]
    settings = f"<details><summary>All settings</summary>{_results(comparison, comparison['rows'])}</details>"
    body = [
        f"<pre>{escape(comparison['command'])}</pre>{_results(comparison, chosen(comparison))}",
        f'<p class="muted">{escape(_notes(comparison))}</p>',
        section(DIFFERENCES, comparison, out_dir),
        section(SWEEP, comparison, out_dir, settings if len(chosen(comparison)) < len(comparison["rows"]) else ""),
        section(ENERGY, comparison, out_dir),
        section(STEPS, comparison, out_dir),
        section("Versions", comparison, out_dir, table(versions)),
    ]
    return write_page(out_dir, f"Methods compared on {comparison['preset']}", _lead(comparison), "".join(body))


def _lead(comparison: Comparison) -> str:
    """What was compared, and which methods are shown to differ from the reference."""
    rows, methods = comparison["rows"], len(chosen(comparison))
    settings = f" in {len(rows)} settings" if len(rows) > methods else ""
    text = (
        f"{count(methods, 'method')}{settings} on {comparison['preset']}, {count(comparison['n_seeds'], 'seed')} each, "
        f"{comparison['n_test']} test examples. {_finding(comparison)}"
    )
    teacher, name = comparison["teacher_accuracy"], comparison["teacher"]
    if teacher is None:
        return text if name is None else f"{text} They learned from the logits of {name}."
    return f"{text} The teacher has {percent(teacher)}."


def _finding(comparison: Comparison) -> str:
    """Which methods are shown to differ from the reference, by the interval of their chosen setting."""
    reference = comparison["reference"]
    rows = [row for row in chosen(comparison) if row["difference"] is not None]
    if not rows:
        return f"Nothing is compared: that takes {reference} and another method."
    if any(row["interval"] is None for row in rows):
        return "So few seeds give no intervals: the differences may be chance."
    better, worse, unclear = (
        ", ".join(f"{row['name']} ({points(row['difference'])} points)" for row in rows if holds(row))
        for holds in (
            lambda row: differs(row) and row["difference"] > 0,
            lambda row: differs(row) and row["difference"] < 0,
            lambda row: not differs(row),
        )
    )
    if not better and not worse:
        return f"No method is shown to differ from {reference}: every interval includes zero."
    texts = {f"Better than {reference}": better, f"Worse than {reference}": worse, "Not shown to differ": unclear}
    return " ".join(f"{verdict}: {names}." for verdict, names in texts.items() if names)


def _results(comparison: Comparison, rows: Sequence[Row]) -> str:
    """A table of rows, in their order."""
    difference = (f"− {comparison['reference']}", "95 %, Student’s t", "95 %, bootstrap")
    return table(map(_result, rows), ("Method", "Validation", "Test accuracy", "± std", *difference, "Training"))


def _notes(comparison: Comparison) -> str:
    """How to read the table."""
    n = count(comparison["n_seeds"], "seed")
    text = (
        "Methods are ordered by test accuracy. Differences and intervals are in percentage points, paired by seed, of "
        f"n = {n}; Student’s t takes three seeds, the bootstrap five. The intervals take no account of how many "
        "methods are compared. Training time is for one seed."
    )
    if len(chosen(comparison)) < len(comparison["rows"]):
        text += (
            " Each method has the setting with the highest validation accuracy, and so has the reference; other "
            "settings are compared with the reference in the same setting."
        )
    if any(row["unconfirmed"] for row in comparison["rows"]):
        text += " † Written after its paper alone: not checked against its authors’ code."
    return text


def _result(row: Row) -> tuple[str, ...]:
    intervals = ("" if ends is None else " to ".join(map(points, ends)) for ends in (row["interval"], row["bootstrap"]))
    return (
        row["name"] + " †" * row["unconfirmed"],
        percent(row["validation"]),
        percent(row["mean"]),
        "" if row["std"] is None else f"{100 * row['std']:.2f}",
        "" if row["difference"] is None else points(row["difference"]),
        *intervals,
        duration(row["seconds"]),
    )
