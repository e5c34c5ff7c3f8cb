"""Classify new pictures, arrays or recordings with the student of a finished run.

A picture becomes an image of the run's size, normalised as in training; docs/predict.md says which files are read.
"""

import csv
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from rich.console import Console
from rich.table import Table

from sealkd_jax.plots.words import percent
from sealkd_jax.programs.command_line import read_options
from sealkd_jax.programs.finished import Predictions, load_run
from sealkd_jax.programs.option import POSITIONAL, Spelling
from sealkd_jax.typed import SHARE


@dataclass(frozen=True)
class PredictOptions:
    """A finished run and new examples."""

    run: Annotated[Path, POSITIONAL]
    """Directory of the run."""
    files: Annotated[tuple[Path, ...], POSITIONAL]
    """Pictures, arrays (.npz with the key x, .npy), or for a run on events its kind of recordings."""
    exit_at: Annotated[float | None, SHARE, Spelling(metavar="CONFIDENCE")] = None
    """Confidence at which an example stops before the last timestep; all timesteps if not given."""
    format: Literal["table", "csv", "json"] = "table"
    """json has the probabilities of all classes after each timestep; the others those of the likeliest class."""


def predict(run: str | Path, files: str | Path | Iterable[str | Path], exit_at: float | None = None) -> Predictions:
    """Predictions of a finished run for new files.

    Args:
        run: directory of the run.
        files: one or several pictures, arrays or recordings.
        exit_at: confidence at which an example stops early; None: each takes all T timesteps.

    Raises:
        InputError: if the run is unfinished or damaged, or a file cannot be read or is of another kind.
    """
    return load_run(run).predict(files, exit_at)


def main(argv: list[str] | None = None) -> None:
    """Print the predictions as a table, CSV or JSON."""
    description = "Classify new pictures, arrays or recordings with the student of a finished run."
    options = read_options(PredictOptions, description, argv, "predict")
    found = predict(options.run, options.files, options.exit_at)
    {"table": _print_table, "csv": _print_csv, "json": _print_json}[options.format](found)


def _likeliest(found: Predictions, example: int) -> list[tuple[str, float]]:
    """The likeliest class after each timestep, and its probability."""
    after = found.probabilities[:, example]
    return [(found.classes[int(row.argmax())], float(row.max())) for row in after]


def _print_table(found: Predictions) -> None:
    table = Table()
    table.add_column("file", overflow="fold")
    for heading in ("class", "probability", "timesteps"):
        table.add_column(heading, justify="left" if heading == "class" else "right")
    timesteps = len(found.probabilities)
    for t in range(1, timesteps):
        table.add_column(f"after {t}")
    for example, name in enumerate(found.names):
        answer, took = found.classes[found.answers[example]], int(found.timesteps[example])
        each = _likeliest(found, example)
        cells = [f"{kind} {percent(share)}" if t < took else "" for t, (kind, share) in enumerate(each[:-1], 1)]
        table.add_row(name, answer, percent(each[took - 1][1]), str(took), *cells)
    Console(markup=False, emoji=False).print(table)


def _print_csv(found: Predictions) -> None:
    rows = csv.writer(sys.stdout, lineterminator="\n")
    each = [f"{what}_after_{t}" for t in range(1, len(found.probabilities) + 1) for what in ("class", "probability")]
    rows.writerow(["file", "class", "probability", "timesteps", *each])
    for example, name in enumerate(found.names):
        took, after = int(found.timesteps[example]), _likeliest(found, example)
        shares = [cell for kind, share in after for cell in (kind, f"{share:.6f}")]
        rows.writerow([name, found.classes[found.answers[example]], f"{after[took - 1][1]:.6f}", took, *shares])


def _print_json(found: Predictions) -> None:
    print(json.dumps(as_json(found), indent=1, allow_nan=False))


def as_json(found: Predictions) -> dict[str, Any]:
    """The predictions as JSON values; `probabilities` of an example are `[T][C]`."""
    examples = [
        {
            "file": name,
            "class": found.classes[found.answers[example]],
            "probability": float(found.probabilities[found.timesteps[example] - 1, example].max()),
            "timesteps": int(found.timesteps[example]),
            "probabilities": found.probabilities[:, example].tolist(),
        }
        for example, name in enumerate(found.names)
    ]
    return {"classes": list(found.classes), "examples": examples}
