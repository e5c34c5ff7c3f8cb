"""List the methods, or describe one.

A method is the loss of a student, with its formula and its hyper-parameters.
"""

import inspect
import re
from dataclasses import dataclass
from typing import Annotated, Any

from sealkd_jax.losses import METHODS, UNCONFIRMED, hyperparameters, needs_teacher
from sealkd_jax.programs.command_line import read_options
from sealkd_jax.programs.listing import ListOptions, print_entries, print_json
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
        _describe(found[0])
    else:
        print_entries((each["name"], each["description"], _summary(each)) for each in found)


def _describe(method: dict[str, Any]) -> None:
    """Print the formula, the hyper-parameters and the source."""
    print(f"{_sections(method['name'])['']}\n\n{_teacher(method).capitalize()}.")
    if values := _values(method):
        print("\nHyper-parameters, as --hyper takes them, with their defaults:\n")
        print_entries((value, method["meaning"].get(name, ""), "") for name, value in values.items())
    if method["source"]:
        print(f"\nSource: {method['source']}")


def facts(name: str) -> dict[str, Any]:
    """A method as JSON values."""
    sections = _sections(name)
    meanings = re.findall(r"^(\w+): (.*(?:\n +.*)*)", sections.get("Args", ""), re.MULTILINE)
    return {
        "name": name,
        "needs_teacher": needs_teacher(name),
        "confirmed": name not in UNCONFIRMED,
        "hyperparameters": hyperparameters(name),
        "meaning": {parameter: " ".join(text.split()) for parameter, text in meanings},
        "source": " ".join(sections.get("Reference", "").split()),
        "description": sections[""].partition("\n")[0],
    }


def _sections(name: str) -> dict[str, str]:
    """The sections of the method's docstring by their headings; what comes before them by ""."""
    text, *rest = re.split(r"^(\w+):\n", inspect.getdoc(METHODS[name]) or "", flags=re.MULTILINE)
    found = {"": text, **dict(zip(rest[::2], rest[1::2], strict=True))}
    return {heading: inspect.cleandoc("\n" + section).strip() for heading, section in found.items()}


def _teacher(method: dict[str, Any]) -> str:
    return "needs a teacher" if method["needs_teacher"] else "no teacher"


def _values(method: dict[str, Any]) -> dict[str, str]:
    """The hyper-parameters by name, each with its default, as `--hyper` takes them."""
    values = method["hyperparameters"].items()
    return {name: f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}" for name, value in values}


def _summary(method: dict[str, Any]) -> str:
    values = " ".join(_values(method).values())
    return f"{_teacher(method)}; --hyper {values}" if values else _teacher(method)
