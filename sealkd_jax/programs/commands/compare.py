"""Compares methods on one preset: `python -m train.compare [PRESET] --methods none,uniform_kd,seal --seeds 5`.

A cell is one method with its options; all its seeds train together in one compiled program. A finished cell is kept
in `cells/` under a fingerprint of everything that decides it, so it is not run again, and a changed one is. One of
another commit, of other versions or another device is kept, and named.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, fields, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from sealkd_jax.data import Dataset
from sealkd_jax.diagnostics import accuracy_by_timestep
from sealkd_jax.errors import InputError, did_you_mean
from sealkd_jax.files import locked, sha256, write_json
from sealkd_jax.losses import METHODS, UNCONFIRMED, hyperparameters, needs_teacher
from sealkd_jax.parallel.sharding import Parallel, pick_devices
from sealkd_jax.programs.cli import FREE, check_out, environment, warn
from sealkd_jax.programs.command_line import as_kind, check, parse
from sealkd_jax.programs.comparison import REFERENCE, is_comparison, paired_difference, table_of, write_csv
from sealkd_jax.programs.data import load_dataset, of_the_student
from sealkd_jax.programs.option import options_of
from sealkd_jax.programs.options import CompareOptions, DataOptions, DistillOptions
from sealkd_jax.programs.plans import make_plan
from sealkd_jax.programs.progress import Scalars, Show, say, watch
from sealkd_jax.programs.teachers import Teacher, fingerprint, obtain_logits, own_logits, pick_teacher
from sealkd_jax.report import write_comparison_report
from sealkd_jax.training import Plan, compile_evaluation, params_digest, train_seeds
from sealkd_jax.training.teacher_logits import TeacherLogits

# Options that do not change from cell to cell: where and on what it runs, what is compared, and against which teacher.
FIXED = (
    *(field.name for field in fields(DataOptions) if field.name != "timesteps"),
    *FREE,
    "method",
    "hyper",
    "seed",
    "teacher",
    "teacher_width",
    "teacher_sees",
    "teacher_logits",
    "train_examples",
    "precision",
)


class Cell(NamedTuple):
    """One method with its options. `swept` holds what of `--sweep` it was given, as it was written."""

    name: str
    swept: dict[str, str]
    options: DistillOptions
    plan: Plan
    parallel: Parallel


def main(argv: list[str] | None = None) -> None:
    """The whole comparison."""
    started = time.perf_counter()
    name, preset = parse("distill", "Compares methods.", argv, program="compare", kind=CompareOptions)
    options = replace(preset.distill, stream=False)  # seeds that train side by side have the data on the device
    if options.seed + options.seeds > 2**32:
        raise InputError(f"--seeds {options.seeds}: from --seed {options.seed} on, the last would be above 2**32 - 1")
    out = options.out or Path("runs") / f"{name}-compare"
    check_out(out, options.resume)
    _check_comparison(out)
    with jax.enable_x64(options.precision == "float64"):
        whole = load_dataset(options)
        dataset = of_the_student(whole, options)
        cells = make_cells(options, dataset)
        teacher = None
        if options.teacher_logits is None and any(needs_teacher(cell.options.method) for cell in cells):
            teacher = pick_teacher(preset, whole, cells[0].parallel)
        for cell in cells:  # made, or refused, before the bar
            _teacher_logits(cell, teacher, dataset)
        with locked(out, wait=False):
            chosen = json.loads(json.dumps({"preset": name} | asdict(options), default=str))
            write_json(out / "config.json", {"options": chosen} | environment())
            results = run_cells(out, cells, options, teacher, dataset)
            comparison = {
                "preset": name,
                "n_seeds": options.seeds,
                "reference": REFERENCE,
                "rows": rows_of(cells, results),
                "teacher_accuracy": teacher.test_accuracy if teacher else None,
                "n_test": len(dataset.test.labels),
            }
            write_json(out / "comparison.json", comparison | environment())
            write_csv(out / "comparison.csv", comparison["rows"], options.seed)
            report = write_comparison_report(out)
    where = f"{time.perf_counter() - started:.0f} s in all. Numbers: {out / 'comparison.csv'}. Report: {report}"
    say(options, "result", comparison | {"report": str(report)}, table_of(comparison), where)


def _check_comparison(out: Path) -> None:
    """Refuses to write into the directory of something else."""
    if (out / "config.json").exists() and not is_comparison(out):
        raise InputError(f"--out {out}: holds something else than a comparison; choose another --out")


def make_cells(options: CompareOptions, dataset: Dataset) -> list[Cell]:
    """Every method with every combination of the swept options that it has.

    A hyper-parameter is varied for those methods that have it; the others run once.

    Raises:
        InputError: for an unknown method, option or hyper-parameter, or a value that does not fit.
    """
    methods = list(dict.fromkeys(options.methods.split(",")))
    if unknown := [method for method in methods if method not in METHODS]:
        nearest = did_you_mean(unknown[0], METHODS)
        raise InputError(f"--methods {unknown[0]}: unknown; expected some of {','.join(METHODS)}{nearest}")
    varied = [field.name for field in fields(DistillOptions) if field.name not in FIXED]
    known = {name for method in methods for name in hyperparameters(method)}
    sweeps = {}
    for item in options.sweep:
        name, _, texts = (part.strip() for part in item.partition("="))
        name = name.replace("-", "_")
        if name not in {*varied, *known} or "" in texts.split(",") or name in sweeps:
            raise InputError(
                f"--sweep {item}: expected NAME=VALUE,VALUE, each NAME once, of "
                f"{', '.join(sorted(known))} (hyper-parameters of these methods), {', '.join(varied)}"
            )
        sweeps[name] = list(dict.fromkeys(texts.split(",")))
    for item in options.hyper:
        if item.partition("=")[0] not in known:
            raise InputError(f"--hyper {item}: expected NAME=VALUE; these methods have {', '.join(sorted(known))}")
    cells = []
    for method in methods:
        own = hyperparameters(method)
        names = [name for name in sweeps if name in own or name in varied]
        for values in product(*(sweeps[name] for name in names)):
            swept = dict(zip(names, values, strict=True))
            hyper = [item for item in options.hyper if item.partition("=")[0] in own]
            hyper += [f"{name}={text}" for name, text in swept.items() if name in own]
            changes = {
                name: options_of(DistillOptions)[name].read(text) for name, text in swept.items() if name not in own
            }
            chosen = as_kind(DistillOptions, options)
            chosen = replace(chosen, method=method, hyper=tuple(hyper), **changes)
            check(chosen)
            devices = pick_devices(chosen.devices, chosen.batch_size, chosen.accumulate)
            parallel = Parallel(chosen.parallel, devices)
            name = " ".join([method, *(f"{name}={text}" for name, text in swept.items())])
            cells.append(Cell(name, swept, chosen, make_plan(chosen, dataset), parallel))
    return cells


def _teacher_logits(cell: Cell, teacher: Teacher | None, dataset: Dataset) -> TeacherLogits | None:
    """What this cell distils from; None where it needs no teacher."""
    if not needs_teacher(cell.options.method):
        return None
    if cell.options.teacher_logits is not None:
        return own_logits(cell.options.teacher_logits, cell.options, dataset)
    return obtain_logits(cell.options, teacher, dataset, cell.parallel)


def decided_by(cell: Cell, seeds: Sequence[int], teacher: Teacher | None, dataset: Dataset) -> dict[str, Any]:
    """Everything that a cell's result follows from, as JSON facts."""
    options = asdict(cell.options)
    for name in {*FIXED, "hyper", "seed"} - {"method", "precision"}:
        options.pop(name, None)
    source = None
    if needs_teacher(cell.options.method):
        own = cell.options.teacher_logits
        source = teacher.digest if own is None else sha256(own)
    hyper = hyperparameters(cell.options.method) | cell.plan.method.keywords
    return {"options": options, "hyper": hyper, "seeds": list(seeds), "teacher": source, "data": _digest(dataset)}


