"""Measures what the hardware at hand does: `python -m train.benchmark SUBJECT [...]`.

A time is the median of several runs, after one that does not count. Programs that are compared run in turn, round by
round, so that the machine's other work slows all of them alike. Peers that are not installed are named and left out.
"""

import sys
from importlib import import_module

from sealkd_jax.errors import InputError, did_you_mean
from sealkd_jax.programs.cli import run

SUBJECTS = ("loss", "lif", "step", "memory", "data")


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark of a subject."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv in (["--help"], ["-h"]):
        print(f"{__doc__}\nSubjects: {', '.join(SUBJECTS)}. Each has a --help of its own.")
    elif not argv or argv[0] not in SUBJECTS:
        nearest = did_you_mean(argv[0], SUBJECTS) if argv else ""
        raise InputError(f"{argv[0] if argv else 'no subject'}: expected one of {', '.join(SUBJECTS)}{nearest}")
    else:
        import_module(f"train.benchmark.{argv[0]}").main(argv[1:])


if __name__ == "__main__":
    run(main)
