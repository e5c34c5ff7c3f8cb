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
from rich.table import Table

from sealkd_jax.data import Dataset
from sealkd_jax.errors import InputError
from sealkd_jax.files import read_sealed, write_sealed
from sealkd_jax.losses import needs_teacher
from sealkd_jax.processes import first, locked_by_first
from sealkd_jax.report import write_report
from sealkd_jax.sharding import Parallel, check_batch, pick_devices
from sealkd_jax.training import Plan, steps_per_epoch, train
from train.cluster import join
from train.data import load_dataset, of_the_student
from train.finish import finish
from train.options import DistillOptions, DistillProgramOptions, as_kind, bind_method, parse
from train.precompute import named_teacher, obtain_logits, own_logits, pick_teacher, student_network, student_recipe
from train.program import facts, run, warn
from train.teacher import Teacher, like_of
from train.watching import say, watch


def main(argv: list[str] | None = None) -> None:
    """The whole job."""
    started = time.perf_counter()
    name, preset = parse("distill", "Distils a spiking student from an ANN.", argv, kind=DistillProgramOptions)
    join(preset.distill)
    options = as_kind(DistillOptions, preset.distill)
    out = options.out or Path("runs") / f"{name}-{options.method}-s{options.seed}"
    if first():
        check_out(out, options.resume)
    with jax.enable_x64(options.precision == "float64"):
        parallel = Parallel(options.parallel, pick_devices(options.devices, options.batch_size, options.accumulate))
        whole = load_dataset(options)
        dataset = of_the_student(whole, options)
        plan = make_plan(options, dataset)
        teacher, teacher_logits, source = None, None, None
        if options.teacher_logits is not None:
            teacher_logits = own_logits(options.teacher_logits, options, dataset)
            source, path, views = teacher_logits.digest, teacher_logits.path, teacher_logits.views
            accuracy = teacher_logits.accuracy(dataset.train.labels)
            found = {"path": str(path), "views": views, "train_accuracy": accuracy}
            say(options, "logits", found, f"{path}: {views} views, {accuracy:.2%} right on the training labels")
        elif needs_teacher(options.method):
            teacher = named_teacher(options.teacher, whole, parallel)
            source = teacher and teacher.digest
        with locked_by_first(out, wait=False):
            config = _config(out, name, options, source, whole.fingerprint) if first() else None
            if teacher_logits is None and needs_teacher(options.method):
                teacher = teacher or pick_teacher(preset, whole, parallel)
                teacher_logits = obtain_logits(options, teacher, dataset, parallel)
            if first():
                write_sealed(out / "config.json", config)
            with watch("student", options.epochs, options, out) as show:
                calls = {"on_epoch": show, "on_piece": show, "on_damage": warn}
                trained = train(plan, dataset, out, parallel, teacher_logits=teacher_logits, **calls)
            summary = finish(out, name, options, plan, trained, dataset, teacher, parallel)
            report = write_report(out) if first() else None
    seconds, since = time.perf_counter() - started, " since it was resumed" if options.resume else " in all"
    found = summary | {"report": str(report)}
    say(options, "result", found, _table(summary, teacher), f"{seconds:.0f} s{since}. Report: {report}")


def make_plan(options: DistillOptions, dataset: Dataset) -> Plan:
    """What will be computed; complains here of what would fail only when it is traced."""
    plan = Plan(
        network=student_network(options, dataset),
        method=bind_method(options.method, options.hyper),
        recipe=student_recipe(options, dataset),
        timesteps=options.timesteps,
        seed=options.seed,
        optimizer=options.optimizer,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        warmup_epochs=options.warmup_epochs,
        accumulate=options.accumulate,
    )
    check_batch(options.batch_size, 1, options.accumulate)
    if options.accumulate > 1 and options.method == "card":
        raise InputError(f"--accumulate {options.accumulate}: expected 1 for card, whose loss is of the whole batch")
    steps_per_epoch(plan.recipe, dataset)
    if dataset.frames not in (None, options.timesteps):
        raise InputError(f"--timesteps {options.timesteps}: {dataset.name} was read as {dataset.frames} frames")
    like_of(plan.network, dataset)
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
        # Beside a lock, a file that a kill cut short is nothing.
        taken = out.exists() and any(path.suffix != ".partial" and path.name != ".lock" for path in out.iterdir())
    except OSError as error:
        raise InputError(f"--out {out}: cannot be used as a directory: {error.strerror}") from error
    if taken and not resume:
        raise InputError(f"--out {out}: not empty; go on with it by --resume, or choose another --out")
    if taken and not (out / "config.json").exists():
        raise InputError(f"--out {out}: not empty, and no run to resume (no config.json); choose another --out")
    existing = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise InputError(f"--out {out}: cannot be made; {existing} is not a directory that can be written to")


# What may change between the starts of one run: where it is, what it runs on, and what it shows.
FREE = ("out", "resume", "parallel", "devices", "data_dir", "stream", "log", "tensorboard")


def _config(out: Path, preset: str, options: DistillOptions, source: str | None, data: str) -> dict[str, Any]:
    """What `config.json` will say; of a run that goes on, checks that it is the same run and notes the new start.

    `source` is a digest of the user's own teacher or logits, and `data` the data's fingerprint: these may have changed
    under the same name.
    """
    path = out / "config.json"
    chosen = json.loads(json.dumps({"preset": preset} | asdict(options), default=str))
    config = {"options": chosen, "source": source, "data": data, **facts(), "resumed": []}
    if path.exists():
        try:
            config = read_sealed(path)
            before, source_before = config["options"], config["source"]
            config["resumed"].append(facts())
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{path}: damaged ({error}); begin anew in another --out") from error
        for key in chosen.keys() - set(FREE):
            if before.get(key) != chosen[key]:
                flag = "--" + key.replace("_", "-")
                raise InputError(
                    f"{flag} {chosen[key]}: {out} was begun with {before.get(key)}; "
                    "resume with the same options, or choose another --out"
                )
        if source != source_before:
            changed = "was begun with other teacher logits under that name, or by an earlier version"
            raise InputError(f"{out} {changed}; choose another --out")
        if config.get("data", data) != data:  # an earlier version did not write it down
            raise InputError(f"{out} was begun with other data under that name; choose another --out")
    return config


def _table(summary: dict[str, Any], teacher: Teacher | None) -> Table:
    """Accuracies after the first timestep, the last, and at most two between: what 80 characters have room for."""
    table = Table(title=f"{summary['method']} on {summary['dataset']}, test accuracy of {summary['n_test']} images")
    shown = np.unique(np.linspace(1, summary["timesteps"], 4).round().astype(int))
    table.add_column("network")
    for t in shown:
        table.add_column(f"T={t}", justify="right")
    table.add_column("firing rate", justify="right")
    table.add_column("training", justify="right")
    if teacher:
        blank = [""] * (len(shown) - 1)
        table.add_row("teacher", *blank, f"{teacher.test_accuracy:.2%}", "", "")
    if len(shown) < summary["timesteps"]:
        table.caption = "the other timesteps are in the report"
    by_timestep = [f"{summary['accuracy_by_timestep'][t - 1]:.2%}" for t in shown]
    firing_rate, training = f"{summary['firing_rate']:.3f}", f"{summary['train_seconds']:.1f} s"
    table.add_row("student (SNN)", *by_timestep, firing_rate, training)
    return table


if __name__ == "__main__":
    run(main)
