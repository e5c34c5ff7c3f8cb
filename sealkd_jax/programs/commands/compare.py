"""Compare methods on one preset, each trained with several seeds.

A cell is one method with its options; its seeds train together in one compiled program. A finished cell is kept in
`cells/` under a fingerprint of everything that its result follows from: it is not trained again, and a changed one is.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from sealkd_jax.data import Dataset
from sealkd_jax.diagnostics import accuracy_by_timestep
from sealkd_jax.errors import InputError
from sealkd_jax.files import fingerprint, locked, make_directory, write_json
from sealkd_jax.losses import needs_teacher
from sealkd_jax.programs.cells import Cell, cache_key, make_cells
from sealkd_jax.programs.command_line import choose, parse
from sealkd_jax.programs.comparison import REFERENCE, comparison_table, make_rows, write_csv
from sealkd_jax.programs.data import completed, load_dataset, of_the_student
from sealkd_jax.programs.environment import computing, environment, warn, warn_of_unused_gpu
from sealkd_jax.programs.logits import obtain_logits, own_logits, source_of, teacher_name
from sealkd_jax.programs.options import CompareOptions
from sealkd_jax.programs.presets import DEFAULT
from sealkd_jax.programs.progress import Scalars, Show, emit, progress
from sealkd_jax.programs.ready_teacher import Teacher
from sealkd_jax.programs.results import energy_of
from sealkd_jax.programs.runs import check_out, is_comparison, options_as_json
from sealkd_jax.programs.teachers import pick_teacher
from sealkd_jax.run_files import Amount, Count, Shares, Started
from sealkd_jax.training import compile_evaluation, count_activity, params_digest, train_seeds
from sealkd_jax.training.teacher_logits import TeacherLogits
from sealkd_jax.typed import as_type, read_json


@dataclass(frozen=True)
class Compared:
    """A finished comparison.

    Attributes:
        comparison: what `comparison.json` says; its `rows` have a row for each cell.
        directory: of the comparison, with its report and `comparison.csv`.
    """

    comparison: dict[str, Any]
    directory: Path


class CellResult(TypedDict):
    """The result of a cell. A list has a value for each seed."""

    test_accuracy: Shares
    accuracy_by_timestep: list[Shares]
    val_accuracy: Shares
    best_epoch: list[Count]
    picojoule: list[Amount]
    params_digest: list[str]
    seconds: Amount


class CellFile(CellResult, Started):
    """A file of `cells/`. It has a digest of the result, and the key: everything that the result follows from."""

    digest: str
    key: dict[str, Any]


def compare(preset: str = DEFAULT, **options: Any) -> Compared:
    """Compare methods, as in `compare("digits", methods="none,seal", seeds=3, sweep={"temperature": [2, 3]})`.

    `options` are those of `sealkd compare --help`, with underscores.
    Raises an `InputError` for what does not exist, does not fit, or is taken.
    """
    return _compare(preset, choose(CompareOptions, preset, options))


def main(argv: list[str] | None = None) -> None:
    """Print the table, and where numbers and report are."""
    started = time.perf_counter()
    preset, options = parse(CompareOptions, "Compare methods.", argv, "compare")
    found = _compare(preset, options)
    report, numbers = found.directory / "report.html", found.directory / "comparison.csv"
    words = f"{time.perf_counter() - started:.0f} s in all. Numbers: {numbers}. Report: {report}"
    result = found.comparison | {"report": str(report)}
    emit(options, "result", result, comparison_table(found.comparison), words)


def _compare(preset: str, options: CompareOptions) -> Compared:
    """The whole comparison."""
    options = replace(options, stream=False)  # seeds that train side by side have the data on the device
    if options.seed + options.seeds > 2**32:
        raise InputError(f"--seeds {options.seeds}: from --seed {options.seed} on, the last would be above 2**32 - 1")
    out = options.out or Path("runs") / f"{preset}-compare"
    check_out(out, options.resume)
    if (out / "config.json").exists() and not is_comparison(out):
        raise InputError(f"--out {out}: holds something other than a comparison; choose another --out")
    with computing(options.precision):
        warn_of_unused_gpu()
        whole = load_dataset(options)
        options = completed(options, whole)
        dataset = of_the_student(whole, options)
        cells = make_cells(options, dataset)
        teacher = None
        if options.teacher_logits is None and any(needs_teacher(cell.options.method) for cell in cells):
            teacher = pick_teacher(options, preset, whole, cells[0].parallel)
        logits = _open_logits(cells, teacher, dataset)  # before the progress bar, and before anything is written
        with locked(out, wait=False):
            started = environment()
            opened = next(filter(None, logits), None)
            source = None if opened is None or teacher else source_of(opened)
            write_json(out / "config.json", {"options": options_as_json(preset, options), "source": source} | started)
            results = run_cells(out, cells, logits, options, teacher, dataset)
            rows = make_rows(cells, results)
            comparison = {
                "preset": preset,
                "n_seeds": options.seeds,
                "reference": REFERENCE,
                "rows": rows,
                "teacher": teacher_name(teacher, opened),
                "teacher_accuracy": teacher.test_accuracy if teacher else None,
                "n_test": len(dataset.test.labels),
            }
            write_json(out / "comparison.json", comparison | started)
            write_csv(out / "comparison.csv", rows, options.seed)
            from sealkd_jax.report import write_comparison_report  # only now: it loads matplotlib

            write_comparison_report(out)
    return Compared(comparison, out)


def _open_logits(cells: Sequence[Cell], teacher: Teacher | None, dataset: Dataset) -> list[TeacherLogits | None]:
    """The logits that each cell distils from, the same for all cells of the same views; None without a teacher."""
    opened: dict[tuple[Any, ...], TeacherLogits] = {}  # each file is checked, and may be read whole
    found: list[TeacherLogits | None] = []
    for cell in cells:
        if not needs_teacher(cell.options.method):
            found.append(None)
            continue
        options = cell.options
        views = (options.timesteps, options.views, options.view_seed, options.augment)
        if views not in opened:
            if options.teacher_logits is not None:
                opened[views] = own_logits(options.teacher_logits, options, dataset)
            else:
                assert teacher is not None
                opened[views] = obtain_logits(options, teacher, dataset, cell.parallel)
        found.append(opened[views])
    return found


def run_cells(
    out: Path,
    cells: Sequence[Cell],
    logits: Sequence[TeacherLogits | None],
    options: CompareOptions,
    teacher: Teacher | None,
    dataset: Dataset,
) -> list[CellFile]:
    """The result of every cell: read if it is finished, otherwise trained and written."""
    make_directory(out / "cells")
    seeds, results, here = range(options.seed, options.seed + options.seeds), [], environment()
    when = "the epoch is over; finished cells are kept, this one is not"
    with progress("epochs", sum(cell.options.epochs for cell in cells), options, when=when) as show:
        done = 0
        for cell, of_cell in zip(cells, logits, strict=True):
            key = cache_key(cell, seeds, teacher, dataset)
            path = out / "cells" / f"{cell.options.method}-{fingerprint(key)}.json"
            if not path.exists():
                boards = [out / "tensorboard" / cell.name / f"seed {seed}" for seed in seeds if options.tensorboard]
                try:
                    with _each_epoch(cell, done, show, boards) as on_epoch:
                        result = _train(cell, seeds, dataset, of_cell, options.seeds_at_once, on_epoch)
                except FloatingPointError as error:
                    raise FloatingPointError(f"{cell.name}: {error}") from error
                write_json(path, result | {"digest": fingerprint(result), "key": key} | here)
            else:
                show({"epoch": done + cell.options.epochs, "what": f"{cell.name}, done before"})
            results.append(_read_cell(path, key))
            done += cell.options.epochs
    others = [fact for fact in ("commit", "versions", "device") if any(of.get(fact) != here[fact] for of in results)]
    if others:
        warn(f"{out / 'cells'}: some have another {', '.join(others)} than this start; their numbers may differ")
    return results


@contextmanager
def _each_epoch(cell: Cell, done: int, show: Show, boards: Sequence[Path]) -> Iterator[Callable[..., None]]:
    """Yield a function that takes an epoch's records, one a seed, shows their means and writes TensorBoard's scalars.

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


