"""Kills whole runs at random moments and resumes them: they end like a run that was not killed.

    python -m tests.helpers.kill_runs [TIMES] [SEED]

The stages of a run: start, train a small teacher, precompute its logits, train a student, write the report. `kill -9`
comes at a random moment of the first stage; the run is resumed and killed in the second stage, and so on. Then the next
run begins, until there were TIMES kills. Each run must end with the weights and the digest of one that was not killed.
Compiled programs are cached, so that a kill seldom hits the compiler.
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
STAGES = {  # stage -> the file that shows that it has begun
    "start": "said",
    "teacher": "runs/teachers/*/checkpoints",
    "logits": "runs/teachers/*/weights.safetensors",
    "student": "runs/digits-*/checkpoints",
    "report": "runs/digits-*/weights.safetensors",
}


def main() -> None:
    """Prints how often runs were killed, and in which stages."""
    times, seed = (int(given or default) for given, default in zip([*sys.argv[1:], "", ""], ("50", "0"), strict=False))
    with tempfile.TemporaryDirectory() as directory:
        stages, runs = kill_runs(Path(directory), times, seed)
    print(f"{len(stages)} kills of {runs} runs, seed {seed}: each ended like one that was not killed.")
    print("Stage of the run at the kill:", ", ".join(f"{stages.count(stage)} {stage}" for stage in STAGES))


def kill_runs(directory: Path, times: int, seed: int) -> tuple[list[str], int]:
    """Kills runs in `directory`, `times` times in all; returns the stage of each kill, and the number of runs.

    Raises:
        AssertionError: if a run fails, or ends unlike one that is not killed.
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
        for stage in STAGES:  # a kill in each
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
    """Waits until `seconds` after the start of the stage; returns whether the run is still going then."""
    order = list(STAGES)
    while process.poll() is None and order.index(_stage(place)) < order.index(stage):
        time.sleep(0.01)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def _start(place: Path) -> subprocess.Popen:
    """Starts a run in that directory; returns when it has loaded its libraries."""
    place.mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_COMPILATION_CACHE_DIR": str(place.parent / "compiled")}
    environment |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "tests.helpers.kill_runs", "--child"]
    with (place / "said").open("w") as said:
        process = subprocess.Popen(command, cwd=place, env=environment, stdout=subprocess.PIPE, stderr=said, text=True)
    assert process.stdout.readline().strip() == READY, (place / "said").read_text()
    return process


def _result(process: subprocess.Popen, place: Path) -> tuple[str, bytes]:
    """Waits for the end of a run; returns its digest and its weights."""
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
