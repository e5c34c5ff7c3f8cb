"""A disk that is full, and one that is read-only: a small tmpfs, mounted where only a process of our own sees it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
CHILD = """
import contextlib, io, json, subprocess, sys
from pathlib import Path
import jax.numpy as jnp
import numpy as np
from sealkd_jax.data import load
from sealkd_jax.files import locked
from sealkd_jax.programs import cli
from sealkd_jax.programs.runs import check_out
from sealkd_jax.training.checkpoints import Checkpoints
from sealkd_jax.training.teacher_logits import write_teacher_logits

place, said = Path(sys.argv[1]), {}
records = [{"epoch": 1, "val_accuracy": 0.5}, {"epoch": 2, "val_accuracy": 0.6}]
small = {"x": jnp.arange(1000.0)}
noise = np.random.default_rng(0).normal(size=(1, 1000, 1000)).astype(np.float32)  # 4 MB, the disk has 2
pixels, labels = np.arange(640).reshape(2, 20, 4, 4).astype(np.uint8), np.arange(20) % 2


def program_says(name, main):
    with contextlib.redirect_stderr(io.StringIO()) as stderr:
        try:
            cli.run(main)
            status = 0
        except SystemExit as exit:
            status = exit.code
    said[name] = status, stderr.getvalue().splitlines()


def save(state, records):
    with Checkpoints(place / "c") as checkpoints:
        checkpoints.save(state, records)


np.savez(place / "mine.npz", x_train=pixels[0], y_train=labels, x_test=pixels[1], y_test=labels)
save(small, records[:1])
program_says("checkpoint", lambda: save({"x": jnp.asarray(noise)}, records))
said["checkpoints"] = sorted(path.name for path in (place / "c").iterdir())
with Checkpoints(place / "c") as checkpoints:
    state, found = checkpoints.restore_newest(small, lambda line: said.update(damaged=line))
    said["kept"] = found == records[:1] and bool((state["x"] == small["x"]).all())
program_says("logits", lambda: write_teacher_logits(place / "logits.safetensors", noise.__getitem__, 1, {}))
said["left"] = sorted(path.name for path in [*place.iterdir(), *(place / "c").iterdir()])
subprocess.run(["mount", "-o", "remount,ro", place], check=True)
program_says("out", lambda: check_out(place / "run", resume=False))
program_says("lock", lambda: locked(place / "run", wait=False).__enter__())
program_says("read", lambda: load(f"npz:{place}/mine.npz"))
print(json.dumps(said))
"""


def in_small_disk(place, *command):
    """Runs it where `place` is a disk of 2 MB."""
    mount = 'mount -t tmpfs -o size=2m tmpfs "$0" && exec "$@"'
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, str(place), *command]
    return subprocess.run(unshare, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    place = tmp_path_factory.mktemp("disk")
    try:
        allowed = in_small_disk(place, "true").returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("a tmpfs cannot be mounted here (unshare --user --mount)")
    process = in_small_disk(place, sys.executable, "-c", CHILD, str(place))
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1]) | {"place": place, "stderr": process.stderr}


def test_a_checkpoint_that_does_not_fit_is_an_error_and_the_one_before_is_intact(said):
    status, (line,) = said["checkpoint"]
    assert status == 2 and line.startswith(f"error: {said['place']}/c: a checkpoint cannot be written (")
    assert "earlier ones are kept: free some space and resume" in line
    assert said["kept"] and "damaged" not in said
    assert said["checkpoints"] == ["1"]  # nothing half written takes up space
    assert "Traceback" not in said["stderr"]  # nor from the thread that wrote


def test_logits_that_do_not_fit_are_an_error_and_leave_nothing(said):
    assert said["logits"] == [2, [f"error: {said['place']}/logits.safetensors: No space left on device"]]
    assert said["left"] == ["1", "c", "mine.npz"]


def test_a_read_only_disk_can_be_read_from_and_not_written_to(said):
    place = said["place"]
    assert said["out"][0] == 2 and said["out"][1][0].startswith(f"error: --out {place}/run: cannot be made; {place} is")
    assert said["lock"] == [2, [f"error: {place}/run: cannot be written to: Read-only file system"]]
    assert said["read"] == [0, []]
