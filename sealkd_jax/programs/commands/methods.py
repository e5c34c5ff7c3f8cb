"""List the methods, or describe one.

A method is the loss of a student, with its formula and its hyper-parameters.
"""

import inspect
from dataclasses import dataclass
from typing import Annotated, Any

from sealkd_jax.losses import METHODS, UNCONFIRMED, hyperparameters, needs_teacher
from sealkd_jax.programs.command_line import read_options
from sealkd_jax.programs.listing import Entry, ListOptions, joined, print_entries, print_json
from sealkd_jax.programs.option import POSITIONAL, Names


@dataclass(frozen=True, kw_only=True)
class MethodsOptions(ListOptions):
    """Which method."""

    name: Annotated[str | None, Names(METHODS), POSITIONAL] = None
    """Method to describe; a line for each if not given."""


def main(argv: list[str] | None = None) -> None:
    """Print a line for each method, or the description of one."""
    options = read_options(MethodsOptions, __doc__ or "", argv, "methods")
    found = [facts(name) for name in METHODS if options.name in (name, None)]
    if options.json:
        print_json(found)
    elif options.name:
        print(f"{inspect.getdoc(METHODS[options.name]) or ''}\n\n{_numbers(found[0])}")
    else:
        print_entries(Entry(each["name"], each["description"], _numbers(each)) for each in found)


def facts(name: str) -> dict[str, Any]:
    """A method as JSON values."""
    return {
        "name": name,
        "needs_teacher": needs_teacher(name),
        "confirmed": name not in UNCONFIRMED,
        "hyperparameters": hyperparameters(name),
        "description": (inspect.getdoc(METHODS[name]) or "").partition("\n")[0],
    }


def _numbers(method: dict[str, Any]) -> str:
    """Whether it needs a teacher, and its hyper-parameters as `--hyper` takes them."""
    teacher = "needs a teacher" if method["needs_teacher"] else "no teacher"
    knobs = joined(method["hyperparameters"])
    return f"{teacher}; --hyper {knobs}" if knobs else teacher
