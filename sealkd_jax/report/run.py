"""The report of one training run, from the files in its directory."""

import json
from pathlib import Path

from sealkd_jax import plots
from sealkd_jax.plots.timesteps import standard_error
from sealkd_jax.report.page import Panel, escape, page, section, table, write_atomically, write_pngs


def write_report(run_dir: str | Path) -> Path:
    """Draws `plots/*.png` and writes the self-contained `report.html` of a run.

    Args:
        run_dir: holds `config.json`, `metrics.jsonl` (at least one epoch) and `summary.json`.
    Returns:
        the path of `report.html`.
    """
    run_dir = Path(run_dir)
    config = json.loads((run_dir / "config.json").read_text())
    summary = json.loads((run_dir / "summary.json").read_text())
    metrics = [
        json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines() if line.strip()
    ]

    sections = {
        "What the timesteps do": timestep_panels(summary),
        "Training": learning_panels(metrics, summary),
    }
    write_pngs(run_dir / "plots", (panel for panels in sections.values() for panel in panels))

    body = f"<pre>{escape(config['command'])}</pre>{table(facts(config, summary))}"
    body += "".join(section(heading, panels) for heading, panels in sections.items() if panels)
    body += section("Configuration", html=configuration(config, summary))
    title = f"{summary['method']} on {summary['dataset']}: {percent(summary['test_accuracy'])}"
    path = run_dir / "report.html"
    write_atomically(path, page(title, result(summary), body).encode())
    return path


def percent(share: float) -> str:
    """0.98765 -> '98.77 %'."""
    return f"{100 * share:.2f} %"


def duration(seconds: float) -> str:
    """Seconds as a person would say them: '42 s', '3 min 20 s', '2 h 5 min'."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


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
        return f"{text}; it had no teacher."
    points = 100 * (summary["test_accuracy"] - teacher)
    if abs(points) < 0.005:
        return f"{text}, exactly as many as its teacher."
    where = "above" if points > 0 else "below"
    return f"{text}, {abs(points):.2f} percentage points {where} its teacher’s {percent(teacher)}."


def facts(config: dict, summary: dict) -> list[tuple[str, str]]:
    """The rows of the summary table."""
    n, best, epochs = summary["n_test"], summary["best_epoch"], summary["epochs_done"]
    error = 100 * float(standard_error(summary["test_accuracy"], n))
    speed = f"{summary['examples_per_second']:,.0f} examples per second"
    teacher = summary["teacher_accuracy"]
    rows = {
        "Test accuracy": f"{percent(summary['test_accuracy'])} ± {error:.2f} (standard error, {n} examples)",
        "Teacher": None if teacher is None else percent(teacher),
        "Validation accuracy": f"{percent(summary['val_accuracy'])}, best of {epochs} epochs (epoch {best})",
        "Firing rate": f"{percent(summary['firing_rate'])} of neurons spike at a timestep",
        "Preset, seed": f"{summary['preset']}, {summary['seed']}",
        "Training time": f"{duration(summary['train_seconds'])} ({speed})",
        "Device": config["device"],
    }
    return [(name, value) for name, value in rows.items() if value is not None]


def timestep_panels(summary: dict) -> list[Panel]:
    """Accuracy and spikes by timestep."""
    accuracies = plots.accuracy_by_timestep(
        summary["accuracy_by_timestep"],
        summary["accuracy_of_timestep"],
        n_test=summary["n_test"],
        teacher_accuracy=summary["teacher_accuracy"],
    )
    return [
        Panel("accuracy_by_timestep", accuracies),
        Panel("firing_rates", plots.firing_rates(summary["firing_rates"])),
    ]


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
