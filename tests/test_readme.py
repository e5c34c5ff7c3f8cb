"""The code and the commands that the README and the docs print: the code is run, the commands are understood."""

import re
import shlex
from importlib import import_module
from itertools import takewhile
from pathlib import Path

import pytest

from sealkd_jax.programs import command_line
from train.benchmark.__main__ import main as benchmark

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("number", range(3), ids=["linen", "nnx", "equinox"])
def test_the_readmes_training_step_lowers_the_loss(number, promoting):  # optax's Adam needs it
    code = blocks("README.md", "python")[number]
    names = {}
    exec(compile(code, f"README.md block {number}", "exec"), names)
    first = float(names["loss"])
    data = (names["jnp"].ones((8, 20)), names["jnp"].zeros((8, 10)), names["jnp"].arange(8))
    for _ in range(20):
        if "params" in names:
            names["params"], names["opt_state"], loss = names["step"](names["params"], names["opt_state"], *data)
        elif "opt_state" in names:
            names["student"], names["opt_state"], loss = names["step"](names["student"], names["opt_state"], *data)
        else:
            loss = names["step"](names["student"], names["optimizer"], *data)
    assert float(loss) < first


def test_every_block_of_the_readme_is_one_of_these():
    assert len(blocks("README.md", "python")) == 3


def commands(page):
    """(program, arguments) of each command in the page's blocks for a shell, but for those with a variable or `…`."""
    text = "".join(blocks(page, "sh")).replace("\\\n", " ")
    for program, line in re.findall(r"(?:python -m train\.|sealkd )(\w+)(.*)", text):
        words = shlex.split(line.rstrip('"') if line.count('"') % 2 else line, comments=True)
        arguments = [*takewhile(lambda word: word not in ("|", "&&"), words)]
        if not any(word == "…" or "$" in word for word in arguments):
            yield program, arguments


COMMANDS = [(page, *command) for page in PAGES for command in commands(page)]


class Understood(Exception):
    """Raised in place of running a program whose options were read."""


@pytest.mark.parametrize(
    ("page", "program", "arguments"), COMMANDS, ids=[" ".join([page, name, *words]) for page, name, words in COMMANDS]
)
def test_a_command_of_the_docs_is_understood(page, program, arguments, monkeypatch):
    read = command_line._read

    def understood(*args):
        read(*args)
        raise Understood

    monkeypatch.setattr(command_line, "_read", understood)
    main = benchmark if program == "benchmark" else import_module(f"sealkd_jax.programs.commands.{program}").main
    with pytest.raises((Understood, SystemExit)) as end:
        main(arguments)
    assert end.type is Understood or end.value.code == 0  # --help


def test_the_docs_have_commands():
    assert len(COMMANDS) > 50 and {program for _, program, _ in COMMANDS} >= {"distill", "compare", "benchmark"}
