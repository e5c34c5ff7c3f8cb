"""Distils a spiking student from an ANN: `python -m train.distill [PRESET] [--option value …]`.

Trains or finds the teacher, precomputes its logits, trains the student, and ends with a table and a report.
"""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.table import Table

from sealkd_jax.errors import InputError
from sealkd_jax.files import read_json, write_json
from sealkd_jax.losses import needs_teacher
from sealkd_jax.parallel.processes import is_main_process, lock_across_processes
from sealkd_jax.parallel.sharding import Parallel, pick_devices
from sealkd_jax.programs.cli import FREE, check_out, environment, warn
from sealkd_jax.programs.cluster import join
from sealkd_jax.programs.command_line import as_kind, parse
from sealkd_jax.programs.data import load_dataset, of_the_student
from sealkd_jax.programs.options import DistillOptions, DistillProgramOptions
from sealkd_jax.programs.plans import make_plan
from sealkd_jax.programs.progress import say, watch
from sealkd_jax.programs.results import finish
from sealkd_jax.programs.teachers import Teacher, named_teacher, obtain_logits, own_logits, pick_teacher
from sealkd_jax.report import write_report
from sealkd_jax.training import train


def main(argv: list[str] | None = None) -> None:
    """The whole job."""
    started = time.perf_counter()
    name, preset = parse("distill", "Distils a spiking student from an ANN.", argv, kind=DistillProgramOptions)
    join(preset.distill)
    options = as_kind(DistillOptions, preset.distill)
    out = options.out or Path("runs") / f"{name}-{options.method}-s{options.seed}"
    if is_main_process():
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
        with lock_across_processes(out, wait=False):
            config = _config(out, name, options, source, whole.fingerprint) if is_main_process() else None
            if teacher_logits is None and needs_teacher(options.method):
                teacher = teacher or pick_teacher(preset, whole, parallel)
                teacher_logits = obtain_logits(options, teacher, dataset, parallel)
            if is_main_process():
                write_json(out / "config.json", config)
            with watch("student", options.epochs, options, out) as show:
                calls = {"on_epoch": show, "on_piece": show, "on_damage": warn}
                trained = train(plan, dataset, out, parallel, teacher_logits=teacher_logits, **calls)
            summary = finish(out, name, options, plan, trained, dataset, teacher, parallel)
            report = write_report(out) if is_main_process() else None
    seconds, since = time.perf_counter() - started, " since it was resumed" if options.resume else " in all"
    found = summary | {"report": str(report)}
    say(options, "result", found, _table(summary, teacher), f"{seconds:.0f} s{since}. Report: {report}")


def _config(out: Path, preset: str, options: DistillOptions, source: str | None, data: str) -> dict[str, Any]:
    """What `config.json` will say; of a run that goes on, checks that it is the same run and notes the new start.

    `source` is a digest of the user's own teacher or logits, and `data` the data's fingerprint: these may have changed
    under the same name.
    """
    path = out / "config.json"
    chosen = json.loads(json.dumps({"preset": preset} | asdict(options), default=str))
    config = {"options": chosen, "source": source, "data": data, **environment(), "resumed": []}
    if path.exists():
        try:
            config = read_json(path)
            before, source_before = config["options"], config["source"]
            config["resumed"].append(environment())
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
