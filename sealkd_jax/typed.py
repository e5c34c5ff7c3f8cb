"""JSON from a file as typed values. The file may be damaged, edited, or written to do harm.

A type is a `TypedDict` or a dataclass, and its annotations state ranges:

    class Point(TypedDict):
        x: Annotated[float, SHARE]
        name: str | None
"""

import json
import math
import sys
import types
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from sealkd_jax.errors import InputError, printable
from sealkd_jax.files import open_file

MOST_BYTES = 2**26  # of a file
Kind = TypeVar("Kind")


class Range(NamedTuple):
    """The values that a number may have, in words and as a test. None always fits."""

    expected: str
    holds: Callable[[Any], bool]


def at_least(least: int, most: int = 10**9) -> Range:
    """Whole numbers from `least` to `most`."""
    return Range(f"at least {least}, at most {most}", lambda value: least <= value <= most)


SHARE = Range("a number from 0 to 1", lambda value: 0 <= value <= 1)
POSITIVE = Range("a positive number", lambda value: 0 < value < math.inf)
NOT_NEGATIVE = Range("0 or a positive number", lambda value: 0 <= value < math.inf)


def read_json(path: Path, kind: type[Kind]) -> Kind:
    """The JSON value in a file, as that type. Entries that the type does not have are dropped.

    Raises:
        InputError: if the file is missing, cannot be read, or holds something else.
    """
    return parse_json(path, read_text(path), kind)


def parse_json(where: object, text: str, kind: type[Kind]) -> Kind:
    """The JSON value in a text, as `read_json`; `where` it stands is for the message.

    Raises:
        InputError: if it is not of that type.
    """
    try:
        return as_type(kind, json.loads(text, parse_constant=_refuse_constant))
    except RecursionError as error:
        raise InputError(f"{where}: damaged: nested too deeply") from error
    except ValueError as error:
        raise InputError(f"{where}: damaged: {error}") from error


def read_text(path: Path) -> str:
    """The text in a file of moderate size.

    Raises:
        InputError: if it is missing, cannot be read, or is not UTF-8.
    """
    try:
        with open_file(path) as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > MOST_BYTES:
        raise InputError(f"{path}: damaged: larger than {MOST_BYTES >> 20} MiB")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: damaged: not UTF-8: {error}") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name}: expected a finite number")


def as_type(kind: Any, value: Any, where: str = "") -> Any:
    """A JSON value as a type; texts come out without control characters.

    Raises:
        ValueError: if it is not of that type or out of its range. The message names the place in the value.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        parsed = as_type(arguments[0], value, where)
        numbers = parsed if isinstance(parsed, list | tuple) else [parsed]
        for note in arguments[1:]:
            if isinstance(note, Range) and not all(number is None or note.holds(number) for number in numbers):
                raise _wrong(where, note.expected, value)
        return parsed
    if origin in (Union, types.UnionType):
        if value is None and types.NoneType in arguments:
            return None
        (kind,) = set(arguments) - {types.NoneType}
        return as_type(kind, value, where)
    if origin is Literal:
        if value not in arguments:
            raise _wrong(where, f"one of {', '.join(arguments)}", value)
        return value
    if origin in (list, tuple) and isinstance(value, list):
        return origin(as_type(arguments[0], each, f"{where}[{number}]") for number, each in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {printable(name): as_type(arguments[1], each, _inside(where, name)) for name, each in value.items()}
    if (is_typeddict(kind) or is_dataclass(kind)) and isinstance(value, dict):
        return _as_record(kind, value, where)
    return _as_plain(kind, value, where)


def _as_record(kind: Any, value: dict[str, Any], where: str) -> Any:
    hints = _hints(kind)
    if is_typeddict(kind):
        required = kind.__required_keys__
    else:
        required = {field.name for field in fields(kind) if field.default is MISSING}
        if unknown := sorted(value.keys() - hints.keys()):
            raise ValueError(f"{_inside(where, unknown[0])}: unknown")
    if missing := sorted(required - value.keys()):
        raise ValueError(f"{_inside(where, missing[0])}: missing")
    return kind(**{name: as_type(hints[name], value[name], _inside(where, name)) for name in value if name in hints})


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _as_plain(kind: Any, value: Any, where: str) -> Any:
    match kind, value:
        case (_, str()) if kind in (str, Any):
            return printable(value)
        case (_, str()) if kind is Path:
            return Path(printable(value))
        case (_, bool()) if kind in (bool, Any):
            return value
        case (_, bool()):
            pass
        case (_, int()) if kind in (int, Any) and abs(value) < 2**63:
            return value
        case (_, int() | float()) if kind in (float, Any) and abs(value) < sys.float_info.max:
            return float(value)
        case (_, None | list() | dict()) if kind is Any:
            return value and as_type(list[Any] if isinstance(value, list) else dict[str, Any], value, where)
    names: dict[Any, str] = {
        int: "a whole number",
        float: "a finite number",
        str: "a text",
        bool: "true or false",
        Path: "a path",
    }
    expected = names.get(kind, "a list" if get_origin(kind) in (list, tuple) else "an object")
    raise _wrong(where, expected, value)


def _wrong(where: str, expected: str, value: Any) -> ValueError:
    containers: dict[Any, str] = {list: "a list", dict: "an object"}
    given = containers.get(type(value)) or printable(repr(value))[:60]
    return ValueError(f"{where or 'all'}: expected {expected}, got {given}")


def _inside(where: str, name: str) -> str:
    return f"{where}.{printable(name)}".lstrip(".")
