"""Distils a spiking student from an ANN: `python -m train.distill [PRESET] [--option value …]`.

Trains or finds the teacher, precomputes its logits, trains the student, and ends with a table and a report.
"""

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from sealkd_jax.data import Dataset, load
from sealkd_jax.diagnostics import accuracy_by_timestep, accuracy_of_timestep
from sealkd_jax.errors import InputError
from sealkd_jax.files import locked, replacing, write_json
from sealkd_jax.losses import needs_teacher
from sealkd_jax.models import create_student
from sealkd_jax.report import write_report
from sealkd_jax.sharding import Parallel, pick_devices
from sealkd_jax.training import Plan, Trained, compile_evaluation, on_devices, params_digest, steps_per_epoch, train
from sealkd_jax.weights import save_weights
from train.options import DistillOptions, bind_method, parse
from train.precompute import obtain_logits, own_logits, pick_teacher, student_recipe
from train.program import facts, progress, run
from train.teacher import Teacher


def main(argv: list[str] | None = None) -> None:
    """The whole job."""
    started = time.perf_counter()
    name, preset = parse("distill", "Distils a spiking student from an ANN.", argv)
    options = preset.distill
    out = options.out or Path("runs") / f"{name}-{options.method}-s{options.seed}"
    check_out(out, options.resume)
    with jax.enable_x64(options.precision == "float64"):
        parallel = Parallel(options.parallel, pick_devices(options.devices, options.batch_size))
        dataset = load(options.dataset)
        plan = make_plan(options, dataset)
        teacher, teacher_logits = None, None
        if options.teacher_logits is not None:
            teacher_logits = own_logits(options.teacher_logits, options, dataset)
            accuracy = teacher_logits.accuracy(dataset.train.labels)
            print(f"{teacher_logits.path}: {teacher_logits.views} views, {accuracy:.2%} right on the training labels")
        elif needs_teacher(options.method):
            teacher = pick_teacher(preset, dataset, parallel)
            teacher_logits = obtain_logits(options, teacher, dataset, parallel)
        with locked(out, wait=False):
            _write_config(out, name, options)
            with progress("student", options.epochs) as show:
                trained = train(plan, dataset, out, parallel, teacher_logits=teacher_logits, on_epoch=show)
            summary = _finish(out, name, options, plan, trained, dataset, teacher, parallel)
            report = write_report(out)
    _print_table(summary, teacher, report, time.perf_counter() - started)


def make_plan(options: DistillOptions, dataset: Dataset) -> Plan:
    """What will be computed; complains here of what would fail only when it is traced."""
    plan = Plan(
        network=create_student(
            options.student,
            len(dataset.classes),
            neuron=options.neuron,
            decay=options.decay,
            precision=options.precision,
            remat=options.remat,
        ),
        method=bind_method(options.method, options.hyper),
        recipe=student_recipe(options),
        timesteps=options.timesteps,
        seed=options.seed,
        optimizer=options.optimizer,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        warmup_epochs=options.warmup_epochs,
    )
    steps_per_epoch(plan.recipe, dataset)
    logits = jax.ShapeDtypeStruct((options.batch_size, len(dataset.classes)), np.float32)
    student = jax.ShapeDtypeStruct((options.timesteps, *logits.shape), np.float32)
    try:
        jax.eval_shape(plan.method, student, logits, jax.ShapeDtypeStruct(logits.shape[:1], np.int32))
    except ValueError as error:
        raise InputError(f"--hyper: {error}") from error
    return plan


def check_out(out: Path, resume: bool) -> None:
    """Refuses a place that is taken or cannot be written to, before any work is done. Writes nothing."""
    try:
        taken = out.exists() and any(path.name != ".lock" for path in out.iterdir())
    except OSError as error:
        raise InputError(f"--out {out}: cannot be used as a directory: {error.strerror}") from error
    if taken and not resume:
        raise InputError(f"--out {out}: not empty; go on with it by --resume, or choose another --out")
    if taken and not (out / "config.json").exists():
        raise InputError(f"--out {out}: not empty, and no run to resume (no config.json); choose another --out")
    existing = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise InputError(f"--out {out}: cannot be made; {existing} is not a directory that can be written to")


