"""Signals: the first ends a program where all is saved, the second at once, and the exit status says which it was."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sealkd_jax.programs import cli
from sealkd_jax.programs.stopping import INTERRUPTED, Stopped

ROOT = Path(__file__).parents[1]
CHILD = """
import gc, sys
from sealkd_jax.programs.stopping import Stopped, stopping, terminable
try:
    with terminable():
        {body}
except Stopped as stopped:
    sys.exit(128 + stopped.number)
print("ended by itself", flush=True)
"""
# Reading a line is the epoch: one call that Python does not come back from before it is over.
EPOCHS = """with stopping() as stop_if_asked:
            for _ in range(3):
                print("working", flush=True)
                sys.stdin.readline()
                print("saved", flush=True)
                stop_if_asked()"""
LAST = EPOCHS.replace("                stop_if_asked()", "").replace("range(3)", "range(1)")
ELSEWHERE = {
    "in one call": """print("working", flush=True); sys.stdin.readline()""",
    "in a callback whose exceptions Python ignores": """
        gc.callbacks.append(lambda *_: (print("working", flush=True), sys.stdin.readline()))
        gc.collect()""",
}
signals = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


def child(body):
    command = [sys.executable, "-c", CHILD.format(body=body)]
    pipes = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
    process = subprocess.Popen(command, cwd=ROOT, text=True, **pipes)
    assert process.stdout.readline() == "working\n"
    return process


@signals
@pytest.mark.parametrize("body", [EPOCHS, LAST], ids=["between epochs", "after the last"])
def test_the_first_signal_lets_what_is_under_way_be_saved(number, body):
    with child(body) as process:
        process.send_signal(number)
        assert (
            process.stderr.readline() == "stopping once the work in progress is saved; a second signal stops at once\n"
        )
        out, err = process.communicate("\n")
    assert (process.returncode, out, err) == (128 + number, "saved\n", "")


@signals
def test_the_second_signal_ends_it_at_once(number):
    with child(EPOCHS) as process:
        process.send_signal(signal.SIGTERM)
        process.stderr.readline()
        process.send_signal(number)
        assert process.wait(60) == 128 + number  # although the epoch, reading from us, never ends
        assert process.stdout.read() == ""


@signals
@pytest.mark.parametrize("body", ELSEWHERE.values(), ids=ELSEWHERE)
def test_where_nothing_can_be_saved_the_first_ends_it(number, body):
    with child(body) as process:
        process.send_signal(number)
        assert process.wait(60) == 128 + number
        assert (process.stdout.read(), process.stderr.read()) == ("", f"{INTERRUPTED}\n")


@signals
def test_a_signal_ends_a_program_that_is_still_importing(tmp_path, number):
    """With a stand-in for a package that the programs need says so, and waits."""
    (tmp_path / "flax.py").write_text("import sys; print('jax' in sys.modules, flush=True); sys.stdin.readline()")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from sealkd_jax.programs import cli; "
    code += "print('jax' in sys.modules, flush=True); cli.start('distill', [])"
    pipes = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, text=True, **pipes) as process:
        assert [process.stdout.readline() for _ in range(2)] == ["False\n", "True\n"]
        process.send_signal(number)
        assert process.wait(60) == 128 + number
        assert process.stderr.read() == f"{INTERRUPTED}\n"


@pytest.mark.parametrize(("stop", "status"), [(Stopped(signal.SIGTERM), 143), (Stopped(signal.SIGINT), 130)])
def test_programs_say_that_what_is_finished_is_kept(capsys, stop, status):
    def main():
        raise stop

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as exit:
        cli.run(main)
    assert exit.value.code == status and signal.getsignal(signal.SIGTERM) == before
    assert capsys.readouterr().err == f"{INTERRUPTED}\n"
