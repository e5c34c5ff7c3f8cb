"""The command `sealkd`: find a program, run it, and turn what ends it into one line and an exit status.

JAX and the program are imported once a signal can end the process.
"""

import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from typing import Any

from sealkd_jax.errors import InputError, did_you_mean, one_line
from sealkd_jax.programs.commands import command, programs
from sealkd_jax.programs.stopping import INTERRUPTED, terminable


def main(argv: list[str] | None = None) -> None:
    """`sealkd [--version] [PROGRAM …]`. Without a program, print what there is."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(overview())
    elif words[0] == "--version":
        print(f"sealkd-jax {version('sealkd-jax')}")
    else:
        start(words[0], words[1:])


def start(program: str, argv: list[str] | None = None) -> None:
    """Run the program of that name and exit."""

    def find_and_run() -> None:
        if program not in (known := programs()):
            nearest = did_you_mean(program, known)
            raise InputError(f"program {program!r}: unknown; expected one of {', '.join(known)}{nearest}")
        import_module(f"sealkd_jax.programs.commands.{program}").main(argv)

    run(find_and_run)


def overview() -> str:
    """A line for each program."""
    lines = "\n".join(f"  {name:<12}{line}" for name, line in programs().items())
    return f"""SeAl-KD for spiking neural networks, in JAX.

usage: {command("PROGRAM")} [--option value …]

{lines}

`{command("PROGRAM")} --help` lists the options of a program."""


def run(main: Callable[[], Any]) -> None:
    """Run a program. An error that the user can mend becomes one line on stderr and exit status 2.

    Ctrl-C ends it with status 130, and SIGTERM with 143: see `stopping`.
    """
    for library in ("absl", "asyncio"):  # Orbax logs the traceback of an error that it then raises
        logging.getLogger(library).setLevel(logging.CRITICAL)
    with terminable():
        import jax

        from sealkd_jax.programs.cluster import leave

        _cache_compiled_programs()
        status, message = 0, ""
        try:
            main()
        except InputError as error:
            status, message = 2, f"error: {_with_flag(str(error))}"
        except FloatingPointError as error:
            status, message = 2, f"error: {one_line(str(error))}"
        except OSError as error:
            status = 2
            message = f"error: {one_line(f'{error.filename}: {error.strerror}' if error.filename else str(error))}"
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package in ("", "sealkd_jax", "train"):
                raise
            status, message = 2, f'error: {package} is not installed: pip install "sealkd-jax[train]"'
        except KeyboardInterrupt as stop:
            status, message = 128 + getattr(stop, "number", signal.SIGINT), INTERRUPTED
        except Exception as error:
            if isinstance(error, MemoryError) or str(error).startswith("RESOURCE_EXHAUSTED"):
                status = 2
                message = f"error: {one_line(str(error))[:200]}; --accumulate, --remat or a smaller batch need less"
            elif missing := _missing_platform():
                status, message = 2, f"error: {missing}"
            elif jax.distributed.is_initialized():
                status, message = 1, traceback.format_exc()
            else:
                raise
        leave(status, message)


def _missing_platform() -> str | None:
    """Why JAX cannot start on the platform that `JAX_PLATFORMS` names; None if it can."""
    import jax

    try:
        jax.devices()
        return None
    except (RuntimeError, AssertionError, AttributeError) as error:  # JAX 0.10 asserts that there is one for cuda
        reason = f" ({one_line(str(error))[:150]})" if isinstance(error, RuntimeError) else ""
        named = getattr(jax.config, "jax_platforms", None)
        return f"JAX_PLATFORMS={named}: JAX finds no such device{reason}; name one that is there, such as cpu"


def _with_flag(message: str) -> str:
    """A message that begins with the name of an option begins with its flag, if the program has read options."""
    command_line = sys.modules.get("sealkd_jax.programs.command_line")
    return command_line.with_flag(message) if command_line else message


def _cache_compiled_programs() -> None:
    """Keep compiled programs for the next start in a directory of the user's, unless JAX was given one."""
    import jax

    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if getattr(jax.config, "jax_compilation_cache_dir", None) is None and not cache.startswith("~"):  # a user unknown
        jax.config.update("jax_compilation_cache_dir", os.path.join(cache, "sealkd-jax"))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)  # a hundred small programs take seconds
