"""The output of a program at work: progress on stderr, records as JSON lines on stdout, scalars for TensorBoard.

Only the main process shows anything.
"""

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from sealkd_jax.errors import printable
from sealkd_jax.files import refuse_link
from sealkd_jax.parallel.processes import is_main_process, max_across_processes
from sealkd_jax.programs.options import WatchOptions
from sealkd_jax.programs.stopping import SAVED, stopping

Record = dict[str, Any]
Show = Callable[..., None]
EVERY = 10.0  # seconds between two lines of a log, at least


@contextmanager
def progress(
    stage: str, total: int, options: WatchOptions, directory: Path | None = None, when: str = SAVED
) -> Iterator[Show]:
    """Yield a function that shows a record, whose `epoch` counts up to `total`, in the way that the options ask for.

    Call it with a record after each save, and without one at any safe point: pending signals are honoured there.

    Args:
        directory: of a run, whose `metrics.jsonl` has these records; TensorBoard's scalars go there.
        when: see `stopping`.
    """
    with (
        stopping(max_across_processes, when) as stop_if_asked,
        _way(stage, total, options) as show,
        _scalars(options, directory) as write,
    ):

        def show_and_write(record: Record | None = None) -> None:
            if record is not None:
                show(record)
                write(record)
            stop_if_asked()

        yield show_and_write


def emit(options: WatchOptions, stage: str, result: Record, *words: str | Table) -> None:
    """Print a result on stdout: in words, or with `log="json"` as one line of JSON."""
    if not is_main_process():
        return
    if options.log == "json":
        print(json.dumps({"stage": stage} | result), flush=True)
        return
    for part in words:
        if isinstance(part, Table):
            Console(markup=False, emoji=False).print(part)
        else:
            print(printable(part), flush=True)


def say(options: WatchOptions, words: str) -> None:
    """Print what a program has found on the way, on stderr, unless `log` asks for results alone."""
    if is_main_process() and options.log == "auto":
        print(printable(words), file=sys.stderr, flush=True)


def print_table(options: WatchOptions, table: Table) -> None:
    """Print a table beside the progress, in the main process and only with `log="auto"`."""
    if is_main_process() and options.log == "auto":
        Console(file=_stream(), markup=False, emoji=False).print(table)


def _stream() -> TextIO:
    """Where progress goes: stderr, which a notebook would show as an error."""
    return sys.stdout if Console().is_jupyter else sys.stderr


class Pace:
    """An estimate of the time left, from the moments at which records arrive.

    An epoch takes the median of the times between the records of consecutive epochs. So neither compilation nor the
    epochs of an earlier start count.
    """

    def __init__(self, total: int):
        self._total, self._epoch, self._when = total, -1, 0.0
        self._took: list[float] = []

    def __call__(self, epoch: int) -> str | None:
        """The time left after this record, as in `0:01:30 left`; None if it is unknown or the work is done."""
        now = time.monotonic()
        if epoch == self._epoch + 1:
            self._took.append(now - self._when)
        self._epoch, self._when = epoch, now
        if not self._took or epoch >= self._total:
            return None
        return f"{timedelta(seconds=round(median(self._took) * (self._total - epoch)))} left"


def _way(stage: str, total: int, options: WatchOptions) -> AbstractContextManager[Show]:
    """The way in which this process shows a record."""
    if options.log == "quiet" or not is_main_process():
        return nullcontext(lambda record: None)
    if options.log == "json":
        return nullcontext(lambda record: print(json.dumps({"stage": stage} | record), flush=True))
    return _bar(stage, total) if Console(stderr=True).is_terminal else nullcontext(_log(stage, total))


@contextmanager
def _bar(stage: str, total: int) -> Iterator[Show]:
    """A bar, for a terminal."""
    columns = (
        TextColumn("{task.description:<8}"),
        BarColumn(24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    pace = Pace(total)
    with Progress(*columns, console=Console(stderr=True, markup=False, emoji=False)) as bar:
        task = bar.add_task(stage, total=total, note="compiling")

        def show(record: Record) -> None:
            note = _words(record.get("what"), *_metrics(record), pace(record["epoch"]))
            bar.update(task, completed=record["epoch"], note=note, refresh=True)

        yield show


def _log(stage: str, total: int) -> Show:
    """A line an epoch, for a file, a pipe or a notebook; none within `EVERY` seconds of the last."""
    pace, last = Pace(total), -EVERY

    def show(record: Record) -> None:
        nonlocal last
        left, now = pace(record["epoch"]), time.monotonic()
        if now - last < EVERY and record["epoch"] < total:
            return
        last = now
        words = _words(record.get("what"), _losses(record), *_metrics(record), left)
        print(f"{stage} {record['epoch']}/{total}: {words}", file=_stream(), flush=True)

    return show


def _words(*parts: str | None) -> str:
    return ", ".join(part for part in parts if part)


def _losses(record: Record) -> str | None:
    if "loss" not in record:
        return None
    terms = " ".join(f"{name} {value:.3f}" for name, value in record.get("terms", {}).items())
    return f"loss {record['loss']:.3f}{f' ({terms})' if terms else ''}"


def _metrics(record: Record) -> Iterator[str]:
    """Validation accuracy and throughput, if the record has them."""
    if "val_accuracy" in record:
        yield f"validation {record['val_accuracy']:.1%}"
    if "examples_per_second" in record:
        yield f"{record['examples_per_second']:,.0f} examples/s"


class Scalars:
    """Records of epochs as scalars in a directory for TensorBoard.

    Replaces what is there: a run that is resumed writes the earlier epochs again, so that none is there twice. Times
    are as if it had been trained in one go.
    """

    def __init__(self, directory: Path):
        from tensorboardX import SummaryWriter

        refuse_link(directory)
        shutil.rmtree(directory, ignore_errors=True)
        self._writer, self._time = SummaryWriter(str(directory)), None

    def write(self, *records: Record) -> None:
        """Write the records of the next epochs."""
        if self._time is None:
            self._time = time.time() - sum(record["seconds"] for record in records)
        for record in records:
            self._time += record["seconds"]
            for name, value in _named(record).items():
                self._writer.add_scalar(name, value, record["epoch"], self._time)
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


def _named(record: Record) -> dict[str, float]:
    """The record's numbers under the names that TensorBoard shows, `section/name`."""
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
    """If the options ask for it, keep the scalars of a run's directory up with its `metrics.jsonl`."""
    if not options.tensorboard or directory is None or not is_main_process():
        yield lambda record: None
        return
    scalars: Scalars | None = None

    def begin() -> Scalars:
        # At the first record: until then the file may hold epochs that the checkpoint does not.
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
        scalars = scalars or begin()  # a run that was finished before
    finally:
        if scalars is not None:
            scalars.close()
