"""The report of a comparison of methods, from the `comparison.json` in its directory."""

from html import escape
from pathlib import Path

from sealkd_jax.plots.comparison import DIFFERENCES, STEPS, includes_zero
from sealkd_jax.plots.words import duration, percent, points
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
    body = [
        f"<pre>{escape(comparison['command'])}</pre>{results(comparison)}",
        section(DIFFERENCES, comparison, out_dir, verdicts(comparison)),
        section(STEPS, comparison, out_dir),
        section("Versions", comparison, out_dir, table(versions)),
    ]
    return write_page(out_dir, f"Methods compared on {comparison['preset']}", lead(comparison), "".join(body))


def lead(comparison: Comparison) -> str:
    """What was compared, and who came first, in two sentences."""
    rows, seeds = comparison["rows"], comparison["n_seeds"]
    best = max(rows, key=lambda row: row["mean"])
    methods = len({row["method"] for row in rows})
    settings = f" in {len(rows)} settings" if len(rows) > methods else ""
    text = (
        f"{methods} method{'s' * (methods != 1)}{settings} on {comparison['preset']}, "
        f"{seeds} seed{'s' * (seeds != 1)} each, {comparison['n_test']} test examples. The highest "
        f"mean accuracy is that of {best['name']}, {percent(best['mean'])}"
    )
    teacher = comparison["teacher_accuracy"]
    return f"{text}." if teacher is None else f"{text}; the teacher has {percent(teacher)}."


def results(comparison: Comparison) -> str:
    """The table of all rows, best mean first."""
    header = (
        "Method",
        "Validation",
        "Test accuracy",
        "± std",
        f"− {comparison['reference']}",
        "95 % interval",
        "Training",
    )
    rows = [_result(row) for row in sorted(comparison["rows"], key=lambda row: -row["mean"])]
    note = (
        "Differences and their intervals are in percentage points, paired by seed, of the same settings; training "
        "time is of one seed. The intervals are bootstrapped from the seeds: of few seeds rather too narrow, and they "
        "take no account of how many methods are compared."
    )
    if any(row.get("unconfirmed") for row in comparison["rows"]):
        note += " † Written after its paper alone: not checked against its authors’ code."
    return f'{table(rows, header)}<p class="muted">{escape(note)}</p>'


def _result(row: Row) -> tuple[str, ...]:
    return (
        row["name"] + " †" * bool(row.get("unconfirmed")),
        percent(row["validation"]),
        percent(row["mean"]),
        "" if row["std"] is None else f"{100 * row['std']:.2f}",
        "" if row["difference"] is None else points(row["difference"]),
        "" if row["interval"] is None else " to ".join(points(end) for end in row["interval"]),
        duration(row["seconds"]),
    )


def verdicts(comparison: Comparison) -> str:
    """For every row with an interval, in words, whether it differs from the reference."""
    reference = comparison["reference"]
    better: list[str] = []
    worse: list[str] = []
    unclear: list[str] = []
    for row in comparison["rows"]:
        if row["interval"] is not None:
            positive = better if (row["difference"] or 0) > 0 else worse
            (unclear if includes_zero(row["interval"]) else positive).append(row["name"])
    lines = [
        f"{verdict}: {', '.join(names)}."
        for verdict, names in (
            (f"Better than {reference} (the interval excludes zero)", better),
            (f"Worse than {reference} (the interval excludes zero)", worse),
            (f"No difference to {reference} shown (the interval includes zero)", unclear),
        )
        if names
    ]
    if not lines and any(row["difference"] is not None for row in comparison["rows"]):
        lines = ["One seed gives no interval: these differences may be chance."]
    return "".join(f"<p>{escape(line)}</p>" for line in lines)
