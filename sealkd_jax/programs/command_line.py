"""Options from a command line or from keyword arguments: read, checked, and refused in one line."""

import sys
from collections.abc import Mapping
from dataclasses import MISSING, fields
from importlib.util import find_spec
from typing import Any, TypeVar

from sealkd_jax.data import parse_augmentation
from sealkd_jax.errors import InputError, did_you_mean
from sealkd_jax.programs.cli import command
from sealkd_jax.programs.option import options_of, shown_options
from sealkd_jax.programs.options import DistillOptions, TrainingOptions
from sealkd_jax.programs.parser import make_parser
from sealkd_jax.programs.presets import DEFAULT, PRESETS
from sealkd_jax.programs.slips import unknown_flag, unknown_keyword

Kind = TypeVar("Kind")
Training = TypeVar("Training", bound=TrainingOptions)


def parse(kind: type[Training], description: str, argv: list[str] | None, program: str) -> tuple[str, Training]:
    """Read `[PRESET] [--option value …]`: the preset's name, and its options with those that are named changed.

    Args:
        kind: class of the options. What it has and the preset has not keeps its default.
        description: what the program does, for its help.
        argv: the command line; that of this process if None.
        program: name of the program.

    Raises:
        InputError: for a preset, an option or a value that does not exist, or a value out of its range.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    preset = argv.pop(0) if argv and not argv[0].startswith("-") else DEFAULT
    values = vars(_preset_options(kind, preset))
    usage = f"{command(program)} [PRESET] [--option value …]"
    presets = f"Presets: {', '.join(PRESETS)}. The values in brackets are those of {preset}."
    return preset, _read(kind, values, argv, usage, f"{description} {presets}")


def choose(kind: type[Training], preset: str, keywords: Mapping[str, Any]) -> Training:
    """The options of a preset with those that keyword arguments name changed.

    A path may be a str, and `hyper` a mapping such as {"alpha": 0.6}.

    Raises:
        InputError: as `parse`; its message names the argument.
    """
    values, known = vars(_preset_options(kind, preset)), shown_options(kind)
    for name, value in keywords.items():
        if name not in known:
            raise unknown_keyword(name, value, known)
    return _with(kind, values, keywords)


def read_options(kind: type[Kind], description: str | None, argv: list[str] | None, program: str) -> Kind:
    """Read the options of a program that has no presets.

    Raises:
        InputError: as `parse`.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    known = options_of(kind).values()
    values = {option.name: option.default for option in known if option.default is not MISSING}
    places = [option.name.upper() for option in known if option.spelling.positional]
    places = [f"[{place}]" if place.lower() in values else place for place in places]
    usage = " ".join([command(program), *places, "[--option value …]"])
    return _read(kind, values, argv, usage, description or "")


def options_from_json(kind: type[Kind], values: Mapping[str, Any]) -> Kind:
    """Options as `config.json` and `teacher.json` hold them.

    Raises:
        InputError: for a value of another type or out of its range.
        KeyError: for a name that is no option.
        TypeError: if an option without a default is missing.
    """
    return _with(kind, {}, values)


def as_kind(kind: type[Kind], options: Any) -> Kind:
    """These options as another kind: what it does not know is dropped, what it adds has its default."""
    known = options_of(kind).keys() & {field.name for field in fields(options)}
    return kind(**{name: getattr(options, name) for name in known})


def check(options: Any) -> None:
    """Check the range of each option, and whether its name is known.

    Raises:
        InputError: for a value that does not fit.
    """
    for name, option in options_of(type(options)).items():
        option.check(getattr(options, name))
    parse_augmentation(getattr(options, "augment", ""))
    if getattr(options, "tensorboard", False) and find_spec("tensorboardX") is None:
        raise InputError('tensorboard: needs tensorboardX: pip install "sealkd-jax[tensorboard]"')


def _preset_options(kind: type[Training], preset: str) -> Training:
    """The options of a preset for a student or a teacher, as that kind."""
    if preset not in PRESETS:
        nearest = did_you_mean(preset, PRESETS)
        raise InputError(f"preset {preset!r}: unknown; expected one of {', '.join(PRESETS)}{nearest}")
    found = PRESETS[preset]
    return as_kind(kind, found.distill if issubclass(kind, DistillOptions) else found.teacher)


def _with(kind: type[Kind], values: Mapping[str, Any], given: Mapping[str, Any]) -> Kind:
    """Options of these values, but for the given ones, which may be texts."""
    known = options_of(kind)
    chosen = kind(**{**values, **{name: known[name].read(value) for name, value in given.items()}})
    check(chosen)
    return chosen


def _read(kind: type[Kind], values: Mapping[str, Any], argv: list[str], usage: str, description: str) -> Kind:
    """Options of these values, but for those of the command line; `--help` prints them and exits."""
    parser = make_parser(kind, values, usage, description)
    given, unknown = parser.parse_known_args([_with_hyphens(word) for word in argv])
    if unknown:
        raise _unknown_word(kind, *unknown)
    try:
        return _with(kind, values, vars(given))
    except InputError as error:
        name, _, rest = str(error).partition(" ")
        option = options_of(kind).get(name.rstrip(":"))
        if option is None:
            raise
        raise InputError(f"{option.flags[0]}{':' * name.endswith(':')} {rest}") from error


def _with_hyphens(word: str) -> str:
    """A flag with hyphens for underscores, `--batch_size`; other words as they are."""
    flag, equals, value = word.partition("=")
    return flag.replace("_", "-") + equals + value if word.startswith("--") else word


def _unknown_word(kind: type, word: str, value: str = "", *_: str) -> InputError:
    """The error for a word of the command line that the parser did not take."""
    if word.startswith("-"):
        return unknown_flag(word, value, [flag for option in shown_options(kind).values() for flag in option.flags])
    if word in PRESETS:
        return InputError(f"{word}: expected before the options, as in `… {word} --epochs 5`")
    return InputError(f"{word}: expected an option, such as --seed; --help lists all")
