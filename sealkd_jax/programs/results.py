"""The results of a run: what its reported model does on the test split, in numbers and files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from sealkd_jax.data import Dataset, take
from sealkd_jax.diagnostics import (
    accuracy_by_timestep,
    accuracy_of_timestep,
    by_class,
    correct,
    dead_share,
    energy,
    saturated_share,
)
from sealkd_jax.files import replacing, sha256, write_json
from sealkd_jax.losses import needs_teacher
from sealkd_jax.models import Network, Variables
from sealkd_jax.parallel.processes import is_main_process
from sealkd_jax.parallel.sharding import Parallel
from sealkd_jax.programs.logits import teacher_name
from sealkd_jax.programs.options import DistillOptions
from sealkd_jax.programs.ready_teacher import Teacher
from sealkd_jax.training import Counts, Plan, Trained, compile_evaluation, count_activity, params_digest
from sealkd_jax.training.teacher_logits import TeacherLogits
from sealkd_jax.weights.own import save_weights

HARDEST = 12  # examples


def save_results(
    out: Path,
    preset: str,
    options: DistillOptions,
    plan: Plan,
    trained: Trained,
    dataset: Dataset,
    teacher: Teacher | None,
    teacher_logits: TeacherLogits | None,
    parallel: Parallel,
) -> dict[str, Any]:
    """Evaluate the reported model on the test split; write weights, predictions, hardest examples and the summary.

    Only the main process writes.
    """
    test = dataset.test
    evaluate = compile_evaluation(plan.network, plan.spec, plan.timesteps, parallel, test, count_activity)
    logits, counts = evaluate(trained.variables)
    logits = np.asarray(logits, np.float32)
    by_timestep = accuracy_by_timestep(logits, test.labels).tolist()
    summary = {
        "preset": preset,
        "dataset": dataset.name,
        "method": options.method,
        "hyper": list(options.hyper),
        "seed": options.seed,
        "timesteps": options.timesteps,
        "epochs_done": len(trained.records),
        "best_epoch": trained.best["epoch"],
        "val_accuracy": trained.best["val_accuracy"],
        "test_accuracy": by_timestep[-1],
        "accuracy_by_timestep": by_timestep,
        "accuracy_of_timestep": accuracy_of_timestep(logits, test.labels).tolist(),
        **by_class(logits, test.labels),
        "teacher": teacher_name(teacher, teacher_logits if needs_teacher(options.method) else None),
        "teacher_accuracy": teacher.test_accuracy if teacher else None,
        "train_seconds": trained.seconds,
        "examples_per_second": float(np.median([record["examples_per_second"] for record in trained.records])),
        **activity(counts, len(test.labels)),
        "energy": energy_of(
            plan.network, trained.variables, dataset.train.images.shape[-3:], counts.inputs, len(test.labels)
        ),
        "n_test": len(test.labels),
        "predictions_sha256": "",
        "classes": list(dataset.classes),
        "input": {
            "shape": list(dataset.train.images.shape[-3:]),
            "mean": dataset.mean.tolist(),
            "std": dataset.std.tolist(),
            "frames": dataset.frames,
        },
        "params_digest": params_digest(trained.variables),
    }
    if not is_main_process():
        return summary
    save_weights(out / "weights.safetensors", trained.variables, {"student": options.student})
    predictions = {"logits": logits, "labels": test.labels}
    if teacher:
        predictions["teacher_logits"] = teacher.test_logits
    _write_arrays(out / "predictions.npz", predictions)
    summary["predictions_sha256"] = sha256(out / "predictions.npz")
    index = hardest(logits, test.labels)
    if len(index):
        _write_arrays(out / "hardest.npz", {"images": pictures(take(test.images, index)), "index": index})
    else:
        (out / "hardest.npz").unlink(missing_ok=True)
    write_json(out / "summary.json", summary)
    return summary


def activity(counts: Counts, examples: int) -> dict[str, Any]:
    """Firing rates, dead and saturated neurons by layer, and the firing rate of all neurons together.

    Dead neurons fired at no timestep of any example, saturated ones at every timestep of every example.
    """
    layers = {name: np.asarray(count) for name, count in counts.spikes.items()}
    spikes = sum(int(count.sum(dtype=np.int64)) for count in layers.values())
    return {
        "firing_rate": spikes / (examples * sum(count.size for count in layers.values())),
        "firing_rates": {
            name: (count.reshape(len(count), -1).mean(1) / examples).tolist() for name, count in layers.items()
        },
        "dead_share": {name: float(dead_share(count[:, None])) for name, count in layers.items()},
        "saturated_share": {name: float(saturated_share(count[:, None] == examples)) for name, count in layers.items()},
    }


def energy_of(
    network: Network,
    variables: Variables,
    image_shape: tuple[int, ...],
    inputs: Mapping[str, np.ndarray],
    examples: int,
) -> dict[str, Any]:
    """`diagnostics.energy` of the network, with the rates of each layer's input: after pooling, not before.

    `inputs` are those of `Counts`, summed over that many examples.
    """
    synapses = network.synapses(variables, image_shape)
    macs = {name: layer.macs for name, layer in synapses.items()}
    rates = {name: inputs[name] / examples for name, layer in synapses.items() if layer.spikes}
    runs = {name: len(inputs[name]) for name in macs}
    return energy(macs, rates, real_runs=runs) | {"macs": macs}


def hardest(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The examples of logits `[T, N, C]` with most wrong timesteps, worst first, at most `HARDEST`.

    Examples that every timestep gets right are left out. Ties go by the margin of the true class over the best other
    class in the mean logits, smallest first.
    """
    wrong = np.count_nonzero(~np.asarray(correct(logits, labels)), axis=0)
    final, rows = logits.mean(0), np.arange(len(labels))
    true = final[rows, labels]
    others = final.copy()
    others[rows, labels] = -np.inf
    order = np.lexsort((true - others.max(-1), -wrong))
    return order[: min(HARDEST, np.count_nonzero(wrong))]


