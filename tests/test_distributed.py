"""Several processes of one run, over loopback: they give what one gives, and the loss of one ends the others."""

import json
import signal
import socket

import numpy as np
import pytest
from safetensors.numpy import load_file

from sealkd_jax.errors import InputError
from sealkd_jax.programs import cluster
from sealkd_jax.programs.options import ProcessOptions
from tests.helpers.processes import MET, SMALL, end, start, write_digits

MEMORY = [*SMALL, "--out", "memory"]
STREAM = [*SMALL, "--out", "stream", "--stream"]
PMAP = [*SMALL, "--out", "pmap", "--parallel", "pmap"]
LOST = 60  # seconds within which the others end: half a minute, and as much for a busy machine


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
    """The run ends with the digest of an undisturbed run: the same command gives the same result."""
    write_digits(place / "killed")
    first, killed = started = start(place / "killed", 2, MEMORY, DIES="1")
    killed.wait(300)
    assert first.wait(LOST) != 0
    assert end(started)[1][0] == -signal.SIGKILL
    out = place / "killed" / "memory"
    assert (out / "checkpoints" / "1").is_dir() and not (out / "summary.json").exists()
    run(place / "killed", 2, [*MEMORY, "--resume"], [*SMALL, "--out", "unhurt"])
    records = (out / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in records] == [1, 2]
    assert digest(out) == digest(place / "killed" / "unhurt")


@pytest.mark.slow
def test_the_loss_of_the_first_process_ends_the_others(place):
    """JAX's coordinator is lost with it."""
    first, other = processes = start(place, 2, ["meet"])
    for process in processes:
        assert any(line == f"{MET}\n" for line in process.stdout)
    first.kill()
    assert other.wait(LOST) != 0
    end(processes)


@pytest.mark.slow
def test_processes_with_different_options_are_refused(place):
    for number, (status, said) in enumerate(end(start(place, 2, ["meet", "--seed", "{number}"]))):
        assert status == 2 and said.startswith(f"error: process {number} of 2: the processes have different options")
        assert "\n" not in said


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "{}:{}".format(*taken.getsockname())
        with pytest.raises(InputError, match=f"--coordinator {address}: cannot listen there .*; try another port"):
            cluster.join(ProcessOptions(coordinator=address, num_processes=2, process_id=0))
