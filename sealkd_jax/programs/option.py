"""One option of a program: what its annotation in a dataclass says of its type, range, names and spelling.

epochs: Annotated[int, at_least(1)] = 20
\"\"\"Passes over the training split.\"\"\"
"""

import ast
import inspect
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from types import NoneType
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from sealkd_jax.errors import InputError, did_you_mean
from sealkd_jax.typed import Range

INNER_FRACTION = Range("a number between 0 and 1", lambda value: 0 < value < 1)
SEED = Range("0 to 2**32 - 1", lambda value: 0 <= value < 2**32)


class Names(NamedTuple):
    """Names from a registry, for the help. Others are refused, unless `open`: then the program decides.

    Names that begin with one of `prefixes` are for the program, too.
    """

    known: Iterable[str]
    open: bool = False
    prefixes: tuple[str, ...] = ()


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
    range: Range | None
    names: Names | None
    spelling: Spelling
    help: str

    @property
    def flags(self) -> tuple[str, ...]:
        """The flags of the command line; the first stands in messages."""
        return self.spelling.flags or ("--" + self.name.replace("_", "-"),)

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
            raise InputError(f"{self.name} {given}: expected {error}") from error

    def check(self, value: Any) -> None:
        """Check the range of a value, or of each of several, and whether its name is known.

        Raises:
            InputError: for another one.
        """
        each = [one for one in (value if self.many else [value]) if one is not None]
        if self.range and not all(map(self.range.holds, each)):
            given = " ".join(map(str, value)) if self.many else value
            raise InputError(f"{self.name} {given}: expected {self.range.expected}")
        if self.names and not self.names.open:
            for one in each:
                if one not in (known := list(self.names.known)) and not one.startswith(self.names.prefixes):
                    expected = f"{', '.join(known)}{did_you_mean(one, known)}"
                    raise InputError(f"{self.name} {one}: unknown; expected one of {expected}")


def read_as(kind: type, text: str) -> Any:
    """A text as a value of a type.

    Raises:
        ValueError: if it is none; its message says what was expected.
    """
    if kind is bool:
        if text not in ("True", "False"):
            raise ValueError("one of True, False")
        return text == "True"
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
        if optional := NoneType in get_args(hint):
            (hint,) = set(get_args(hint)) - {NoneType}
        if many := get_origin(hint) is tuple:
            hint = get_args(hint)[0]
        if get_origin(hint) is Literal:
            hint, notes = str, [*notes, Names(get_args(hint))]
        by_type: dict[Any, Any] = {type(note): note for note in notes}
        names, spelling = by_type.get(Names), by_type.get(Spelling, Spelling())
        help = helps.get(field.name, "")
        found[field.name] = Option(
            field.name, hint, many, optional, field.default, by_type.get(Range), names, spelling, help
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
