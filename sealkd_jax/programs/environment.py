"""The machine that a program runs on: what is written down of it, and a GPU that is not used."""

import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import version
from pathlib import Path

import jax

from sealkd_jax.errors import printable
from sealkd_jax.parallel.processes import is_main_process
from sealkd_jax.run_files import Started

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
NVIDIA = Path("/dev/nvidia0")
CALL: ContextVar[str] = ContextVar("CALL")  # the call of a program as a function


def environment() -> Started:
    """Package versions, device, git commit and command, for `config.json`."""
    devices = jax.devices()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()  # of this process
    return {
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "device": f"{devices[0].device_kind} x{len(devices)}, {cores} CPU cores",
        "commit": _commit(),
        "command": _command(),
    }


@contextmanager
def computing(precision: str) -> Iterator[None]:
    """JAX as the programs need it, whatever its settings: these types, one random generator, arrays of NumPy."""
    with jax.enable_x64(precision == "float64"), jax.threefry_partitionable(True), jax.transfer_guard("allow"):
        yield


def warn(message: str) -> None:
    """Print a warning on stderr, in the main process alone."""
    if is_main_process():
        print(f"warning: {printable(message)}", file=sys.stderr)


def warn_of_unused_gpu() -> None:
    """Warn if JAX computes on the CPU although the machine has an NVIDIA GPU, unless the user chose the platform."""
    if getattr(jax.config, "jax_platforms", None) or not (NVIDIA.exists() or shutil.which("nvidia-smi")):
        return
    # JAX logs the same, without the remedy.
    logging.getLogger("jax._src.xla_bridge").addFilter(lambda record: "NVIDIA GPU may be" not in str(record.msg))
    if jax.default_backend() == "cpu":
        warn(
            "JAX runs on the CPU although there is an NVIDIA GPU; to use it: "
            'pip install "sealkd-jax[cuda]"; to silence this: JAX_PLATFORMS=cpu'
        )


def _command() -> str:
    """How this process, or the function that runs in it, was started."""
    program = Path(sys.argv[0]).name
    typed = shlex.join([program, *sys.argv[1:]] if program == "sealkd" else ["python", *sys.orig_argv[1:]])
    return CALL.get(typed)


def _commit() -> str | None:
    """The checkout's commit, with a mark if files differ from it; None outside of a checkout."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():  # installed, perhaps into an environment within another repository
        return None
    git = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
