"""Distil a spiking student from an ANN teacher.

Train or find the teacher, compute its logits, train the student, and end with a table and a report.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from sealkd_jax.data import Dataset
from sealkd_jax.files import write_json
from sealkd_jax.losses import needs_teacher
from sealkd_jax.models import Network, Variables, sum_layers
from sealkd_jax.parallel.processes import is_main_process, lock_across_processes
from sealkd_jax.parallel.sharding import Parallel, pick_devices
from sealkd_jax.programs.cluster import join
from sealkd_jax.programs.command_line import as_kind, choose, parse
from sealkd_jax.programs.data import completed, load_dataset, of_the_student
from sealkd_jax.programs.environment import computing, environment, warn, warn_of_unused_gpu
from sealkd_jax.programs.logits import obtain_logits, own_logits, source_of
from sealkd_jax.programs.options import DistillOptions, DistillProgramOptions
from sealkd_jax.programs.plans import abstract_variables, make_plan
from sealkd_jax.programs.presets import DEFAULT
from sealkd_jax.programs.progress import emit, print_table, progress
from sealkd_jax.programs.results import results_table, save_results
from sealkd_jax.programs.runs import check_out, make_config
from sealkd_jax.programs.teachers import named_teacher, pick_teacher
from sealkd_jax.training import profile_steps, train


@dataclass(frozen=True)
class Distilled:
    """A finished run.

    Attributes:
        summary: what `summary.json` says: accuracies, firing rates, energy.
        directory: of the run, with its report, predictions and weights.
        variables: of the reported student.
    """

    summary: dict[str, Any]
    directory: Path
    variables: Variables


def distill(preset: str = DEFAULT, **options: Any) -> Distilled:
    """Distil a student, as in `distill("digits", method="seal", epochs=5, out="runs/x")`.

    `options` are those of `sealkd distill --help`, with underscores.
    Raises an `InputError` for what does not exist, does not fit, or is taken.
    """
    return _distill(preset, choose(DistillProgramOptions, preset, options))


def main(argv: list[str] | None = None) -> None:
    """Print a table of accuracies, and where the report is."""
    started = time.perf_counter()
    about = "Distil a spiking student from an ANN teacher."
    preset, options = parse(DistillProgramOptions, about, argv, "distill")
    run = _distill(preset, options)
    report, seconds = run.directory / "report.html", time.perf_counter() - started
    since = " since it was resumed" if options.resume else " in all"
    words = f"{seconds:.0f} s{since}. Report: {report}"
    emit(options, "result", run.summary | {"report": str(report)}, results_table(run.summary), words)


def _distill(preset: str, chosen: DistillProgramOptions) -> Distilled:
    """The whole job."""
    join(chosen)
    options = as_kind(DistillOptions, chosen)
    out = options.out or Path("runs") / f"{preset}-{options.method}-s{options.seed}"
    if is_main_process():
        check_out(out, options.resume)
    with computing(options.precision):
        warn_of_unused_gpu()
        whole = load_dataset(options)
        options = completed(options, whole)
        parallel = Parallel(options.parallel, pick_devices(options.devices, options.batch_size, options.accumulate))
        dataset = of_the_student(whole, options)
        plan = make_plan(options, dataset)
        teacher, teacher_logits = None, None
        source: str | None = None
        if options.teacher_logits is not None:
            teacher_logits = own_logits(options.teacher_logits, options, dataset)
            source = source_of(teacher_logits)
        elif needs_teacher(options.method):
            teacher = named_teacher(options, whole, parallel)
            source = teacher.digest if teacher else None
        with lock_across_processes(out, wait=False):
            started = environment()
            config = make_config(out, preset, options, source, whole, started) if is_main_process() else None
            if teacher_logits is None and needs_teacher(options.method):
                teacher = teacher or pick_teacher(options, preset, whole, parallel)
                teacher_logits = obtain_logits(options, teacher, dataset, parallel)
            if is_main_process():
                write_json(out / "config.json", config)
            print_table(options, _layers(plan.network, dataset))
            if chosen.profile is not None:
                profile_steps(plan, dataset, parallel, chosen.profile, teacher_logits=teacher_logits)
                emit(options, "profile", {"path": str(chosen.profile)}, f"Profile: {chosen.profile}")
            with progress("student", options.epochs, options, out) as show:
                trained = train(
                    plan,
                    dataset,
                    out,
                    parallel,
                    teacher_logits=teacher_logits,
                    on_epoch=show,
                    on_chunk=show,
                    on_damage=warn,
                )
            summary = save_results(out, preset, options, plan, trained, dataset, teacher, teacher_logits, parallel)
            if summary["untrained"]:
                warn(summary["untrained"])
            if is_main_process():
                from sealkd_jax.report import write_report  # only now: it loads matplotlib

                write_report(out)
    return Distilled(summary, out, trained.variables)


def _layers(network: Network, dataset: Dataset) -> Table:
    """The layers of the student, as a table."""
    table = Table("layer", "output", title="layers of the student")
    table.add_column("parameters", justify="right")
    table.add_column("operations per timestep", justify="right")
    layers = network.layers(abstract_variables(network, dataset), dataset.train.images.shape[-3:])
    for name, layer in {**layers, "all": sum_layers(layers)}.items():
        if name == "all":
            table.add_section()
        shape = "×".join(map(str, layer.shape))
        table.add_row(name, shape, f"{layer.parameters:,}", f"{layer.macs:,}" if layer.macs else "")
    table.caption = "operations are multiply-accumulates for one example"
    return table
