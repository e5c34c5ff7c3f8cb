"""Several processes of one run, joined by `jax.distributed`. All compute the same; the main process writes the files.

In a single process these functions do nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import jax
import numpy as np

from sealkd_jax.errors import InputError
from sealkd_jax.files import locked

TIMEOUT = 7 * 24 * 3600  # seconds; the main process may be waiting for another run to finish its teacher


def is_main_process() -> bool:
    """Whether this process writes the files."""
    return jax.process_index() == 0


def wait_for_all(seconds: float = TIMEOUT) -> None:
    """Returns when every process has called it.

    Raises:
        jax.errors.JaxRuntimeError: if that takes longer than `seconds`.
    """
    if jax.process_count() > 1:
        from orbax.checkpoint import multihost

        # A barrier of the coordinator, because collectives have time limits of their own.
        multihost.get_barrier_sync_fn()(key="sealkd_jax", timeout_ms=int(1000 * seconds))


def max_across_processes(value: int) -> int:
    """The maximum of an int32 over all processes."""
    if jax.process_count() == 1:
        return value
    from jax.experimental.multihost_utils import process_allgather

    return int(process_allgather(np.int32(value)).max())


@contextmanager
def lock_across_processes(directory: Path, *, wait: bool) -> Iterator[None]:
    """The main process holds `files.locked`; all processes enter together and leave together.

    After it, every process sees the files that the main process wrote inside.

    Raises:
        InputError: as `files.locked`, in the main process; in the others, if the directory is not there.
    """
    with locked(directory, wait=wait) if is_main_process() else nullcontext():
        wait_for_all()
        if not directory.is_dir():
            raise InputError(
                f"{directory}: made by the main process, but not visible to process {jax.process_index()}; "
                "start all processes in the same directory of a shared disk"
            )
        yield
        wait_for_all()
