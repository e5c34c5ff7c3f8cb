"""Several processes of one run, over loopback: they give what one gives, and the end of one ends the others."""

import json
import signal
import socket
import subprocess
import sys
import time
from threading import Event

import numpy as np
import pytest
from safetensors.numpy import load_file

from sealkd_jax.errors import InputError
from sealkd_jax.programs import cluster
from sealkd_jax.programs.options import ProcessOptions
from sealkd_jax.programs.relay import relay
from tests.helpers.processes import MET, SMALL, end, start, write_digits

MEMORY = [*SMALL, "--out", "memory"]
STREAM = [*SMALL, "--out", "stream", "--stream"]
PMAP = [*SMALL, "--out", "pmap", "--parallel", "pmap"]
ANOTHER_ENDED = "error: another process of this run has ended, see what it said; go on with the same commands"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where each test has a directory of its own; compiled programs are shared."""
    return tmp_path_factory.mktemp("distributed")


def run(place, processes, *runs, **how):
    """Runs of `tests.helpers.processes` in `place`, all processes of which end well."""
    if not place.exists():
        write_digits(place)
    ends = end(start(place, processes, *runs, **how))
    assert [status for status, _ in ends] == [0] * processes, ends


@pytest.fixture(scope="module")
def alone(place):
    run(place / "alone", 1, MEMORY)
    return place / "alone"


def digest(out):
    return json.loads((out / "summary.json").read_text())["params_digest"]


def same(here, there):
    """Whether two files of arrays, float64 but for logits, hold the same."""
    here, there = load_file(here), load_file(there)
    assert here.keys() == there.keys()
    for name, array in here.items():
        np.testing.assert_allclose(array, there[name], rtol=0, atol=1e-10, err_msg=name)


def check_as_alone(alone, place, outs):
    for made in ("weights.safetensors", "logits-*.safetensors"):
        same(*(next(where.glob(f"runs/teachers/*/{made}")) for where in (alone, place)))
    for out in outs:
        same(alone / "memory" / "weights.safetensors", place / out / "weights.safetensors")
        for name in ("report.html", "metrics.jsonl", "predictions.npz", "config.json"):
            assert (place / out / name).exists()


@pytest.mark.slow
def test_two_processes_give_what_one_gives(alone, place):
    run(place / "two", 2, MEMORY, STREAM, PMAP, JAX_NUM_CPU_DEVICES="2")
    check_as_alone(alone, place / "two", ("memory", "stream", "pmap"))


@pytest.mark.slow
def test_four_processes_of_slurm_give_what_one_gives(alone, place):
    run(place / "four", 4, MEMORY, STREAM, slurm=True)
    check_as_alone(alone, place / "four", ("memory", "stream"))


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_others_and_the_run_goes_on(place):
    """To the digest of a run that nobody kills: the same command gives the same."""
    write_digits(place / "killed")
    first, killed = started = start(place / "killed", 2, MEMORY, DIES="1")
    killed.wait(300)
    died = time.monotonic()
    first.wait(60)
    assert time.monotonic() - died < 60
    (status, said), (killed_by, _) = end(started)
    assert (status, killed_by) == (3, -signal.SIGKILL)
    assert said.startswith(ANOTHER_ENDED) and "\n" not in said
    out = place / "killed" / "memory"
    assert (out / "checkpoints" / "1").is_dir() and not (out / "summary.json").exists()
    run(place / "killed", 2, [*MEMORY, "--resume"], [*SMALL, "--out", "unhurt"])
    records = (out / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in records] == [1, 2]
    assert digest(out) == digest(place / "killed" / "unhurt")


@pytest.mark.slow
def test_the_end_of_the_first_process_ends_the_others(place):
    """Although JAX's coordinator lives in it, with whose loss JAX aborts."""
    first, other = processes = start(place, 2, ["meet"])
    for process in processes:
        assert any(line == f"{MET}\n" for line in process.stdout)
    first.kill()
    other.wait(60)
    (_, _), (status, said) = end(processes)
    assert status == 3 and said.startswith(ANOTHER_ENDED) and "\n" not in said


def test_processes_with_different_options_are_refused(place):
    for number, (status, said) in enumerate(end(start(place, 2, ["meet", "--seed", "{number}"]))):
        assert status == 2 and said.startswith(f"error: process {number} of 2: the processes have different options")
        assert "\n" not in said


@pytest.mark.slow
def test_what_a_process_says_is_not_lost_to_the_end_of_another():
    """Which ends while this one, that fails too, waits for it."""
    program = "\n".join(
        [
            "from train import cluster",
            "def another_ends(seconds):",
            "    cluster._another_ended()",
            "cluster._joined, cluster.wait_for_all = True, another_ends",
            "cluster.leave({status}, 'its own words')",
        ]
    )
    for status, expected in ((2, (2, "its own words")), (1, (3, cluster.ANOTHER_ENDED))):
        ended = subprocess.run([sys.executable, "-c", program.format(status=status)], capture_output=True, text=True)
        assert (ended.returncode, ended.stderr.strip()) == expected


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "{}:{}".format(*taken.getsockname())
        with pytest.raises(InputError, match=f"--coordinator {address}: cannot listen there .*; try another port"):
            cluster.join(ProcessOptions(coordinator=address, num_processes=2, process_id=0))


def test_a_relay_tells_of_a_broken_connection_and_leaves_the_other_side_open():
    ended = Event()
    with socket.create_server(("127.0.0.1", 0)) as service, socket.create_server(("127.0.0.1", 0)) as listener:
        relay(listener, service.getsockname(), ended.set)
        with socket.create_connection(listener.getsockname()) as near, service.accept()[0] as far:
            near.sendall(b"there")
            assert far.recv(9) == b"there"
            far.sendall(b"back")
            assert near.recv(9) == b"back" and not ended.is_set()
            far.close()
            assert ended.wait(9)
            near.settimeout(0.2)
            with pytest.raises(TimeoutError):
                near.recv(9)
