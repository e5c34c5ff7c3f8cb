"""From the start of a program to the end of its first epoch: `python -m train.benchmark startup [PRESET] […]`.

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
from train.benchmark.table import RESULTS_DIR, keep, show
from train.presets import DEFAULT, PRESETS

AGAIN = 3


def main(argv: list[str]) -> None:
    """Prints a table and writes JSON; `argv` goes on to train.distill."""
    preset, *options = argv if argv and argv[0] in PRESETS else [DEFAULT, *argv]
    command = [sys.executable, "-m", "train.distill", preset, "--method", "none", "--epochs", "1", *options]
    seconds = []
    with tempfile.TemporaryDirectory() as directory:
        environment = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": f"{directory}/cache",
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }
        for run in range(1 + AGAIN):
            start = time.perf_counter()
            process = subprocess.run(
                [*command, "--out", f"{directory}/{run}"], env=environment, capture_output=True, text=True
            )
            if process.returncode:
                raise InputError(f"train.distill: {process.stderr.removeprefix('error: ')}")
            seconds.append(time.perf_counter() - start)
    cold, warm = seconds[0], sorted(seconds[1:])[AGAIN // 2]
    show(
        f"{preset}: one epoch, from the start of the process to the report",
        ("first start", f"later starts, median of {AGAIN}"),
        {"train.distill": (f"{cold:.1f} s", f"{warm:.1f} s")},
    )
    keep(RESULTS_DIR / f"startup-{preset}.json", {"seconds": seconds})
