"""Several processes of one run: how they find one another, and how the end of one ends the others.

Each runs the same program with the same options. SLURM and Cloud TPU say how many there are and where; elsewhere
`--coordinator`, `--num-processes` and `--process-id` do. A process that ends before its work is done ends the others,
which wait for it: with one line each, and exit status 3.
"""

import os
import re
import socket
import sys
import zlib
from contextlib import suppress
from dataclasses import replace
from threading import Lock, Timer
from typing import NamedTuple

import jax

from sealkd_jax.errors import InputError
from sealkd_jax.parallel.processes import max_across_processes, wait_for_all
from sealkd_jax.programs.options import ProcessOptions
from sealkd_jax.programs.relay import relay

MEET = 300  # seconds within which all processes must have come
GRACE = 5  # seconds that one which fails waits for the others, which may be failing of the same
CRASHED = 1  # of an error nobody foresaw, such as computing together with a process that has ended
FALLEN = 3
ANOTHER_ENDED = (
    "error: another process of this run has ended, see what it said; "
    "go on with the same commands, started anew (distill: and --resume)"
)

_joined = False
_done = False
_why = FALLEN, ANOTHER_ENDED  # this process ends when another does: the exit status, and what it says
_last_words = Lock()  # held by who ends the process, so that it ends with one line


class Place(NamedTuple):
    """Where the first process can be reached, how many there are, and which of them this is.

    `devices` are those of the machine that are this process's; None: all.
    """

    address: str
    processes: int
    number: int
    devices: list[int] | None = None


def join(options: ProcessOptions) -> None:
    """Connects this process with the others of its run, if there are any, before JAX computes anything.

    The next run in the same process keeps the connection.

    Raises:
        InputError: for options that do not say where and which, or are not those of the other processes.
    """
    global _joined
    place = _given(options) or (_detected() if options.num_processes is None else None)
    if place is None or place.processes == 1 or _joined:
        return
    late = f"not all of {place.processes} processes came within {MEET} s; start the others, or see what they said"
    timer = Timer(MEET, _end, (2, f"error: --coordinator {place.address}: {late}"))  # JAX would say so in C++
    timer.daemon = True
    timer.start()
    try:
        _connect(place)
    finally:
        timer.cancel()
    _joined = True
    same = replace(options, coordinator=None, num_processes=None, process_id=None, data_dir=None)
    digest = zlib.crc32(repr(same).encode()) // 2  # fits into an int32
    if max_across_processes(digest) != -max_across_processes(-digest):
        raise InputError(
            f"process {place.number} of {place.processes}: the processes have different options; start all with the "
            "same but --process-id and --data-dir, or give --num-processes 1 to each that is a run by itself"
        )


def leave(status: int, words: str) -> None:
    """Ends the program: after `words` on stderr and with `status`, where there are any.

    One of several waits until all are done. One that fails ends the others too; where they fail as well, each says why.
    """
    global _done, _why
    if not _joined:
        if words:
            print(words, file=sys.stderr)
        if status:
            sys.exit(status)
    elif status:
        if status != CRASHED:
            _why = status, words
        with suppress(jax.errors.JaxRuntimeError):
            wait_for_all(GRACE)
        _end(status, words)
    else:
        wait_for_all()
        _done = True
        jax.distributed.shutdown()


def joined() -> bool:
    """Whether this is one of several processes."""
    return _joined


def _given(options: ProcessOptions) -> Place | None:
    """What the options say, if anything."""
    given = (options.coordinator, options.num_processes, options.process_id)
    if given in ((None, None, None), (None, 1, None)):
        return None
    if None in given:
        raise InputError(
            f"--coordinator {given[0]}, --num-processes {given[1]}, --process-id {given[2]}: expected all three of "
            "them, or none under SLURM and on Cloud TPU"
        )
    address, processes, number = given
    if not (port := re.fullmatch(r".+:(\d{1,5})", address)) or int(port[1]) >= 2**16:
        raise InputError(f"--coordinator {address}: expected HOST:PORT of process 0, such as 10.0.0.1:1234")
    if number >= processes:
        raise InputError(f"--process-id {number}: expected 0 to {processes - 1}, one of --num-processes {processes}")
    return Place(address, processes, number)


def _detected() -> Place | None:
    """What JAX finds out, which is asked only where SLURM or a Cloud TPU may have started several: it takes time."""
    from jax._src.cloud_tpu_init import running_in_cloud_tpu_vm

    slurm = "SLURM_STEP_NODELIST" in os.environ and int(os.environ.get("SLURM_NTASKS", "1")) > 1
    hosts = os.environ.get("TPU_PROCESS_ADDRESSES") or os.environ.get("TPU_WORKER_HOSTNAMES")
    if not slurm and not (running_in_cloud_tpu_vm and (hosts is None or "," in hosts)):
        return None
    from jax._src.clusters import ClusterEnv

    place = Place(*ClusterEnv.auto_detect_unset_distributed_params(None, None, None, None, None, MEET))
    return None if place.address is None else place


def _connect(place: Place) -> None:
    """Joins JAX's distributed runtime, whose coordinator lives in process 0, through a relay in every process.

    Raises:
        InputError: if process 0 cannot listen at its address.
    """
    host, port = place.address.rsplit(":", 1)
    with socket.create_server(("127.0.0.1", 0)) as free:
        inner = free.getsockname()
    if place.number == 0:
        try:
            both = socket.has_dualstack_ipv6()
            family = socket.AF_INET6 if both else socket.AF_INET
            listener = socket.create_server(("", int(port)), family=family, dualstack_ipv6=both)
        except OSError as error:
            raise InputError(
                f"--coordinator {place.address}: cannot listen there ({error}); try another port"
            ) from error
        target = inner
    else:
        listener, target = socket.create_server(inner), (host.strip("[]"), int(port))
    relay(listener, target, _another_ended)
    address = "{}:{}".format(*inner)
    jax.config.update("jax_enable_preemption_service", False)  # it takes SIGTERM away from train.stopping
    jax.distributed.initialize(
        address,
        place.processes,
        place.number,
        place.devices,
        cluster_detection_method="deactivate",
        initialization_timeout=2 * MEET,
        coordinator_bind_address=address,
    )


def _another_ended() -> None:
    if not _done:
        _end(*_why)


def _end(status: int, words: str) -> None:
    """Ends the process at once, from whichever thread: the others would be waited for otherwise."""
    _last_words.acquire()
    print(words, file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(status)
