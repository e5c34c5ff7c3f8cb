"""Several processes of one run, joined by `jax.distributed`: how they find one another, and how a failure ends them.

Each process runs the same program with the same options. SLURM and Cloud TPU say how many there are and where;
elsewhere `--coordinator`, `--num-processes` and `--process-id` do. If a process is lost, JAX ends the others.
"""

import os
import re
import socket
import sys
import time
import zlib
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

import jax

from sealkd_jax.errors import InputError
from sealkd_jax.parallel.processes import is_main_process, max_across_processes, wait_for_all

if TYPE_CHECKING:
    from sealkd_jax.programs.options import PrecomputeOptions, ProcessOptions, TeacherProgramOptions

MEET = 300  # seconds within which all processes must have started
HEARTBEAT = 20  # seconds after which a silent process counts as lost
GRACE = 5  # seconds that a failing process leaves the others to report the same failure


def join(options: "PrecomputeOptions | TeacherProgramOptions") -> None:
    """Connect this process with the others of its run, if there are any, before JAX computes anything.

    A later run in the same process keeps the connection.

    Raises:
        InputError: if the options are incomplete or differ between the processes, or process 0 cannot listen at its
            address.
    """
    given = _given(options)
    if jax.distributed.is_initialized() or (given is None and (options.num_processes == 1 or not _may_be_several())):
        return
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM away from stopping.py
    if given is not None:
        _check_port(*given)
    address, processes, number = given or (None, None, None)
    try:
        jax.distributed.initialize(
            address,
            processes,
            number,
            cluster_detection_method="deactivate" if given else None,
            initialization_timeout=MEET,
            heartbeat_timeout_seconds=HEARTBEAT,
        )
    except ValueError:
        if given is None:
            return  # JAX detected no cluster
        raise
    _check_same(options)


def leave(status: int, message: str) -> None:
    """End the program, after a message on stderr, unless `status` is 0.

    JAX's own exit waits for the other processes, which a process that fails must not do: it would keep them waiting.
    """
    if message:
        print(message, file=sys.stderr, flush=True)
    if status and jax.distributed.is_initialized() and jax.process_count() > 1:
        with suppress(jax.errors.JaxRuntimeError):
            wait_for_all(GRACE)  # they may be failing too, and say why
        if is_main_process():
            time.sleep(1)  # JAX aborts the others when its coordinator, in this process, is gone
        sys.stdout.flush()
        os._exit(status)
    if status:
        sys.exit(status)


def _given(options: "ProcessOptions") -> tuple[str, int, int] | None:
    """Address, number of processes and which of them this is, if the options say so."""
    given = (options.coordinator, options.num_processes, options.process_id)
    if given in ((None, None, None), (None, 1, None)):
        return None
    address, processes, number = given
    if address is None or processes is None or number is None:
        raise InputError(
            f"--coordinator {address}, --num-processes {processes}, --process-id {number}: expected all three, or none "
            "under SLURM and on Cloud TPU"
        )
    if not (port := re.fullmatch(r".+:(\d{1,5})", address)) or int(port[1]) >= 2**16:
        raise InputError(f"--coordinator {address}: expected HOST:PORT of process 0, such as 10.0.0.1:1234")
    if number >= processes:
        raise InputError(f"--process-id {number}: expected 0 to {processes - 1}, one of --num-processes {processes}")
    return None if processes == 1 else (address, processes, number)


def _check_port(address: str, processes: int, number: int) -> None:
    """Refuse an address where process 0 cannot listen: JAX would crash (0.10)."""
    if number == 0:
        try:
            socket.create_server(("", int(address.rpartition(":")[2]))).close()
        except OSError as error:
            raise InputError(f"--coordinator {address}: cannot listen there ({error}); try another port") from error


def _may_be_several() -> bool:
    """Whether SLURM or a Cloud TPU may have started several processes; JAX's own detection takes time to find out."""
    slurm = "SLURM_STEP_NODELIST" in os.environ and int(os.environ.get("SLURM_NTASKS", "1")) > 1
    tpu = find_spec("libtpu") is not None and any(map(os.path.exists, ("/dev/accel0", "/dev/vfio/0")))
    hosts = os.environ.get("TPU_PROCESS_ADDRESSES") or os.environ.get("TPU_WORKER_HOSTNAMES")
    return slurm or (tpu and (hosts is None or "," in hosts))


def _check_same(options: "PrecomputeOptions | TeacherProgramOptions") -> None:
    """Refuse options that differ between the processes."""
    same = replace(options, coordinator=None, num_processes=None, process_id=None, data_dir=None)
    digest = zlib.crc32(repr(same).encode()) // 2  # fits into an int32
    if max_across_processes(digest) != -max_across_processes(-digest):
        raise InputError(
            f"process {jax.process_index()} of {jax.process_count()}: the processes have different options; start all "
            "with the same but --process-id and --data-dir, or give --num-processes 1 to each that is a run by itself"
        )
