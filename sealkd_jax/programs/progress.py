"""What can be watched while a program works: progress on stderr, records as JSON lines on stdout, TensorBoard.

Of several processes of a run, the first shows it.
"""

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from sealkd_jax.parallel.processes import is_main_process, max_across_processes
from sealkd_jax.programs.options import WatchOptions
from sealkd_jax.programs.stopping import SAVED, stopping

Record = dict[str, Any]
Show = Callable[..., None]
EVERY = 10.0  # seconds that pass at least between two lines of a log


@contextmanager
def watch(
    stage: str, total: int, options: WatchOptions, directory: Path | None = None, when: str = SAVED
) -> Iterator[Show]:
    """Gives a function that shows each record, whose `epoch` counts up to `total`, in the way the options ask for.

    Records come when all is saved, and calls without one where it can be: there a signal that came meanwhile ends the
    program.

    Args:
        directory: of a run, whose `metrics.jsonl` has these records; TensorBoard's scalars go into it.
        when: see `stopping`.
    """
    shows = {"json": _lines_of_json, "quiet": _nothing, "auto": _bar if Console(stderr=True).is_terminal else _log}
    way = shows[options.log] if is_main_process() else _nothing
    with (
        stopping(max_across_processes, when) as stop_if_asked,
        way(stage, total) as show,
        _scalars(options, directory) as write,
    ):

        def both(record: Record | None = None) -> None:
            if record is not None:
                show(record)
                write(record)
            stop_if_asked()

        yield both


def say(options: WatchOptions, stage: str, facts: Record, *words: str | Table) -> None:
    """What a program has found, on stdout: in words, or with `--log json` as a line of facts."""
    if not is_main_process():
        return
    if options.log == "json":
        print(json.dumps({"stage": stage} | facts), flush=True)
        return
    for part in words:
        if isinstance(part, Table):
            Console().print(part)
        else:
            print(part, flush=True)


class Pace:
    """How long it will take, from the moments at which records came.

    An epoch takes the median of the times from one record to that of the next epoch. So neither compilation nor what an
    earlier start has done counts for anything.
    """

    def __init__(self, total: int):
        self._total, self._epoch, self._when = total, -1, 0.0
        self._took: list[float] = []

    def __call__(self, epoch: int) -> str | None:
        """Time left, as in `0:01:30 left`, when a record has come; None where it is not known or all is done."""
        now = time.monotonic()
        if epoch == self._epoch + 1:
            self._took.append(now - self._when)
        self._epoch, self._when = epoch, now
        if not self._took or epoch >= self._total:
            return None
        return f"{timedelta(seconds=round(median(self._took) * (self._total - epoch)))} left"


@contextmanager
def _nothing(_stage: str, _total: int) -> Iterator[Show]:
    yield lambda record: None


@contextmanager
def _lines_of_json(stage: str, _total: int) -> Iterator[Show]:
    yield lambda record: print(json.dumps({"stage": stage} | record), flush=True)


@contextmanager
def _bar(stage: str, total: int) -> Iterator[Show]:
    """For a terminal."""
    columns = (
        TextColumn("{task.description:<8}"),
        BarColumn(24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    pace = Pace(total)
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(stage, total=total, note="compiling")

        def show(record: Record) -> None:
            note = _words(record.get("what"), *_how_it_goes(record), pace(record["epoch"]))
            bar.update(task, completed=record["epoch"], note=note, refresh=True)

        yield show


@contextmanager
def _log(stage: str, total: int) -> Iterator[Show]:
    """For a file, a pipe or a notebook: a line an epoch, but for those that come within `EVERY` of the last line."""
    pace, last = Pace(total), -EVERY
    stream = sys.stdout if Console().is_jupyter else sys.stderr  # which a notebook shows as if it were an error

    def show(record: Record) -> None:
        nonlocal last
        left, now = pace(record["epoch"]), time.monotonic()
        if now - last < EVERY and record["epoch"] < total:
            return
        last = now
        words = _words(record.get("what"), _losses(record), *_how_it_goes(record), left)
        print(f"{stage} {record['epoch']}/{total}: {words}", file=stream, flush=True)

    yield show


def _words(*parts: str | None) -> str:
    return ", ".join(part for part in parts if part)


def _losses(record: Record) -> str | None:
    if "loss" not in record:
        return None
    terms = " ".join(f"{name} {value:.3f}" for name, value in record.get("terms", {}).items())
    return f"loss {record['loss']:.3f}{f' ({terms})' if terms else ''}"


def _how_it_goes(record: Record) -> Iterator[str]:
    """Validation accuracy and throughput, so far as the record has them."""
    if "val_accuracy" in record:
        yield f"validation {record['val_accuracy']:.1%}"
    if "examples_per_second" in record:
        yield f"{record['examples_per_second']:,.0f} examples/s"


class Scalars:
    """Records of epochs as scalars in a directory of TensorBoard's.

    What is there is replaced: whoever goes on with a run writes the earlier epochs once more, and none is there twice.
    Times are as if it had been trained in one go up to now.
    """

    def __init__(self, directory: Path):
        from tensorboardX import SummaryWriter

        shutil.rmtree(directory, ignore_errors=True)
        self._writer, self._time = SummaryWriter(str(directory)), None

    def write(self, *records: Record) -> None:
        """Writes records of epochs that follow those before."""
        if self._time is None:
            self._time = time.time() - sum(record["seconds"] for record in records)
        for record in records:
            self._time += record["seconds"]
            for name, value in _named(record).items():
                self._writer.add_scalar(name, value, record["epoch"], self._time)
        self._writer.flush()

    def close(self) -> None:
        """Ends the file."""
        self._writer.close()


def _named(record: Record) -> dict[str, float]:
    """The record's numbers under the names, with a section each, that TensorBoard shows."""
    sections = {
        "loss": {"total": record["loss"]} | record["terms"],
        "accuracy": {"validation": record["val_accuracy"], "training": record["train_accuracy"]},
        "firing_rate": record.get("firing_rates", {}),
        "optimisation": {name: record[name] for name in ("learning_rate", "grad_norm")},
        "speed": {"examples_per_second": record["examples_per_second"]},
    }
    return {f"{section}/{name}": value for section, named in sections.items() for name, value in named.items()}


@contextmanager
def _scalars(options: WatchOptions, directory: Path | None) -> Iterator[Show]:
    """Where they are asked for, keeps the scalars of a run's directory up with its `metrics.jsonl`."""
    if not options.tensorboard or directory is None or not is_main_process():
        yield lambda record: None
        return
    scalars: Scalars | None = None

    def begin() -> Scalars:
        # Not before the first record: by then the file's lines are the checkpoint's.
        begun = Scalars(directory / "tensorboard")
        begun.write(*map(json.loads, (directory / "metrics.jsonl").read_text().splitlines()))
        return begun

    def write(record: Record) -> None:
        nonlocal scalars
        if scalars is None:
            scalars = begin()
        else:
            scalars.write(record)

    try:
        yield write
        scalars = scalars or begin()  # of a run that was finished before
    finally:
        if scalars is not None:
            scalars.close()
