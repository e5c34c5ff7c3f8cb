"""Kills whole runs at random moments, and sees that they end as one that was left alone.

    python -m tests.helpers.kill_runs [TIMES] [SEED]

A run starts, trains a small teacher, precomputes its logits, trains a student and writes the report. It is killed by
`kill -9` at a random moment of the first of these stages, begun again with --resume, killed at one of the second, and
so on; then the next run begins from nothing, until there were so many kills. Each must end with the weights and the
digest of a run that nobody killed. Compiled programs are kept, so that what is killed is seldom the compiler.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).parents[2]
OPTIONS = ["--student", "spiking-mlp", "--epochs", "6", "--views", "6", "--timesteps", "2", "--devices", "1"]
OPTIONS += ["--teacher-width", "0.25"]
READY = "ready"
STAGES = {  # what shows that one has begun
    "start": "said",
    "teacher": "runs/teachers/*/checkpoints",
    "logits": "runs/teachers/*/weights.safetensors",
    "student": "runs/digits-*/checkpoints",
    "report": "runs/digits-*/weights.safetensors",
}


def main() -> None:
    """Prints how many runs were killed and where, and that all ended alike."""
    times, seed = (int(given or default) for given, default in zip([*sys.argv[1:], "", ""], ("50", "0"), strict=False))
    with tempfile.TemporaryDirectory() as directory:
        stages, runs = kill_runs(Path(directory), times, seed)
    print(f"{len(stages)} kills of {runs} runs, seed {seed}: every run ended with the digest of the one left alone.")
    print("Stage of the run at the kill:", ", ".join(f"{stages.count(stage)} {stage}" for stage in STAGES))


def kill_runs(directory: Path, times: int, seed: int) -> tuple[list[str], int]:
    """Kills runs in `directory` so many times: where each kill came, and how many runs that took.

    Raises:
        AssertionError: if a run failed, or ended otherwise than the one that was left alone.
    """
    rng, stages, runs = random.Random(seed), [], 0
    process, began = _start(directory / "alone"), {}
    while process.poll() is None:
        began.setdefault(_stage(directory / "alone"), time.perf_counter())
        time.sleep(0.01)
    expected = _result(process, directory / "alone")
    ends = [*list(began.values())[1:], time.perf_counter()]
    lasts = {stage: end - start for (stage, start), end in zip(began.items(), ends, strict=True)}
    while len(stages) < times:
        place, runs = directory / f"killed-{runs}", runs + 1
        for stage in STAGES:  # at a random moment of each in turn, of so many as are wanted
            process = _start(place)
            if len(stages) < times and _wait_for(stage, process, place, rng.uniform(0, lasts.get(stage, 0))):
                process.kill()
                process.communicate()
                stages.append(_stage(place))
            else:
                break
        else:
            process = _start(place)
        assert _result(process, place) == expected
        shutil.rmtree(place)
    return stages, runs


def _wait_for(stage: str, process: subprocess.Popen, place: Path, seconds: float) -> bool:
    """Waits until so long after the stage has begun; whether the run is still going then."""
    order = list(STAGES)
    while process.poll() is None and order.index(_stage(place)) < order.index(stage):
        time.sleep(0.01)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def _start(place: Path) -> subprocess.Popen:
    """A run in that current directory, which has loaded its libraries and begins to work."""
    place.mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_COMPILATION_CACHE_DIR": str(place.parent / "compiled")}
    environment |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "tests.helpers.kill_runs", "--child"]
    with (place / "said").open("w") as said:
        process = subprocess.Popen(command, cwd=place, env=environment, stdout=subprocess.PIPE, stderr=said, text=True)
    assert process.stdout.readline().strip() == READY, (place / "said").read_text()
    return process


def _result(process: subprocess.Popen, place: Path) -> tuple[str, bytes]:
    """Waits for the end of a run: its digest and its weights."""
    process.communicate()
    assert process.returncode == 0, (place / "said").read_text()
    out = place / "runs" / "digits-seal-s0"
    assert (out / "report.html").exists()
    return json.loads((out / "summary.json").read_text())["params_digest"], (out / "weights.safetensors").read_bytes()


def _stage(place: Path) -> str:
    """The last stage that has begun."""
    return [stage for stage, shows in STAGES.items() if any(place.glob(shows))][-1]


def _child() -> None:
    from sealkd_jax.programs import cli, presets
    from sealkd_jax.programs.commands import distill

    preset = presets.PRESETS["digits"]
    teacher = replace(preset.teacher, epochs=4, warmup_epochs=0)
    presets.PRESETS["digits"] = preset._replace(teacher=teacher)
    print(READY, flush=True)
    sys.stdout = sys.stderr
    cli.run(lambda: distill.main([*OPTIONS, "--resume"]))


if __name__ == "__main__":
    _child() if sys.argv[1:] == ["--child"] else main()
