"""Print what the timesteps of a finished run do, and whether SeAl-KD pays there.

Reads `predictions.npz` and `summary.json` of the run, and trains nothing.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from sealkd_jax.diagnostics import summarise, timestep_variance_verdict
from sealkd_jax.errors import InputError
from sealkd_jax.plots.panels import sta_knobs
from sealkd_jax.plots.words import joules, percent
from sealkd_jax.programs.command_line import read_options
from sealkd_jax.programs.commands import command
from sealkd_jax.programs.environment import computing
from sealkd_jax.programs.option import POSITIONAL
from sealkd_jax.programs.runs import is_comparison
from sealkd_jax.run_files import read_predictions, read_summary

SHOWN: Any = (
    "preset",
    "method",
    "dataset",
    "seed",
    "timesteps",
    "n_test",
    "classes",
    "teacher_accuracy",
)
WIDEST = 9  # timesteps that fit into a row of 80 characters
MOST_CLASSES = 20  # rows of the table of classes


@dataclass(frozen=True)
class Evaluated:
    """The diagnostics of a run.

    Attributes:
        directory: of the run.
        diagnostics: of its timesteps, layers and energy, and the verdict, as `--json` prints them.
    """

    directory: Path
    diagnostics: dict[str, Any]

    def print_tables(self) -> None:
        """Print the tables, and last the verdict."""
        _print_tables(self.diagnostics)


def evaluate(run: str | Path) -> Evaluated:
    """The diagnostics of a finished run.

    Args:
        run: its directory.

    Raises:
        InputError: if there is no run, or it is unfinished or damaged.
    """
    with computing("float32"):
        return Evaluated(Path(run), diagnose(Path(run)))


@dataclass(frozen=True)
class EvaluateOptions:
    """A finished run."""

    run: Annotated[Path, POSITIONAL]
    """Directory of the run."""
    json: bool = False
    """Print JSON."""


def main(argv: list[str] | None = None) -> None:
    """Print the diagnostics as tables or JSON."""
    description = "What the timesteps of a finished run do, and whether SeAl-KD pays on this network."
    options = read_options(EvaluateOptions, description, argv, "evaluate")
    found = evaluate(options.run)
    if options.json:
        print(json.dumps(found.diagnostics, indent=1, allow_nan=False))
    else:
        found.print_tables()


def diagnose(directory: Path) -> dict[str, Any]:
    """The diagnostics of a run as JSON values: of its timesteps, its layers, its energy, and the verdict.

    Raises:
        InputError: if there is no run, or it is unfinished or damaged.
    """
    if not (directory / "summary.json").exists():
        if is_comparison(directory):
            raise InputError(f"{directory}: a comparison, not a run; once it is finished, its table is in report.html")
        if (directory / "config.json").exists():
            raise InputError(
                f"{directory}: not finished; continue it with {command('distill')} --resume --out {directory}"
            )
        raise InputError(f"{directory}: no run there (no summary.json)")
    summary: Any = read_summary(directory)
    predictions = read_predictions(directory, summary)
    neurons = {
        name: {
            "firing_rate": rates,
            "dead_share": summary["dead_share"][name],
            "saturated_share": summary["saturated_share"][name],
        }
        for name, rates in summary["firing_rates"].items()
    }
    try:
        of_time = summarise(*predictions, **sta_knobs(summary["hyper"]))
    except ValueError as error:
        raise InputError(f"{directory / 'summary.json'}: damaged: hyper: {error}") from error
    return {
        "run": str(directory),
        **{name: value for name, value in summary.items() if name in SHOWN},
        **of_time,
        "neurons": neurons,
        "firing_rate": summary["firing_rate"],
        "energy": summary["energy"],
        "verdict": timestep_variance_verdict(predictions.logits, predictions.labels)._asdict(),
    }


def _print_tables(found: dict[str, Any]) -> None:
    console = Console(markup=False, emoji=False)
    measures = {
        "accuracy\nafter T": "accuracy_by_timestep",
        "accuracy\nalone": "accuracy_of_timestep",
        "confidence\nafter T": "confidence_by_timestep",
        "confidence\nalone": "confidence_of_timestep",
        "like the\nteacher\nafter T": "teacher_agreement_by_timestep",
        "like the\nteacher\nalone": "teacher_agreement_of_timestep",
    }
    measures = {heading: name for heading, name in measures.items() if name in found}
    title = f"{found['method']} on {found['dataset']}, seed {found['seed']}: {found['n_test']} test examples"
    in_time = _table(title, *measures, first="T")
    for t in range(found["timesteps"]):
        in_time.add_row(str(t + 1), *(percent(found[name][t]) for name in measures.values()))
    console.print(in_time)

    if found["timesteps"] > WIDEST:
        print(f"STA: the weights between {found['timesteps']} timesteps are in the output of --json.")
    elif found["timesteps"] > 1:
        times = map(str, range(1, found["timesteps"] + 1))
        listens = _table("STA: the weight that timestep T gives to each other timestep", *times, first="T")
        for t, weights in enumerate(found["sta_weights"]):
            listens.add_row(str(t + 1), *(f"{weight:.3f}" for weight in weights))
        console.print(listens)

    overall = _table("Timesteps against the final answer", "value")
    for name, text in (
        ("wrong timesteps where the final answer is right", percent(found["wrong_where_right"])),
        ("right timesteps where the final answer is wrong", percent(found["right_where_wrong"])),
        ("flips of the prediction per example, alone", f"{found['flips_alone']:.3f}"),
        ("flips of the prediction per example, accumulated", f"{found['flips_accumulated']:.3f}"),
        ("expected calibration error", percent(found["expected_calibration_error"])),
    ):
        overall.add_row(name, text)
    console.print(overall)

    by_class = _table("Classes, worst first", "accuracy", "wrong answers")
    accuracies = [(share, k) for k, share in enumerate(found["accuracy_by_class"]) if share is not None]
    for share, k in sorted(accuracies)[:MOST_CLASSES]:
        by_class.add_row(found["classes"][k], percent(share), _wrong_answers(found, k))
    if len(accuracies) > MOST_CLASSES:
        by_class.caption = "the other classes are in the output of --json"
    console.print(by_class)
    print(f"Chance: {percent(found['chance'])}. The most frequent class: {percent(found['majority'])} of the examples.")

    neurons = _table("Neurons", "firing rate", "dead", "saturated")
    for name, layer in found["neurons"].items():
        shares = (np.mean(layer["firing_rate"]), layer["dead_share"], layer["saturated_share"])
        neurons.add_row(name, *map(percent, shares))
    console.print(neurons)

    energy = found["energy"]
    table = _table("Estimated energy per example", "MACs", "SNN", "ANN of the same layers")
    for name, picojoule in energy["layers"].items():
        table.add_row(name, f"{energy['macs'][name]:,}", joules(picojoule), "")
    total = (joules(energy[name]) for name in ("snn_picojoule", "ann_picojoule"))
    table.add_row("all", f"{sum(energy['macs'].values()):,}", *total)
    console.print(table)

    print(found["verdict"]["explanation"])


def _wrong_answers(found: dict[str, Any], label: int) -> str:
    """The three most frequent wrong answers for the examples of a class."""
    if found["confusion"] is None:
        return ""
    answers = [(-n, k) for k, n in enumerate(found["confusion"][label]) if n and k != label]
    return ", ".join(f"{found['classes'][k]} ×{-n}" for n, k in sorted(answers)[:3])


def _table(title: str, *columns: str, first: str = "") -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table