@cache
def _digest(dataset: Dataset) -> str:
    """SHA-256 of all three splits; `Dataset.fingerprint` is of the training split alone."""
    digest = hashlib.sha256()
    for array in (*dataset.train, *dataset.validation, *dataset.test):
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def run_cells(
    out: Path, cells: Sequence[Cell], options: CompareOptions, teacher: Teacher | None, dataset: Dataset
) -> list[dict[str, Any]]:
    """The result of every cell: read where it is finished, trained and written where it is not."""
    (out / "cells").mkdir(exist_ok=True)
    seeds, results, here = range(options.seed, options.seed + options.seeds), [], environment()
    when = "the epoch is over; finished cells are kept, this one is not"
    with watch("epochs", sum(cell.options.epochs for cell in cells), options, when=when) as show:
        done = 0
        for cell in cells:
            decided = decided_by(cell, seeds, teacher, dataset)
            path = out / "cells" / f"{cell.options.method}-{fingerprint(decided)}.json"
            if not path.exists():
                logits = _teacher_logits(cell, teacher, dataset)
                boards = [out / "tensorboard" / cell.name / f"seed {seed}" for seed in seeds if options.tensorboard]
                try:
                    with _each_epoch(cell, done, show, boards) as on_epoch:
                        result = _train(cell, seeds, dataset, logits, options.seeds_at_once, on_epoch)
                except FloatingPointError as error:
                    raise FloatingPointError(f"{cell.name}: {error}") from error
                write_json(path, result | {"decided_by": decided} | here)
            else:
                show({"epoch": done + cell.options.epochs, "what": f"{cell.name}, done before"})
            results.append(_read_cell(path, options.seeds))
            done += cell.options.epochs
    others = [fact for fact in ("commit", "versions", "device") if any(of.get(fact) != here[fact] for of in results)]
    if others:
        warn(f"{out / 'cells'}: some are of another {', '.join(others)} than this start, see there; numbers may differ")
    return results


