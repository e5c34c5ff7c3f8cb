"""A function in a user's Python file as a teacher: `FILE.py:FUNCTION`.

The file may say `CLASSES`, the names of its classes in the order of its outputs, and `VERSION`, which it changes when
something else than its text changes, such as a file of weights.
"""

import hashlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from sealkd_jax.data import Dataset
from sealkd_jax.errors import InputError, did_you_mean, reason
from sealkd_jax.files import fingerprint, open_file
from sealkd_jax.teachers.function import FunctionTeacher, class_columns, raised_at

_FORM = re.compile(r"(?P<file>.+\.py):(?P<function>\w+)")  # the last colon: a drive's letter has one, too


class Place(NamedTuple):
    """A function's file and name."""

    file: Path
    function: str


def parse_place(text: str) -> Place | None:
    """The parts of `FILE.py:FUNCTION`; None for another text.

    Examples:
        >>> parse_place(r"C:\\nets\\vit.py:logits").function
        'logits'
        >>> parse_place("npz:logits.npz"), parse_place("vit.py"), parse_place("resnet18")
        (None, None, None)
    """
    match = _FORM.fullmatch(text)
    return Place(Path(match["file"]), match["function"]) if match else None


def load_function(place: Place, dataset: Dataset, *, timesteps: int = 1) -> FunctionTeacher:
    """Runs the file, and returns its function as a teacher.

    Args:
        place: of the function.
        dataset: whose images it sees, and whose classes its `CLASSES` must have.
        timesteps: T that logits per timestep must have.

    Raises:
        InputError: if the file is missing or raises, has no such function, or its `CLASSES` are not the data's.
    """
    name, (module, content) = f"{place.file}:{place.function}", _run(place.file)
    function = getattr(module, place.function, None)
    if not callable(function):
        known = [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
        nearest = did_you_mean(place.function, known)
        raise InputError(f"{place.file}: has no function {place.function}{nearest}; give FILE.py:FUNCTION")
    own, columns = _classes(name, module), None
    if own is not None:
        columns = class_columns(name, own, dataset.classes)
    digest = fingerprint("file", content, place.function, repr(getattr(module, "VERSION", None)), own)
    outputs = len(dataset.classes) if own is None else len(own)
    return FunctionTeacher(name, function, digest, outputs, columns, timesteps, str(place.file.absolute()))


def _classes(name: str, module: ModuleType) -> list[str] | None:
    own: Any = getattr(module, "CLASSES", None)
    if own is None:
        return None
    if isinstance(own, str) or not hasattr(own, "__iter__"):
        raise InputError(f"{name}: CLASSES: expected a list of names, got {type(own).__name__}")
    return list(map(str, own))


def _run(file: Path) -> tuple[ModuleType, str]:
    """The file as a module, and the SHA-256 of its text."""
    try:
        with open_file(file) as stream:
            content = hashlib.sha256(stream.read()).hexdigest()
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {reason(error)}") from error
    # Under a name of its own: the file may be called after the library that it uses.
    spec = importlib.util.spec_from_file_location(f"teacher_{content[:12]}", file.absolute())
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    if (folder := str(file.absolute().parent)) not in sys.path:
        sys.path.append(folder)  # the file may import what stands beside it, but libraries come first
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[spec.name]
        line = raised_at(error, str(file.absolute()))
        raise InputError(f"{file}: raised {type(error).__name__}: {reason(error)}{line}") from error
    return module, content
