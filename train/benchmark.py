"""Measures what the hardware at hand does: `python -m train.benchmark data [PRESET] [--option value …]`.

`data`: reading, framing and augmenting the preset's data set, and the share of a training step that this costs.
A time is the median of repeated runs, after one that is not counted; the spread is that of all of them.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from sealkd_jax.data import Dataset, OnDemand, Split, stream, take
from sealkd_jax.errors import InputError
from sealkd_jax.files import write_json
from sealkd_jax.losses import needs_teacher
from sealkd_jax.sharding import Parallel, pick_devices
from sealkd_jax.training import Batch, on_devices, prepare, view_batch
from train.data import load_dataset
from train.distill import make_plan
from train.options import DistillOptions, parse
from train.program import facts, run

STREAMED = 20_000  # examples


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions(DistillOptions):
    """The student whose data are measured, and how often."""

    repeats: int = 9
    """How many times each is measured."""
    out: Path | None = None
    """Where the numbers go as JSON; runs/benchmark/data-<preset>.json where not given."""


class Timing(NamedTuple):
    """Seconds of every repetition, on the clock and summed over cores, and what one repetition handles."""

    wall: list[float]
    cores: list[float]
    handled: int

    @property
    def seconds(self) -> float:
        """Median on the clock."""
        return float(np.median(self.wall))

    @property
    def rate(self) -> float:
        """Handled per second."""
        return self.handled / self.seconds

    @property
    def rate_of_a_core(self) -> float:
        """Handled per second of one core's time."""
        return self.handled / float(np.median(self.cores))


def measure(work: Callable[[], Any], handled: int, repeats: int, warm_up: bool = True) -> Timing:
    """Times `work`, until its arrays are ready."""
    if warm_up:
        jax.block_until_ready(work())
    wall, cores = [], []
    for _ in range(repeats):
        start, start_cores = time.perf_counter(), time.process_time()
        jax.block_until_ready(work())
        wall.append(time.perf_counter() - start)
        cores.append(time.process_time() - start_cores)
    return Timing(wall, cores, handled)


def measure_data(options: BenchmarkOptions) -> tuple[Dataset, dict[str, Timing], float]:
    """The data set, what was timed, and the share of a training step that its augmentation and gathering cost."""
    timings = {}
    with tempfile.TemporaryDirectory() as cache:
        first = []
        timings["first start"] = measure(lambda: first.append(load_dataset(options, Path(cache))), 0, 1, warm_up=False)
        dataset = first[0]
        examples = sum(len(split.labels) for split in (dataset.train, dataset.validation, dataset.test))
        timings["first start"] = timings["first start"]._replace(handled=examples)
        again = measure(lambda: load_dataset(options, Path(cache)).classes, examples, min(3, options.repeats))
        timings["later start"] = again
    images, labels = dataset.train
    order = np.random.default_rng(0).permutation(len(labels))[:STREAMED]
    on_demand = Split(OnDemand(images), labels)

    def read() -> None:
        for _ in stream(on_demand, order, options.batch_size):
            pass

    timings["streaming"] = measure(read, len(order), min(3, options.repeats))

    plan = make_plan(options, dataset)
    parallel = Parallel("jit", pick_devices(1, options.batch_size))
    program = prepare(plan, dataset, parallel)
    batch = options.batch_size
    some = min(4 * batch, len(labels))
    data = on_devices(dataset, Split(take(images, range(some)), labels[:some]), parallel)
    index = parallel.put(jnp.asarray(np.random.default_rng(0).permutation(some)[:batch]))
    view = jax.jit(lambda data, index, k: view_batch(plan.recipe, data, index, k))
    state, _ = program.begin(data, plan.seed)
    state = parallel.put(state)
    teacher = jnp.zeros((batch, len(dataset.classes))) if needs_teacher(options.method) else None
    prepared = Batch(view(data, index, 1), data.labels[index], teacher)
    step = jax.jit(program.step)
    jax.block_until_ready((view(data, index, 1), step(state, prepared, 0.5)))
    rounds = [
        (
            measure(lambda: view(data, index, 1), batch, 1, False),
            measure(lambda: step(state, prepared, 0.5), batch, 1, False),
        )
        for _ in range(options.repeats)
    ]  # interleaved
    for name, column in zip(("augmentation", "training step"), zip(*rounds, strict=True), strict=True):
        timings[name] = Timing([t.wall[0] for t in column], [t.cores[0] for t in column], batch)
    share = [a / (a + b) for a, b in zip(timings["augmentation"].wall, timings["training step"].wall, strict=True)]
    return dataset, timings, float(np.median(share))


def main(argv: list[str] | None = None) -> None:
    """Prints a table and writes JSON."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] != "data":
        raise InputError(f"{argv[0] if argv else 'nothing to measure'}: expected data")
    name, preset = parse("distill", "Measures the data.", argv[1:], program="benchmark data", kind=BenchmarkOptions)
    options = preset.distill
    dataset, timings, share = measure_data(options)
    kind = "recordings" if dataset.frames else "images"
    table = Table(title=f"{dataset.name}: {len(dataset.train.labels)} training {kind}, batches of {options.batch_size}")
    for heading in ("", "median", "spread", "n", f"{kind}/s", "of a core"):
        table.add_column(heading, justify="right" if heading else "left")
    for what, timing in timings.items():
        spread = f"{min(timing.wall):.4g}–{max(timing.wall):.4g} s"
        rates = (f"{timing.rate:,.0f}", f"{timing.rate_of_a_core:,.0f}")
        table.add_row(what, f"{timing.seconds:.4g} s", spread, str(len(timing.wall)), *rates)
    Console().print(table)
    print(f"Augmentation is {share:.2%} of a training step with it ({options.student}, T = {options.timesteps}).")
    out = options.out or Path("runs/benchmark") / f"data-{name}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    measured = {what: timing._asdict() for what, timing in timings.items()}
    write_json(out, {"dataset": dataset.name, "share_of_step": share, "timings": measured} | facts())
    print(f"Numbers: {out}")


if __name__ == "__main__":
    run(main)
