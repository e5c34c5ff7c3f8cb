"""One option of a program: what its annotation in a dataclass says of its type, range, names and spelling.

epochs: Annotated[int, at_least(1)] = 20
\"\"\"Passes over the training split.\"\"\"
"""

import ast
import inspect
import math
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from types import NoneType
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from sealkd_jax.errors import InputError, did_you_mean


class Range(NamedTuple):
    """The values that an option takes, in words and as a test. None, the value of an option not given, always fits."""

    expected: str
    holds: Callable[[Any], bool]


def at_least(least: int) -> Range:
    """Whole numbers from `least` on."""
    return Range(f"at least {least}", lambda value: value >= least)


POSITIVE = Range("a positive number", lambda value: 0 < value < math.inf)
NOT_NEGATIVE = Range("0 or a positive number", lambda value: 0 <= value < math.inf)
INNER_FRACTION = Range("a number between 0 and 1", lambda value: 0 < value < 1)
SEED = Range("0 to 2**32 - 1", lambda value: 0 <= value < 2**32)


class Names(NamedTuple):
    """Names from a registry, for the help. Others are refused, unless `open`: then the program decides."""

    known: Iterable[str]
    open: bool = False


@dataclass(frozen=True)
class Spelling:
    """How the command line spells an option, where this does not follow from its name and type."""

    flags: tuple[str, ...] = ()
    metavar: str | None = None
    positional: bool = False
    hidden: bool = False


HIDDEN = Spelling(hidden=True)
POSITIONAL = Spelling(positional=True)


class Option(NamedTuple):
    """A field of an option class. `many`: a tuple of values of `kind`; `optional`: None is a value, too."""

    name: str
    kind: Any
    many: bool
    optional: bool
    default: Any
    ranges: tuple[Range, ...]
    names: Names | None
    spelling: Spelling
    help: str

    @property
    def flags(self) -> tuple[str, ...]:
        """The flags of the command line; the first stands in messages."""
        return self.spelling.flags or ("--" + self.name.replace("_", "-"),)

    @property
    def choices(self) -> tuple[str, ...]:
        """The only values, where there are few."""
        return get_args(self.kind) if get_origin(self.kind) is Literal else ()

    def read(self, given: Any) -> Any:
        """The value that a text, or several, of a command line stand for. A value of the right type stands for itself.

        Raises:
            InputError: if it is not of the option's type.
        """
        if not self.many:
            return self._read_one(given)
        if isinstance(given, Mapping):  # hyper={"alpha": 0.6}
            given = [f"{name}={_listed(value)}" for name, value in given.items()]
        return tuple(map(self._read_one, given if isinstance(given, list | tuple) else [given]))

    def _read_one(self, given: Any) -> Any:
        text = _listed(given)
        if self.optional and text == "None":
            return None
        try:
            return read_as(self.kind, text)
        except ValueError as error:
            raise self.refuse(given, str(error)) from error

    def check(self, value: Any) -> None:
        """Check the range of a value, or of each of several, and whether its name is known.

        Raises:
            InputError: for another one.
        """
        each = [one for one in (value if self.many else [value]) if one is not None]
        for expected, holds in self.ranges:
            if not all(map(holds, each)):
                raise self.refuse(" ".join(map(str, value)) if self.many else value, expected)
        if self.names and not self.names.open:
            for one in each:
                if one not in (known := list(self.names.known)):
                    raise self.refuse(one, f"one of {', '.join(known)}{did_you_mean(one, known)}", "unknown; ")

    def refuse(self, given: Any, expected: str, why: str = "") -> InputError:
        """The error for a value that does not fit."""
        return InputError(f"{self.name} {given}: {why}expected {expected}")


def read_as(kind: Any, text: str) -> Any:
    """A text as a value of a type, which may be a `Literal`.

    Raises:
        ValueError: if it is none; its message says what was expected.
    """
    if kind is bool or get_origin(kind) is Literal:
        values: dict[str, Any] = {str(value): value for value in get_args(kind) or (True, False)}
        if text not in values:
            raise ValueError(f"one of {', '.join(values)}{did_you_mean(text, values)}")
        return values[text]
    try:
        return kind(text)
    except ValueError as error:
        raise ValueError({int: "a whole number", float: "a number"}.get(kind, kind.__name__)) from error


def _listed(value: Any) -> str:
    """A value as a command line has it: 2,3 for [2, 3]."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def options_of(kind: type) -> dict[str, Option]:
    """The options that a dataclass declares, by the name of their field."""
    return _options_of(kind)


@cache
def _options_of(kind: Any) -> dict[str, Option]:
    hints, helps = get_type_hints(kind, include_extras=True), _docstrings(kind)
    found = {}
    for field in fields(kind):
        hint, notes = hints[field.name], list[Any]()
        if get_origin(hint) is Annotated:
            hint, *notes = get_args(hint)
        alternatives = get_args(hint) if NoneType in get_args(hint) else ()
        if alternatives:
            (hint,) = (each for each in alternatives if each is not NoneType)
        many = get_origin(hint) is tuple
        found[field.name] = Option(
            name=field.name,
            kind=get_args(hint)[0] if many else hint,
            many=many,
            optional=bool(alternatives),
            default=field.default,
            ranges=tuple(note for note in notes if isinstance(note, Range)),
            names=next((note for note in notes if isinstance(note, Names)), None),
            spelling=next((note for note in notes if isinstance(note, Spelling)), Spelling()),
            help=helps.get(field.name, ""),
        )
    return found


def shown_options(kind: type) -> dict[str, Option]:
    """The options that a user may give."""
    return {name: option for name, option in options_of(kind).items() if not option.spelling.hidden}


def _docstrings(kind: type) -> dict[str, str]:
    """The strings below the fields of a dataclass and of those that it inherits from."""
    found = {}
    for base in reversed(kind.__mro__[:-1]):
        definition = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        assert isinstance(definition, ast.ClassDef)
        for field, below in zip(definition.body, definition.body[1:], strict=False):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = " ".join(text.split())
    return found
