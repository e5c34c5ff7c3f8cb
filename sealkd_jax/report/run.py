"""The report of a training run, from the files in its directory."""

import json
from html import escape
from pathlib import Path

import numpy as np

from sealkd_jax.diagnostics import standard_error, timestep_variance_verdict
from sealkd_jax.plots import learning, predictions, spikes, timesteps
from sealkd_jax.plots.panels import Run
from sealkd_jax.plots.words import count, duration, percent
from sealkd_jax.report.hardest import hardest_examples
from sealkd_jax.report.page import section, table, write_page
from sealkd_jax.run_files import (
    Config,
    Summary,
    read_config,
    read_hardest,
    read_metrics,
    read_predictions,
    read_summary,
)


def write_report(run_dir: str | Path) -> Path:
    """Draw `plots/*.png` and write the self-contained `report.html` of a run.

    Args:
        run_dir: holds `config.json`, `metrics.jsonl` (of at least one epoch), `summary.json` and `predictions.npz`;
            perhaps `hardest.npz` (images `[n, H, W, C]` uint8, index `[n]` into the test split).

    Returns:
        the path of `report.html`.
    """
    run_dir = Path(run_dir)
    config, summary, metrics = read_config(run_dir), read_summary(run_dir), read_metrics(run_dir)
    logits, labels, teacher = read_predictions(run_dir, summary)
    run = Run(summary, metrics, logits, labels)
    verdict = timestep_variance_verdict(run.logits, run.labels).explanation
    title = f"{summary['method']} on {summary['dataset']}: {percent(summary['test_accuracy'])}"
    body = [
        f"<pre>{escape(config['command'])}</pre>{table(_facts(config, summary))}",
        section(timesteps.SECTION, run, run_dir, f"<p>{escape(verdict)}</p>"),
        section(predictions.SECTION, run, run_dir),
        section(spikes.SECTION, run, run_dir, _idle_neurons(summary)),
        _hardest(run_dir, run, teacher),
        section(learning.SECTION, run, run_dir),
        section("Configuration", run, run_dir, _configuration(config, summary)),
    ]
    return write_page(run_dir, title, _result(summary), "".join(body))


def _result(summary: Summary) -> str:
    """What was run, whether it has learned anything, and how it compares with the teacher."""
    text = (
        f"A spiking network trained with {summary['method']} on {summary['dataset']} classifies "
        f"{percent(summary['test_accuracy'])} of {summary['n_test']} test examples correctly after "
        f"{count(summary['timesteps'], 'timestep')}"
    )
    if summary["untrained"]:
        return f"{text}. {summary['untrained']}"
    teacher, name = summary["teacher_accuracy"], summary.get("teacher")
    if teacher is None:
        return f"{text}. It had no teacher." if name is None else f"{text}. It learned from the logits of {name}."
    difference = summary["test_accuracy"] - teacher
    if round(difference * summary["n_test"]) == 0:
        return f"{text}, exactly as many as its teacher."
    where = "above" if difference > 0 else "below"
    amount = f"{100 * abs(difference):.2f}" if abs(difference) >= 5e-5 else "less than 0.01"
    return f"{text}, {amount} percentage points {where} its teacher’s {percent(teacher)}."


def _facts(config: Config, summary: Summary) -> list[tuple[str, str]]:
    """The rows of the first table."""
    n, best, epochs = summary["n_test"], summary["best_epoch"], summary["epochs_done"]
    error = 100 * float(standard_error(summary["test_accuracy"], n))
    speed = f"{summary['examples_per_second']:,.0f} examples per second"
    rows = {
        "Test accuracy": f"{percent(summary['test_accuracy'])} ± {error:.2f} (standard error, {n} examples)",
        "Chance, majority": f"{percent(summary['chance'])} by guessing, {percent(summary['majority'])} by always "
        "answering the most frequent class",
        "Teacher": percent(summary["teacher_accuracy"]),
        "Validation accuracy": f"{percent(summary['val_accuracy'])} at epoch {best} of {epochs}, the best",
        "Firing rate": f"{percent(summary['firing_rate'])} of neurons fire at a timestep",
        "Preset, seed": f"{summary['preset']}, {summary['seed']}",
        "Training time": f"{duration(summary['train_seconds'])} ({speed})",
        "Device": config["device"],
    }
    return list(rows.items())


def _hardest(run_dir: Path, run: Run, teacher: np.ndarray | None) -> str:
    """The section of the hardest examples, if some were saved."""
    if (hardest := read_hardest(run_dir, run.summary)) is None:
        return ""
    images, index = hardest
    if teacher is not None:
        teacher = (teacher.mean(0) if teacher.ndim == 3 else teacher)[index].argmax(-1)
    predicted = run.logits[:, index].argmax(-1)
    html = hardest_examples(images, predicted, run.labels[index], teacher, run.summary["classes"])
    return section("Hardest examples", run, run_dir, html)


def _idle_neurons(summary: Summary) -> str:
    """Share of each layer's neurons that never fire, and that always do, as a table."""
    rows = [
        (name, percent(dead), percent(summary["saturated_share"][name])) for name, dead in summary["dead_share"].items()
    ]
    return table(rows, ("Layer", "Never fires", "Always fires"))


def _configuration(config: Config, summary: Summary) -> str:
    """Options, versions and fingerprints, folded away."""
    parts = {
        "Options": [(f"--{name.replace('_', '-')}", json.dumps(value)) for name, value in config["options"].items()],
        "Versions": list(config["versions"].items()),
        "Origin": [
            ("git commit", config["commit"] or "unknown"),
            ("digest of the parameters", summary["params_digest"]),
        ],
    }
    return "".join(f"<details><summary>{name}</summary>{table(rows)}</details>" for name, rows in parts.items())
