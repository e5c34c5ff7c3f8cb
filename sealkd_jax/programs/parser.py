"""A parser of command lines for a class of options, with a help in groups."""

import shutil
import textwrap
from argparse import SUPPRESS, ArgumentParser, HelpFormatter
from collections.abc import Mapping
from typing import Any, NoReturn

from sealkd_jax.errors import InputError
from sealkd_jax.programs.option import Option, shown_options
from sealkd_jax.programs.options import GROUPS

WIDEST = 100  # characters; longer lines are hard to read
MOST_NAMES = 40  # characters of names that stand beside the flag; more stand in the help


class _Formatter(HelpFormatter):
    """Fits the terminal, and keeps names such as spiking-resnet18 in one line."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=24, width=min(shutil.get_terminal_size().columns - 2, WIDEST))

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return textwrap.fill(" ".join(text.split()), width, break_on_hyphens=False)


class _Parser(ArgumentParser):
    """Raises where argparse prints the usage and exits."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message.removeprefix("argument "))


def make_parser(kind: type, values: Mapping[str, Any], usage: str, description: str) -> ArgumentParser:
    """A parser that gives the texts of the options that the command line names.

    Args:
        kind: class of the options.
        values: what options have that are not named, for the help; those without are required.
        usage: first line of the help.
        description: what the program does.
    """
    parser = _Parser(
        usage=usage,
        description=description,
        add_help=False,
        allow_abbrev=False,
        argument_default=SUPPRESS,
        formatter_class=_Formatter,
    )
    parser.add_argument("-h", "--help", action="help", help=SUPPRESS)
    for title, options in _groups(kind):
        group = parser.add_argument_group(title)
        for option in options:
            _add(group, option, values)
    return parser


def _groups(kind: type) -> list[tuple[str, list[Option]]]:
    """The options in groups: first those of the program itself, then `GROUPS`."""
    left = shown_options(kind)
    groups = []
    for title, classes in GROUPS:
        names = [name for cls in classes if issubclass(kind, cls) for name in vars(cls).get("__annotations__", {})]
        groups.append((title, [left.pop(name) for name in names if name in left]))
    own = sorted(left.values(), key=lambda option: not option.spelling.positional)
    return [group for group in (("options", own), *groups) if group[1]]


def _add(group: Any, option: Option, values: Mapping[str, Any]) -> None:
    """Add an option to a group of the parser."""
    required, help = option.name not in values, _help(option, values.get(option.name))
    if option.kind is bool:
        flag, negative = option.flags[0], option.flags[0].replace("--", "--no-")
        help += f" [on; {negative} turns it off]" * bool(values.get(option.name))
        group.add_argument(flag, dest=option.name, action="store_true", help=help)
        group.add_argument(negative, dest=option.name, action="store_false", help=SUPPRESS)
    elif option.spelling.positional:
        group.add_argument(option.name, metavar=option.name.upper(), help=help, nargs=None if required else "?")
    else:
        nargs = "*" if option.many else None
        group.add_argument(
            *option.flags, dest=option.name, metavar=_metavar(option), help=help, nargs=nargs, required=required
        )


def _metavar(option: Option) -> str:
    """What stands for the value: the names if they are few."""
    names = option.choices or (tuple(option.names.known) if option.names and not option.names.open else ())
    few = "{" + ",".join(names) + "}"
    usual = {int: "N", float: "X"}.get(option.kind, option.name.upper())
    return option.spelling.metavar or (few if 2 < len(few) < MOST_NAMES else usual)


def _help(option: Option, value: Any) -> str:
    """The option's help with the names that it takes and its value."""
    names = ", ".join(option.names.known) if option.names else ""
    listed = f" Names: {names}." if len(names) > MOST_NAMES or (option.names and option.names.open) else ""
    shown = f"{value:g}" if isinstance(value, float) else value
    if isinstance(value, tuple):
        shown = " ".join(map(str, value))
    default = "" if shown in (None, "") or option.kind is bool else f" [{shown}]"
    return (option.help + listed + default).replace("%", "%%")
