"""Programs run in the test's own process, and what they leave and say."""

import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sealkd_jax.programs import cli
from sealkd_jax.programs.commands import distill


def read(path):
    return json.loads(path.read_text())


def contents(directory):
    """Every file's bytes, so that a change of any can be seen."""
    return {path: path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


def refusal(arguments, capsys, chatty=False, main=distill.main) -> str:
    """What a program says on stderr when it refuses: one line, exit status 2, no traceback, nothing on stdout.

    `chatty`: but for what it said of its progress and of the user's logits before.
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
    """name -> [(step, value)] of everything that TensorBoard finds there."""
    found = EventAccumulator(str(directory), purge_orphaned_data=False).Reload()
    return {name: [(x.step, x.value) for x in found.Scalars(name)] for name in found.Tags()["scalars"]}
