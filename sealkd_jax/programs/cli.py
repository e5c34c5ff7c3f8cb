"""What every program shares: errors as one line and exit status 2, and facts about the machine."""

import logging
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from sealkd_jax.errors import InputError
from sealkd_jax.parallel.processes import is_main_process
from sealkd_jax.programs import cluster
from sealkd_jax.programs.options import DistillProgramOptions, TeacherProgramOptions
from sealkd_jax.programs.stopping import Stopped, terminable

_OPTIONS = {field.name for kind in (DistillProgramOptions, TeacherProgramOptions) for field in fields(kind)}
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def run(main: Callable[[], Any]) -> None:
    """Runs a program. What the user can mend is one line on stderr and exit status 2, not a traceback.

    Ctrl-C ends it with 130 and SIGTERM with 143, see `train.stopping`; the end of another process of the same run
    with 3, see `train.cluster`.
    """
    _keep_compiled_programs()
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # where Orbax shows tracebacks of what it then raises
    status, words = 0, ""
    try:
        with terminable():
            main()
    except (InputError, FloatingPointError) as error:
        status, words = 2, f"error: {with_flag(' '.join(str(error).split()))}"
    except OSError as error:
        message = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        status, words = 2, f"error: {' '.join(message.split())}"
    except (KeyboardInterrupt, Stopped) as stop:
        status = 128 + getattr(stop, "number", signal.SIGINT)
        words = "interrupted; what is finished is kept: go on with the same command (distill, compare: and --resume)"
    except Exception:
        if not cluster.joined():
            raise
        status, words = cluster.CRASHED, traceback.format_exc()  # seldom seen: another's end is mostly heard of first
    cluster.leave(status, words)


def with_flag(message: str) -> str:
    """`batch_size 7: …` as `--batch-size 7: …`: the library begins a message with the argument's name."""
    name = re.split(r"[ :]", message, maxsplit=1)[0]
    return f"--{name.replace('_', '-')}{message[len(name) :]}" if name in _OPTIONS else message


def _keep_compiled_programs() -> None:
    """The next start finds what this one compiles, in a directory of the user's unless JAX has been given another."""
    if jax.config.jax_compilation_cache_dir is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(cache / "sealkd-jax"))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)  # a hundred small programs take seconds


def warn(message: str) -> None:
    """A line on stderr of what the program got over; of several processes from the first."""
    if is_main_process():
        print(f"warning: {message}", file=sys.stderr)


def environment() -> dict[str, Any]:
    """Package versions, device, git commit and command, for `config.json`."""
    devices = jax.devices()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()  # those given to it
    return {
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "device": f"{devices[0].device_kind} x{len(devices)}, {cores} CPU cores",
        "commit": _commit(),
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
    }


def check_out(out: Path, resume: bool) -> None:
    """Refuses a place that is taken or cannot be written to, before any work is done. Writes nothing."""
    try:
        # Beside a lock, a file that a kill cut short is nothing.
        taken = out.exists() and any(path.suffix != ".partial" and path.name != ".lock" for path in out.iterdir())
    except OSError as error:
        raise InputError(f"--out {out}: cannot be used as a directory: {error.strerror}") from error
    if taken and not resume:
        raise InputError(f"--out {out}: not empty; go on with it by --resume, or choose another --out")
    if taken and not (out / "config.json").exists():
        raise InputError(f"--out {out}: not empty, and no run to resume (no config.json); choose another --out")
    existing = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise InputError(f"--out {out}: cannot be made; {existing} is not a directory that can be written to")


# What may change between the starts of one run: where it is, what it runs on, and what it shows.
FREE = ("out", "resume", "parallel", "devices", "data_dir", "stream", "log", "tensorboard")


def _commit() -> str | None:
    """The checkout's commit, marked where files differ from it; None where this is no checkout."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
