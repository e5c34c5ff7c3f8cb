"""Programs run in the process of the test: their refusals, and the files that they write."""

import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sealkd_jax.programs import cli
from sealkd_jax.programs.commands import distill


def read(path):
    return json.loads(path.read_text())


def contents(directory):
    """path -> bytes of every file, to see that nothing changed."""
    return {path: path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


def refusal(arguments, capsys, chatty=False, main=distill.main) -> str:
    """Runs a program that refuses, and returns its error: one line on stderr, exit status 2, nothing on stdout.

    With `chatty`, progress may stand before the error.
    """
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit:
        cli.run(lambda: main(arguments))
    assert exit.value.code == 2
    words = capsys.readouterr()
    *before, line = words.err.splitlines()
    assert chatty or (words.out == "" and not before)
    return line


def scalars(directory):
    """name -> [(step, value)] of all scalars that TensorBoard finds in the directory."""
    found = EventAccumulator(str(directory), purge_orphaned_data=False).Reload()
    return {name: [(x.step, x.value) for x in found.Scalars(name)] for name in found.Tags()["scalars"]}
