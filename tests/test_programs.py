"""The programs as functions and as sub-commands of `sealkd`: how they are found, started and refused."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sealkd_jax import programs
from sealkd_jax.errors import InputError
from sealkd_jax.programs import cli, environment
from tests.helpers.programs import refusal

ROOT = Path(__file__).parents[1]
COMMANDS = {path.stem for path in (ROOT / "sealkd_jax/programs/commands").glob("[a-z]*.py")}


def python(*words, **variables):
    """Runs Python in a process of its own."""
    settings = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"} | variables
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, env=settings)


def test_functions_are_loaded_when_they_are_asked_for():
    heavy = "{'flax', 'optax', 'orbax', 'rich', 'matplotlib', 'tensorflow_datasets'} & sys.modules.keys()"
    code = f"import sys; from sealkd_jax import programs; assert not {heavy}; programs.distill; assert {heavy}"
    assert python("-c", code).returncode == 0
    assert all(getattr(programs, name).__doc__ for name in programs.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'distil'"):
        _ = programs.distil


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: programs.distill("digit"), "preset 'digit': unknown; expected one of digits, "),
        (lambda: programs.distill(lr=0.1), "lr: unknown option; did you mean learning_rate?"),
        (lambda: programs.distill(batch_siz=3), "batch_siz: unknown option; did you mean batch_size?"),
        (lambda: programs.distill(batch_size=-1), "batch_size -1: expected at least 0"),
        (lambda: programs.distill(epochs="three"), "epochs three: expected a whole number"),
        (lambda: programs.distill(hyper={"gamma": 1}), "hyper gamma=1: expected NAME=VALUE; seal has alpha=0.6"),
        (lambda: programs.distill(out=str(ROOT)), f"out {ROOT}: not empty; add resume to continue it"),
        (lambda: programs.distill(out=ROOT, resume=True), f"out {ROOT}: not empty, and no run to resume"),
        (lambda: programs.teacher(evaluate=True), "evaluate: expected import FILE beside it"),
        (lambda: programs.precompute(teacher_logits="x.npz"), "teacher_logits x.npz: these are logits already"),
        (lambda: programs.compare(methods="none,seel"), "methods seel: unknown; expected some of none,"),
        (lambda: programs.compare(sweep={"zeta": [1, 2]}), "sweep zeta=1,2: expected NAME=VALUE,VALUE"),
        (lambda: programs.evaluate("nowhere"), "nowhere: no run there (no summary.json)"),
        (lambda: programs.export("nowhere", "nir"), "nowhere: no finished run there (no summary.json)"),
        (lambda: programs.export("nowhere", to="exe"), "to exe: expected one of nir, "),
        (lambda: programs.prepare("digits"), "digits: nothing to prepare; expected one of cifar10"),
        (
            lambda: programs.prepare("nmnist", manual_dir="x"),
            "manual_dir x: for images; put the archives of nmnist into",
        ),
    ],
)
def test_a_function_names_the_wrong_keyword(tmp_path, monkeypatch, call, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as raised:
        call()
    assert words in str(raised.value) and "--" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_command_in_a_message_keeps_its_flags(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=f"continue it with sealkd distill --resume --out {tmp_path}"):
        programs.evaluate(tmp_path)


def test_the_overview_has_a_line_for_each_program(capsys):
    cli.main([])
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")}
    assert lines.keys() == COMMANDS and lines["distill"].endswith("Distil a spiking student from an ANN teacher.")
    cli.main(["--version"])
    assert capsys.readouterr().out.startswith("sealkd-jax 0.")
    said = refusal(["distil"], capsys, main=cli.main)
    assert said.startswith("error: program 'distil': unknown;") and said.endswith("did you mean distill?")


@pytest.mark.slow
def test_usage_names_the_command_that_was_typed(capsys):
    assert "usage: python -m train.PROGRAM" in python("-m", "train").stdout
    assert python("-m", "train.evaluate", "--help").stdout.startswith("usage: python -m train.evaluate RUN")
    with pytest.raises(SystemExit):
        cli.main(["evaluate", "--help"])
    assert capsys.readouterr().out.startswith("usage: sealkd evaluate RUN")


def test_without_the_extra_a_line_of_each_program_says_what_to_install():
    code = (
        "import sys; sys.modules['flax'] = None; from sealkd_jax.programs.cli import start\n"
        f"for program in {sorted(COMMANDS)}:\n"
        "    try:\n        start(program, [])\n"
        "    except SystemExit as exit:\n        assert exit.code == 2, program\n"
        "    else:\n        raise AssertionError(program)\n"
    )
    done = python("-c", code)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == 'error: flax is not installed: pip install "sealkd-jax[train]"\n' * len(COMMANDS)


def test_a_platform_that_is_not_there_is_one_line():
    code = "import sealkd_jax.programs.cli as cli; cli.start('distill', ['--log', 'quiet', '--method', 'none'])"
    done = python("-c", f"import os; os.environ['JAX_PLATFORMS'] = 'nonsense'; {code}")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: JAX_PLATFORMS=nonsense: JAX finds no such device")


@pytest.mark.parametrize("array", [jnp.zeros, np.zeros], ids=["device", "host"])
def test_too_little_memory_is_one_line_with_the_remedy(capsys, array):
    with pytest.raises(SystemExit) as exit:
        cli.run(lambda: array(2**50, "float32"))  # a petabyte
    said = capsys.readouterr().err
    assert exit.value.code == 2 and said.startswith("error: ") and said.count("\n") == 1
    assert said.endswith("; --accumulate, --remat or a smaller batch need less\n")


@pytest.mark.parametrize("found", ["device", "command", "nothing", "platform chosen"])
def test_an_unused_gpu_is_named_with_the_remedy(tmp_path, monkeypatch, capsys, found):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(environment, "NVIDIA", tmp_path / "nvidia0")
    before = jax.config.jax_platforms
    jax.config.update("jax_platforms", "cpu" if found == "platform chosen" else None)
    try:
        if found in ("device", "platform chosen"):
            (tmp_path / "nvidia0").touch()
        if found == "command":
            (tmp_path / "nvidia-smi").touch(mode=0o755)
        environment.warn_of_unused_gpu()
    finally:
        jax.config.update("jax_platforms", before)
    said = capsys.readouterr().err
    if found in ("device", "command"):
        assert said.startswith("warning: JAX runs on the CPU although there is an NVIDIA GPU")
        assert 'pip install "sealkd-jax[cuda]"' in said and "JAX_PLATFORMS=cpu" in said and said.count("\n") == 1
    else:
        assert said == ""


def test_the_command_is_written_down_as_it_was_typed():
    facts = "from sealkd_jax.programs.environment import environment; print(environment()['command'])"
    typed = [sys.executable, "-c", facts, "--out", "a b"]
    said = subprocess.run(typed, capture_output=True, text=True, check=True, cwd=ROOT)
    assert shlex.split(said.stdout) == ["python", *typed[1:]]