@contextmanager
def _each_epoch(cell: Cell, done: int, show: Show, boards: Sequence[Path]) -> Iterator[Callable[..., None]]:
    """Gives a function of an epoch's records, one a seed: shows their means, and writes each into its board's scalars.

    `done` epochs of other cells came before.
    """
    with ExitStack() as stack:
        scalars = [stack.enter_context(closing(Scalars(board))) for board in boards]

        def on_epoch(records: list[dict[str, Any]]) -> None:
            for seed, record in zip(scalars, records, strict=False):
                seed.write(record)
            means = {name: float(np.mean([record[name] for record in records])) for name in ("loss", "val_accuracy")}
            speed = records[0]["examples_per_second"]
            show({"epoch": done + records[0]["epoch"], "what": cell.name, "examples_per_second": speed} | means)

        yield on_epoch


def _read_cell(path: Path, seeds: int) -> dict[str, Any]:
    try:
        result = json.loads(path.read_text())
        if len(result["test_accuracy"]) != seeds:
            raise ValueError(f"not of {seeds} seeds")
        return result
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: damaged ({error}); remove it, and the cell is run again") from error


def _train(
    cell: Cell,
    seeds: Sequence[int],
    dataset: Dataset,
    logits: TeacherLogits | None,
    at_once: int | None,
    on_epoch: Callable[[list[dict[str, Any]]], None],
) -> dict[str, Any]:
    """Trains all seeds of a cell, and looks at the test split with the best model of each."""
    students = train_seeds(
        cell.plan, seeds, dataset, cell.parallel, teacher_logits=logits, at_once=at_once, on_epoch=on_epoch
    )
    plan, test = cell.plan, dataset.test
    evaluate = compile_evaluation(plan.network, plan.recipe, plan.timesteps, cell.parallel, dataset, test)
    by_timestep = [
        accuracy_by_timestep(evaluate(cell.parallel.put(student.variables)).logits, test.labels).tolist()
        for student in students
    ]
    return {
        "test_accuracy": [accuracies[-1] for accuracies in by_timestep],
        "accuracy_by_timestep": by_timestep,
        "val_accuracy": [student.best["val_accuracy"] for student in students],
        "best_epoch": [student.best["epoch"] for student in students],
        "params_digest": [params_digest(student.variables) for student in students],
        "seconds": sum(student.seconds for student in students) / len(students),
    }


def rows_of(cells: Sequence[Cell], results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each cell as a row of `comparison.json`.

    A cell is compared with that of `uniform_kd` to which the sweep gave the same values, where there is one alone.
    """
    rows = []
    for cell, result in zip(cells, results, strict=True):
        accuracies = result["test_accuracy"]
        alike = [
            results[k]["test_accuracy"]
            for k, other in enumerate(cells)
            if other.options.method == REFERENCE
            and all(cell.swept.get(name, text) == text for name, text in other.swept.items())
        ]
        difference, interval = None, None
        if len(alike) == 1 and cell.options.method != REFERENCE:
            difference, interval = paired_difference(accuracies, alike[0])
        rows.append(
            {
                "name": cell.name,
                "method": cell.options.method,
                "options": cell.swept,
                "test_accuracy": accuracies,
                "mean": float(np.mean(accuracies)),
                "std": float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None,
                "validation": float(np.mean(result["val_accuracy"])),
                "difference": difference,
                "interval": interval,
                "seconds": result["seconds"],
                "accuracy_by_timestep_mean": np.mean(result["accuracy_by_timestep"], 0).tolist(),
                "unconfirmed": cell.options.method in UNCONFIRMED,
            }
        )
    return rows
