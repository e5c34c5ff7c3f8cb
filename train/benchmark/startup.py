"""From the start of a program to its first epoch, and to its report: `python -m train.benchmark startup [PRESET] […]`.

train.distill runs one epoch without a teacher in a process of its own: first with an empty cache of compiled programs,
then with what that left there.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sealkd_jax.errors import InputError
from sealkd_jax.programs.command_line import parse
from train.benchmark.table import RESULTS_DIR, keep, show

AGAIN = 3


def start(command: list[str], out: Path, cache: Path) -> tuple[float, float]:
    """Seconds until the first epoch is over and saved, and until the program has ended."""
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache), "PYTHONPATH": str(Path(__file__).parents[2])}
    records, begun, first = out / "metrics.jsonl", time.perf_counter(), 0.0
    with subprocess.Popen(
        [*command, "--out", str(out)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None:
            if not first and records.exists() and records.stat().st_size:
                first = time.perf_counter() - begun
            time.sleep(0.01)
        if process.returncode:
            raise InputError(f"train.distill: {process.stderr.read().removeprefix('error: ')}")
    return first, time.perf_counter() - begun


def main(argv: list[str]) -> None:
    """Prints a table and writes JSON; `argv` goes on to train.distill."""
    preset, _ = parse("distill", "Measures how long a start takes.", argv, program="benchmark startup")
    options = argv[1:] if argv[:1] == [preset] else argv
    command = [sys.executable, "-m", "train.distill", preset, "--method", "none", "--epochs", "1", *options]
    with tempfile.TemporaryDirectory() as directory:
        seconds = [start(command, Path(directory, str(run)), Path(directory, "cache")) for run in range(1 + AGAIN)]
    rows = {
        what: (f"{cold:.1f} s", f"{sorted(warm)[AGAIN // 2]:.1f} s")
        for what, (cold, *warm) in zip(
            ("to the end of the first epoch", "to the report"), zip(*seconds, strict=True), strict=True
        )
    }
    show(f"{preset}: one epoch from the start of the process", ("first start", f"later, median of {AGAIN}"), rows)
    keep(RESULTS_DIR / f"startup-{preset}.json", {"seconds": seconds})
