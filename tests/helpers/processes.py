"""Runs a program as several processes on this machine, joined over one of its ports.

    python -m tests.helpers.processes [meet] OPTIONS [and OPTIONS …]

is `sealkd distill` with a teacher that is trained for one epoch; `and` starts the next run. The process $DIES kills
itself after the second epoch of a student, once the checkpoint of the first is written. `meet` only joins the others.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
SMALL = ["--dataset", "npz:few.npz", "--student", "spiking-mlp", "--width", "0.25", "--teacher-width", "0.25"]
MET = "met"
SMALL += ["--batch-size", "32", "--epochs", "2", "--views", "2", "--timesteps", "2", "--precision", "float64"]
SMALL += ["--log", "quiet"]


def write_digits(place: Path) -> None:
    """Writes the data set of these runs. Neither batches nor processes divide its splits."""
    from sealkd_jax.data import load

    images, labels = load("digits").train
    arrays, first = {}, 0
    for split, size in (("train", 101), ("val", 51), ("test", 43)):
        arrays |= {f"x_{split}": images[first:][:size], f"y_{split}": labels[first:][:size]}
        first += size
    place.mkdir(parents=True, exist_ok=True)
    np.savez(place / "few.npz", **arrays)


def start(
    place: Path, processes: int, *runs: Sequence[str], slurm: bool = False, **environment: str
) -> list[subprocess.Popen]:
    """Starts `python -m tests.helpers.processes RUN [and RUN …]` as that many processes, by hand or as SLURM does.

    `{number}` in an option stands for the number of the process.
    """
    port = _free_port()
    shared = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", **environment}
    shared |= {"JAX_COMPILATION_CACHE_DIR": str(place.parent / "compiled")}
    shared |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    if slurm:
        shared |= {"SLURM_JOB_ID": "1", "SLURM_STEP_NODELIST": "127.0.0.1", "SLURM_NTASKS": str(processes)}
        shared |= {"JAX_COORDINATOR_PORT": str(port)}
    started = []
    for number in range(processes):
        where = ["--coordinator", f"127.0.0.1:{port}", "--num-processes", f"{processes}", "--process-id", f"{number}"]
        words = [word for run in runs for word in ("and", *run, *([] if slurm or processes == 1 else where))]
        own = shared | {"SLURM_PROCID": str(number), "SLURM_LOCALID": str(number)}
        command = [sys.executable, "-m", "tests.helpers.processes", *(word.format(number=number) for word in words[1:])]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, cwd=place, env=own, **pipes))
    return started


def end(processes: Sequence[subprocess.Popen]) -> list[tuple[int, str]]:
    """Waits for all, and gives the exit status and the stderr of each."""
    said = [process.communicate(timeout=300)[1].strip() for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _meet(words: list[str]) -> None:
    from sealkd_jax.programs import cli, cluster, command_line, options

    def meet() -> None:
        cluster.join(command_line.parse(options.DistillProgramOptions, "", words, "distill")[1])
        print(MET, flush=True)
        sys.stdin.read()

    cli.run(meet)


def _distill(words: list[str]) -> None:
    from sealkd_jax.programs import cli, presets
    from sealkd_jax.programs.commands import distill
    from sealkd_jax.training import feed

    feed.CHUNK_BYTES = 2 * 32 * 64  # two batches
    preset = presets.PRESETS["digits"]
    teacher = replace(preset.teacher, epochs=1, warmup_epochs=0, precision="float64", batch_size=32)
    presets.PRESETS["digits"] = preset._replace(teacher=teacher)
    train = distill.train

    def train_and_die(*args, on_epoch, **kwargs):
        def die(record):
            on_epoch(record)
            if record["epoch"] == 2:
                os.kill(os.getpid(), signal.SIGKILL)

        return train(*args, on_epoch=die, **kwargs)

    if os.environ.get("DIES") == os.environ["SLURM_PROCID"]:
        distill.train = train_and_die
    runs: list[list[str]] = [[]]
    for word in words:
        if word == "and":
            runs.append([])
        else:
            runs[-1].append(word)
    cli.run(lambda: [distill.main(run) for run in runs])


if __name__ == "__main__":
    _meet(sys.argv[2:]) if sys.argv[1] == "meet" else _distill(sys.argv[1:])