# What may change between the starts of one run: where it is and what it runs on.
FREE = ("out", "resume", "parallel", "devices", "data_dir")


def _write_config(out: Path, preset: str, options: DistillOptions) -> None:
    """Writes `config.json`; of a run that goes on, checks that it is the same run."""
    path = out / "config.json"
    chosen = json.loads(json.dumps({"preset": preset} | asdict(options), default=str))
    if path.exists():
        before = json.loads(path.read_text())["options"]
        for key in chosen.keys() - set(FREE):
            if before.get(key) != chosen[key]:
                flag = "--" + key.replace("_", "-")
                raise InputError(
                    f"{flag} {chosen[key]}: {out} was begun with {before.get(key)}; "
                    "resume with the same options, or choose another --out"
                )
    write_json(path, {"options": chosen} | facts())


def _finish(
    out: Path,
    preset: str,
    options: DistillOptions,
    plan: Plan,
    trained: Trained,
    dataset: Dataset,
    teacher: Teacher | None,
    parallel: Parallel,
) -> dict[str, Any]:
    """Evaluates the reported model on the test split, and writes weights, predictions and summary."""
    test = on_devices(dataset, dataset.test, parallel)
    evaluate = compile_evaluation(plan.network, plan.recipe, plan.timesteps, parallel)
    logits, rates = evaluate(trained.variables, test)
    by_layer = {name: rate.mean(1) for name, rate in rates.items()}
    neurons = plan.network.neurons(trained.variables, dataset.train.images.shape[1:])
    spikes_per_example = sum(float(by_layer[name].sum()) * count for name, count in neurons.items())
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
        "test_accuracy": float(accuracy_by_timestep(logits, test.labels)[-1]),
        "accuracy_by_timestep": accuracy_by_timestep(logits, test.labels).tolist(),
        "accuracy_of_timestep": accuracy_of_timestep(logits, test.labels).tolist(),
        "teacher_accuracy": teacher.test_accuracy if teacher else None,
        "train_seconds": trained.seconds,
        "examples_per_second": float(np.median([record["examples_per_second"] for record in trained.records])),
        "firing_rate": spikes_per_example / (options.timesteps * sum(neurons.values())),
        "firing_rates": {name: rate.tolist() for name, rate in by_layer.items()},
        "n_test": len(dataset.test.labels),
        "classes": list(dataset.classes),
        "params_digest": params_digest(trained.variables),
    }
    save_weights(out / "weights.safetensors", trained.variables, {"student": options.student})
    predictions = {"logits": np.asarray(logits, np.float32), "labels": dataset.test.labels}
    if teacher:
        predictions["teacher_logits"] = teacher.test_logits
    with replacing(out / "predictions.npz") as partial, partial.open("wb") as file:
        np.savez(file, **predictions)
    write_json(out / "summary.json", summary)
    return summary


def _print_table(summary: dict[str, Any], teacher: Teacher | None, report: Path, seconds: float) -> None:
    table = Table(title=f"{summary['method']} on {summary['dataset']}, test accuracy of {summary['n_test']} images")
    table.add_column("network")
    for t in range(summary["timesteps"]):
        table.add_column(f"T={t + 1}", justify="right")
    table.add_column("firing rate", justify="right")
    table.add_column("training", justify="right")
    if teacher:
        blank = [""] * (summary["timesteps"] - 1)
        table.add_row("teacher (ANN)", *blank, f"{teacher.test_accuracy:.2%}", "", "")
    by_timestep = [f"{accuracy:.2%}" for accuracy in summary["accuracy_by_timestep"]]
    firing_rate, training = f"{summary['firing_rate']:.3f}", f"{summary['train_seconds']:.1f} s"
    table.add_row("student (SNN)", *by_timestep, firing_rate, training)
    Console().print(table)
    print(f"{seconds:.0f} s in all. Report: {report}")


if __name__ == "__main__":
    run(main)