def _read_cell(path: Path, key: dict[str, Any]) -> CellFile:
    result: Any = read_json(path, CellFile)
    by_timestep, seeds, timesteps = result["accuracy_by_timestep"], len(key["seeds"]), key["options"]["timesteps"]
    whole = (
        result["key"] == as_type(dict[str, Any], json.loads(json.dumps(key)))
        and all(len(values) == seeds for values in result.values() if isinstance(values, list))
        and all(len(values) == timesteps for values in by_timestep)
        and result["digest"]
        == fingerprint({name: each for name, each in result.items() if name in CellResult.__annotations__})
    )
    if not whole:
        raise InputError(f"{path}: damaged: its parts do not agree; remove it, and the cell is trained again")
    return result


def _train(
    cell: Cell,
    seeds: Sequence[int],
    dataset: Dataset,
    logits: TeacherLogits | None,
    at_once: int | None,
    on_epoch: Callable[[list[dict[str, Any]]], None],
) -> dict[str, Any]:
    """Train all seeds of a cell, and evaluate the best model of each on the test split."""
    students = train_seeds(
        cell.plan, seeds, dataset, cell.parallel, teacher_logits=logits, at_once=at_once, on_epoch=on_epoch
    )
    plan, test = cell.plan, dataset.test
    evaluate = compile_evaluation(plan.network, plan.spec, plan.timesteps, cell.parallel, test, count_activity)
    evaluations = [evaluate(cell.parallel.put(student.variables)) for student in students]
    by_timestep = [accuracy_by_timestep(found.logits, test.labels).tolist() for found in evaluations]
    shape, examples = dataset.train.images.shape[-3:], len(test.labels)
    costs = [
        energy_of(plan.network, student.variables, shape, found.sums.inputs, examples)["snn_picojoule"]
        for student, found in zip(students, evaluations, strict=True)
    ]
    return {
        "test_accuracy": [accuracies[-1] for accuracies in by_timestep],
        "accuracy_by_timestep": by_timestep,
        "val_accuracy": [student.best["val_accuracy"] for student in students],
        "best_epoch": [student.best["epoch"] for student in students],
        "params_digest": [params_digest(student.variables) for student in students],
        "picojoule": costs,
        "seconds": sum(student.seconds for student in students) / len(students),
    }