def pictures(images: np.ndarray) -> np.ndarray:
    """uint8 images `[n, H, W, C]`; of frames `[n, T, H, W, 2]` the sum over time, scaled to a maximum of 255."""
    if images.ndim == 4:
        return images
    counts = images.sum(1, dtype=np.float64)
    return np.round(255 * counts / np.maximum(counts.max((1, 2, 3), keepdims=True), 1)).astype(np.uint8)


def _write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)


def results_table(summary: dict[str, Any]) -> Table:
    """The table at the end of a run, 80 characters wide.

    It has the accuracies after the first timestep, the last, and at most two between.
    """
    table = Table(title=f"{summary['method']} on {summary['dataset']}, test accuracy of {summary['n_test']} images")
    shown = np.unique(np.linspace(1, summary["timesteps"], 4).round().astype(int))
    table.add_column("network")
    for t in shown:
        table.add_column(f"T={t}", justify="right")
    table.add_column("firing rate", justify="right")
    table.add_column("training", justify="right")
    if summary["teacher_accuracy"] is not None:
        blank = [""] * (len(shown) - 1)
        table.add_row("teacher", *blank, f"{summary['teacher_accuracy']:.2%}", "", "")
    captions = ["the other timesteps are in the report"] if len(shown) < summary["timesteps"] else []
    if summary["teacher"] is not None and summary["teacher_accuracy"] is None:
        captions.append(f"the teacher's logits: {summary['teacher']}")
    table.caption = "; ".join(captions) or None
    by_timestep = [f"{summary['accuracy_by_timestep'][t - 1]:.2%}" for t in shown]
    firing_rate, training = f"{summary['firing_rate']:.3f}", f"{summary['train_seconds']:.1f} s"
    table.add_row("student (SNN)", *by_timestep, firing_rate, training)
    return table
