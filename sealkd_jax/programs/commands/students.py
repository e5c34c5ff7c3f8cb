"""List the spiking students and the ANN teachers."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from sealkd_jax.models import STUDENTS, TEACHERS
from sealkd_jax.programs.command_line import read_options
from sealkd_jax.programs.listing import ListOptions, print_entries, print_json
from sealkd_jax.programs.presets import PRESETS


def main(argv: list[str] | None = None) -> None:
    """Print a line for each student and each teacher."""
    options = read_options(ListOptions, __doc__ or "", argv, "students")
    found = {"students": facts(STUDENTS, "student"), "teachers": facts(TEACHERS, "teacher")}
    if options.json:
        print_json(found)
        return
    for title, networks in found.items():
        print_entries(((each["name"], each["structure"], _presets(each["presets"])) for each in networks), title)


def facts(networks: Mapping[str, Callable[..., Any]], role: str) -> list[dict[str, Any]]:
    """Networks as JSON values, each with the presets that have it in that role."""
    return [
        {
            "name": name,
            "structure": structure(make),
            "presets": [preset for preset, options in PRESETS.items() if getattr(options.distill, role) == name],
        }
        for name, make in networks.items()
    ]


_SIZES = ("depths", "depth", "features", "hidden", "heads", "patch")


def structure(make: Callable[..., Any]) -> str:
    """The class of a network and its sizes; of one without sizes, the first line of its docstring."""
    if not isinstance(make, partial):
        return (inspect.getdoc(make) or "").partition("\n")[0]
    given = make.keywords
    block = f" of {given['block'].__name__}" if "block" in given else ""
    sizes = [f"{name} {_spaced(given[name])}" for name in _SIZES if name in given]
    return f"{make.func.__name__}{block}: {', '.join(sizes)}"


def _spaced(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _presets(names: list[str]) -> str:
    return f"presets: {', '.join(names)}" if names else ""
