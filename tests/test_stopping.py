"""Signals: the first ends a program where all is saved, the second at once, and the exit status says which it was."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sealkd_jax.programs import cli
from sealkd_jax.programs.stopping import Stopped

ROOT = Path(__file__).parents[1]
CHILD = """
import signal, sys
from sealkd_jax.programs.stopping import Stopped, stopping, terminable
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests may have it ignored
try:
    with terminable():
        {body}
except (Stopped, KeyboardInterrupt) as stopped:
    sys.exit(128 + getattr(stopped, "number", 2))
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
BETWEEN = """print("working", flush=True); sys.stdin.readline()"""
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
def test_where_nothing_can_be_saved_the_first_ends_it(number):
    with child(BETWEEN) as process:
        process.send_signal(number)
        assert process.wait(60) == 128 + number
        assert process.stdout.read() == ""


@pytest.mark.parametrize(
    ("stop", "status"), [(Stopped(signal.SIGTERM), 143), (Stopped(signal.SIGINT), 130), (KeyboardInterrupt(), 130)]
)
def test_programs_say_that_what_is_finished_is_kept(capsys, stop, status):
    def main():
        raise stop

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as exit:
        cli.run(main)
    assert exit.value.code == status and signal.getsignal(signal.SIGTERM) == before
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("interrupted; finished work is kept")
