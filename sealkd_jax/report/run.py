"""The report of one training run, from the files in its directory."""

import json
from html import escape
from pathlib import Path

import numpy as np

from sealkd_jax import plots
from sealkd_jax.files import replacing
from sealkd_jax.plots.timesteps import standard_error
from sealkd_jax.report.hardest import hardest_examples
from sealkd_jax.report.page import Panel, page, section, table, write_pngs
from sealkd_jax.report.predictions import confidence_panels, error_panels, exit_panels
from sealkd_jax.report.words import duration, percent


def write_report(run_dir: str | Path) -> Path:
    """Draws `plots/*.png` and writes the self-contained `report.html` of a run.

    Args:
        run_dir: holds `config.json`, `metrics.jsonl` (of at least one epoch), `summary.json` and
            `predictions.npz`; perhaps `hardest.npz` (images [n, H, W, C] uint8, index [n] into the test set).
    Returns:
        the path of `report.html`.
    """
    run_dir = Path(run_dir)
    config = json.loads((run_dir / "config.json").read_text())
    summary = json.loads((run_dir / "summary.json").read_text())
    metrics = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines() if line.strip()]

    sections = sections_of(run_dir, metrics, summary)
    write_pngs(run_dir / "plots", (panel for _, panels, _ in sections for panel in panels))
    body = f"<pre>{escape(config['command'])}</pre>{table(facts(config, summary))}"
    body += "".join(section(*each) for each in sections)
    body += section("Configuration", html=configuration(config, summary))
    title = f"{summary['method']} on {summary['dataset']}: {percent(summary['test_accuracy'])}"
    path = run_dir / "report.html"
    with replacing(path) as partial:
        partial.write_text(page(title, result(summary), body), encoding="utf-8")
    return path


def result(summary: dict) -> str:
    """What was run and what came of it, against the teacher, in a sentence."""
    timesteps = summary["timesteps"]
    text = (
        f"A spiking network trained with {summary['method']} on {summary['dataset']} gets "
        f"{percent(summary['test_accuracy'])} of {summary['n_test']} test examples right after "
        f"{timesteps} timestep{'s' * (timesteps != 1)}"
    )
    teacher = summary["teacher_accuracy"]
    if teacher is None:
        taught = summary.get("teacher")  # an earlier version did not write it down
        return f"{text}; it had no teacher." if taught is None else f"{text}; it learned from the logits of {taught}."
    difference = summary["test_accuracy"] - teacher
    if round(difference * summary["n_test"]) == 0:
        return f"{text}, exactly as many as its teacher."
    where = "above" if difference > 0 else "below"
    amount = f"{100 * abs(difference):.2f}" if abs(difference) >= 5e-5 else "less than 0.01"
    return f"{text}, {amount} percentage points {where} its teacher’s {percent(teacher)}."


def facts(config: dict, summary: dict) -> list[tuple[str, str]]:
    """The rows of the summary table."""
    n, best, epochs = summary["n_test"], summary["best_epoch"], summary["epochs_done"]
    error = 100 * float(standard_error(summary["test_accuracy"], n))
    speed = f"{summary['examples_per_second']:,.0f} examples per second"
    teacher = summary["teacher_accuracy"]
    rows = {
        "Test accuracy": f"{percent(summary['test_accuracy'])} ± {error:.2f} (standard error, {n} examples)",
        "Teacher": None if teacher is None else percent(teacher),
        "Validation accuracy": f"{percent(summary['val_accuracy'])} at epoch {best} of {epochs}, the best",
        "Firing rate": f"{percent(summary['firing_rate'])} of neurons spike at a timestep",
        "Preset, seed": f"{summary['preset']}, {summary['seed']}",
        "Training time": f"{duration(summary['train_seconds'])} ({speed})",
        "Device": config["device"],
    }
    return [(name, value) for name, value in rows.items() if value is not None]


def sections_of(run_dir: Path, metrics: list[dict], summary: dict) -> list[tuple[str, list[Panel], str]]:
    """Heading, figures and further HTML of each section for which the run has data."""
    with np.load(run_dir / "predictions.npz") as arrays:
        predictions = dict(arrays)
    logits, labels = predictions["logits"], predictions["labels"]
    sections = [
        (
            "What the timesteps do",
            [
                accuracy_panel(summary),
                *exit_panels(logits, labels),
                *error_panels(logits, labels, summary.get("hyper", ())),
            ],
            "",
        ),
        ("How sure it is", confidence_panels(logits, labels), ""),
        ("Spikes and energy", spike_panels(summary), idle_neurons(summary)),
        ("Training", learning_panels(metrics, summary), ""),
    ]
    if (run_dir / "hardest.npz").exists():
        with np.load(run_dir / "hardest.npz") as hardest:
            images, index = hardest["images"], hardest["index"]
        teacher = predictions.get("teacher_logits")
        if teacher is not None:
            teacher = (teacher.mean(0) if teacher.ndim == 3 else teacher)[index].argmax(-1)
        html = hardest_examples(images, logits[:, index].argmax(-1), labels[index], teacher, summary["classes"])
        sections.insert(3, ("Hardest examples", [], html))
    return sections


def accuracy_panel(summary: dict) -> Panel:
    """Test accuracy by timestep."""
    figure = plots.accuracy_by_timestep(
        summary["accuracy_by_timestep"],
        summary["accuracy_of_timestep"],
        n_test=summary["n_test"],
        teacher_accuracy=summary["teacher_accuracy"],
    )
    return Panel("accuracy_by_timestep", figure)


def spike_panels(summary: dict) -> list[Panel]:
    """Firing rates, and the energy if the summary has it."""
    panels = [Panel("firing_rates", plots.firing_rates(summary["firing_rates"]))]
    if energy := summary.get("energy"):
        figure = plots.energy(energy["snn_picojoule"], energy["ann_picojoule"], energy["layers"])
        panels.append(Panel("energy", figure))
    return panels


def idle_neurons(summary: dict) -> str:
    """Share of each layer's neurons that never fire, and that always do, as a table if the summary has it."""
    if "dead_share" not in summary:
        return ""
    rows = [
        (name, percent(dead), percent(summary["saturated_share"][name])) for name, dead in summary["dead_share"].items()
    ]
    return table(rows, ("Layer", "Never fires", "Always fires"))


def learning_panels(metrics: list[dict], summary: dict) -> list[Panel]:
    """Accuracies, losses and optimisation by epoch."""
    accuracies = plots.accuracy_curves(
        metrics, teacher_accuracy=summary["teacher_accuracy"], best_epoch=summary["best_epoch"]
    )
    panels = [Panel("accuracy", accuracies), Panel("loss", plots.loss_curves(metrics))]
    if any("wrong" in line["terms"] for line in metrics):
        panels.append(Panel("wrong_timesteps", plots.wrong_timesteps(metrics)))
    return [*panels, Panel("optimisation", plots.optimisation(metrics))]


def configuration(config: dict, summary: dict) -> str:
    """Options, versions and fingerprints, folded away."""
    rows = [(f"--{name.replace('_', '-')}", json.dumps(value)) for name, value in config["options"].items()]
    versions = list(config["versions"].items())
    origin = [
        ("git commit", config["commit"] or "unknown"),
        ("digest of the parameters", summary["params_digest"]),
    ]
    return "".join(
        f"<details><summary>{name}</summary>{table(part)}</details>"
        for name, part in (("Options", rows), ("Versions", versions), ("Origin", origin))
    )
