"""Time the reading, framing and augmenting of a data set, and their share of a training step."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

from sealkd_jax.data import Dataset, OnDemand, Split, stream, take
from sealkd_jax.losses import needs_teacher
from sealkd_jax.parallel.sharding import Parallel, pick_devices
from sealkd_jax.programs.command_line import parse
from sealkd_jax.programs.data import completed, load_dataset, of_the_student
from sealkd_jax.programs.option import HIDDEN
from sealkd_jax.programs.options import DistillOptions
from sealkd_jax.programs.plans import make_plan
from sealkd_jax.training import Batch, gather, on_devices, prepare, view_batch
from sealkd_jax.typed import at_least
from train.benchmark.table import RESULTS_DIR, print_table, save
from train.benchmark.timing import Timing, in_turn, measure

STREAMED = 20_000  # examples


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions(DistillOptions):
    """The student whose data are measured."""

    repeats: Annotated[int, at_least(1)] = 9
    """Number of measurements."""
    devices: Annotated[int | None, HIDDEN] = None
    parallel: Annotated[str, HIDDEN] = "jit"
    out: Path | None = None
    """JSON file for the numbers; runs/benchmark/data-PRESET.json if not given."""


def measure_data(options: BenchmarkOptions) -> tuple[Dataset, dict[str, Timing], float]:
    """The data set, the times, and the fraction of a training step that augmenting and gathering a batch takes."""
    timings = {}
    with tempfile.TemporaryDirectory() as cache:
        first = []
        timings["first start"] = measure(lambda: first.append(load_dataset(options, Path(cache))), 0, 1, warm_up=False)
        dataset, options = first[0], completed(options, first[0])
        examples = sum(len(split.labels) for split in (dataset.train, dataset.validation, dataset.test))
        timings["first start"] = timings["first start"]._replace(handled=examples)
        again = measure(lambda: load_dataset(options, Path(cache)).classes, examples, min(3, options.repeats))
        timings["later start"] = again
    dataset = of_the_student(dataset, options)
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
    data = on_devices(Split(take(images, range(some)), labels[:some]), parallel)
    index = parallel.put(jnp.asarray(np.random.default_rng(0).permutation(some)[:batch]))
    view = jax.jit(lambda data, index, k: view_batch(plan.spec, gather(data, index), k).images)
    state, _ = program.begin(plan.seed)
    state = parallel.put(state)
    teacher = jnp.zeros((batch, len(dataset.classes))) if needs_teacher(options.method) else None
    prepared = Batch(view(data, index, 1), data.labels[index], teacher)
    step = jax.jit(program.step)
    timings |= in_turn(
        {"augmentation": lambda: view(data, index, 1), "training step": lambda: step(state, prepared, 0.5)},
        options.repeats,
        batch,
    )
    share = [a / (a + b) for a, b in zip(timings["augmentation"].wall, timings["training step"].wall, strict=True)]
    return dataset, timings, float(np.median(share))


def main(argv: list[str]) -> None:
    """Print a table and write JSON."""
    name, options = parse(BenchmarkOptions, __doc__ or "", argv, "benchmark data")
    with jax.enable_x64(options.precision == "float64"):
        dataset, timings, share = measure_data(options)
    kind = "recordings" if dataset.frames else "images"
    rows = {
        what: (
            *timing.words("s"),
            str(len(timing.wall)),
            f"{timing.rate:,.0f}",
            f"{timing.rate_of_a_core:,.0f}",
        )
        for what, timing in timings.items()
    }
    print_table(
        f"{dataset.name}: {len(dataset.train.labels)} training {kind}, batches of "
        f"{completed(options, dataset).batch_size}",
        ("median", "spread", "n", f"{kind}/s", "of a core"),
        rows,
    )
    print(f"Augmentation is {share:.2%} of a training step with it ({options.student}, T = {options.timesteps}).")
    measured = {what: timing._asdict() for what, timing in timings.items()}
    out = options.out or RESULTS_DIR / f"data-{name}.json"
    save(out, {"dataset": dataset.name, "share_of_step": share, "timings": measured})
