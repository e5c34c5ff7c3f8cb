"""Print what a step of ImageNet's size needs on each device: memory, operations, exchange.

The chunk of an epoch that `distill` runs, augmentation included, is compiled for the devices of this machine, or with
`--topology` for TPUs that are not there (`pip install libtpu`, in the version that `jax[tpu]` names). Nothing is run,
and no picture is read.
"""

import math
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import NamedSharding, PartitionSpec

from sealkd_jax.data import Dataset, OnDemand, Split
from sealkd_jax.data.datasets import Statistics
from sealkd_jax.errors import InputError
from sealkd_jax.losses import needs_teacher
from sealkd_jax.parallel.sharding import DATA_AXIS, Parallel, pick_devices
from sealkd_jax.programs.command_line import parse
from sealkd_jax.programs.option import HIDDEN, at_least
from sealkd_jax.programs.options import DistillOptions
from sealkd_jax.programs.plans import make_plan
from sealkd_jax.training import Batch, prepare
from train.benchmark.table import RESULTS_DIR, print_table, save

EXAMPLES, CLASSES = 1_271_167, 1000  # of the training split that the preset learns from
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


@dataclass(frozen=True, kw_only=True)
class ImagenetOptions(DistillOptions):
    """The student of the preset, and the devices."""

    topology: str | None = None
    """TPUs to compile for, such as v5e:16x16; this machine's devices if not given."""
    shares: Annotated[tuple[int, ...], at_least(1)] = (2, 4)
    """Images per device."""
    batch_size: Annotated[int, HIDDEN] = 0
    parallel: Annotated[str, HIDDEN] = "jit"
    out: Path | None = None
    """JSON file for the numbers; runs/benchmark/imagenet.json if not given."""


def compiled_chunk(options: DistillOptions, devices: list[jax.Device]) -> jax.stages.Compiled:
    """One batch of an epoch of streamed pictures, compiled for these devices."""
    dataset = nowhere(options.image_size)
    parallel = Parallel("jit", devices)
    program = prepare(make_plan(options, dataset), dataset, parallel)

    def described(split: tuple[str | None, ...], dtype: Any, *shape: int) -> jax.ShapeDtypeStruct:
        sharding = NamedSharding(parallel.replicated.mesh, PartitionSpec(*split))
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    image, batch = dataset.train.images.shape[1:], (1, options.batch_size)
    number, whole = described((), np.int32), (None, DATA_AXIS)
    state, _ = jax.eval_shape(program.begin, options.seed)
    state = jax.tree.map(lambda leaf: described((), leaf.dtype, *leaf.shape), state)
    labels, teacher = described(whole, np.int32, *batch), described(whole, np.float32, *batch, CLASSES)
    images, logits = described(whole, np.uint8, *batch, *image), teacher if needs_teacher(options.method) else None
    chunk = Batch(images, labels, logits, position=labels)
    return parallel.compile_epoch(program.chunk, sharded=True).lower(state, chunk, number, number).compile()


def nowhere(size: int) -> Dataset:
    """As many black pictures as ImageNet has; they take no memory."""

    def split(examples: int) -> Split:
        black = np.broadcast_to(np.uint8(0), (examples, size, size, 3))
        return Split(OnDemand(black), np.zeros(examples, np.int32))

    statistics = Statistics(np.zeros(3), np.ones(3), "")
    return Dataset("imagenet", split(EXAMPLES), split(1), split(1), tuple(map(str, range(CLASSES))), statistics)


def exchanged(text: str) -> dict[str, tuple[int, int]]:
    """The number of each kind of collective in a compiled program's text, and the bytes of their results."""
    found = {}
    for kind in COLLECTIVES:
        results = re.findall(rf"^.*? = (.*?) {kind}(?:-start)?\(", text, re.MULTILINE)
        arrays = [array for result in results for array in re.findall(r"\b[a-z]+(\d+)\[([\d,]*)\]", result)]
        nbytes = sum(int(bits) // 8 * math.prod(map(int, filter(None, shape.split(",")))) for bits, shape in arrays)
        if results:
            found[kind] = (len(results), nbytes)
    return found


def pick_topology(name: str) -> list[jax.Device]:
    """Devices to compile for.

    Raises:
        InputError: if libtpu is missing, or does not know the name.
    """
    # libtpu is to compile, not to look for TPUs of this machine, or to have them for itself.
    os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-16")
    try:
        return list(topologies.get_topology_desc(name, "tpu").devices)
    except Exception as error:  # jax and libtpu raise almost anything
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"--topology {name}: expected one that libtpu knows, such as v5e:4x4 ({reason}); pip install libtpu"
        ) from error


def main(argv: list[str]) -> None:
    """Print a table and write JSON."""
    about = "Compiles a step of ImageNet's size."
    _, options = parse(ImagenetOptions, about, ["imagenet", *argv], "benchmark imagenet")
    devices = pick_topology(options.topology) if options.topology else pick_devices(options.devices, batch_size=0)
    measured: dict[int, dict[str, float]] = {}
    for share in options.shares:
        with jax.enable_x64(options.precision == "float64"):
            compiled = compiled_chunk(replace(options, batch_size=share * len(devices)), devices)
        memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
        exchange = exchanged(compiled.as_text())
        parts = {
            "state and batch, MB": memory.argument_size_in_bytes / 1e6,
            "temporary, MB": memory.temp_size_in_bytes / 1e6,
            "program, MB": memory.generated_code_size_in_bytes / 1e6,
        }
        measured[share] = {
            "memory, MB": sum(parts.values()),  # what a step returns takes the place of the state
            **parts,
            "operations, G": cost["flops"] / 1e9,
            "moved in memory, GB": cost["bytes accessed"] / 1e9,
            **{f"{kind}, MB": nbytes / 1e6 for kind, (_, nbytes) in exchange.items()},
            **{f"{kind}, times": times for kind, (times, _) in exchange.items()},
        }
    rows = {fact: [f"{of.get(fact, 0):,.4g}" for of in measured.values()] for fact in measured[options.shares[0]]}
    where = f"{len(devices)} × {devices[0].device_kind}, {options.precision}, --remat {options.remat}"
    title = f"A step of {options.student}, T = {options.timesteps}, {options.image_size}²: each of {where}"
    print_table(title, [f"{share} images" for share in options.shares], rows)
    save(options.out or RESULTS_DIR / "imagenet.json", {"devices": where, "of a device": measured})
