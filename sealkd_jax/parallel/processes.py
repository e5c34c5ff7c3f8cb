"""Several processes of one run, joined by `jax.distributed`: all compute the same, and the first writes the files.

Where there is one process, these functions do nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import jax
import numpy as np

from sealkd_jax.errors import InputError
from sealkd_jax.files import locked

PATIENCE = 7 * 24 * 3600  # seconds that processes wait for the first, which may wait for another run's teacher


def is_main_process() -> bool:
    """Whether this process writes for all."""
    return jax.process_index() == 0


def wait_for_all(seconds: float = PATIENCE) -> None:
    """Returns when every process has come here.

    Raises:
        jax.errors.JaxRuntimeError: if that takes longer.
    """
    if jax.process_count() > 1:
        from orbax.checkpoint import multihost

        # Through the coordinator, since collectives have time limits of their own.
        multihost.get_barrier_sync_fn()(key="sealkd_jax", timeout_ms=int(1000 * seconds))


def largest(value: int) -> int:
    """The largest of all processes' int32 values, for all of them."""
    if jax.process_count() == 1:
        return value
    from jax.experimental.multihost_utils import process_allgather

    return int(process_allgather(np.int32(value)).max())


@contextmanager
def locked_by_main_process(directory: Path, *, wait: bool) -> Iterator[None]:
    """`files.locked` by the first process for all: they go in together and come out together.

    What the first has written is there for the others once they are out.

    Raises:
        InputError: as `files.locked`, in the first process; in another, if it does not find the directory.
    """
    with locked(directory, wait=wait) if is_main_process() else nullcontext():
        wait_for_all()
        if not directory.is_dir():
            raise InputError(
                f"{directory}: made by the first process, and not there for process {jax.process_index()}; "
                "start all of them in one directory of a disk that they share"
            )
        yield
        wait_for_all()
