"""Options from a command line or from keyword arguments: read, checked, and refused in one line."""

import shutil
import sys
import textwrap
from argparse import SUPPRESS, ArgumentParser, HelpFormatter
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from importlib.util import find_spec
from typing import Any, Literal, NoReturn, TypeVar

from sealkd_jax.data import parse_augmentation
from sealkd_jax.errors import InputError, did_you_mean
from sealkd_jax.losses import METHODS, hyperparameters
from sealkd_jax.programs.cli import command
from sealkd_jax.programs.option import Option, options_of
from sealkd_jax.programs.options import GROUPS, Preset, TrainingOptions
from sealkd_jax.programs.presets import DEFAULT, PRESETS

Kind = TypeVar("Kind")
WIDEST = 100  # characters; longer lines are hard to read
MOST_NAMES = 40  # characters of names that stand beside the flag; more stand in the help

# What other programs call it -> what it is here.
SLIPS = {
    "--learning-rate": "lr eta base-lr",
    "--batch-size": "bs b batch",
    "--weight-decay": "wd",
    "--optimizer": "opt optim",
    "--warmup-epochs": "warmup",
    "--epochs": "e ep max-epochs num-epochs n-epochs",
    "--timesteps": "t time-steps time-step timestep steps",
    "--seed": "random-seed manual-seed",
    "--method": "loss kd",
    "--hyper": "hyperparameters hparams",
    "--student": "model net network",
    "--neuron": "node",
    "--decay": "tau",
    "--dataset": "data ds",
    "--data-dir": "data-path root data-root",
    "--augment": "aug aa augmentation auto-augment crop flip cutout",
    "--out": "output output-dir out-dir save-dir log-dir logdir o",
    "--resume": "ckpt checkpoint continue load",
    "--devices": "gpus gpu num-gpus ngpu num-devices",
    "--precision": "amp fp16 bf16 half dtype",
    "--accumulate": "grad-accumulation accumulation-steps grad-accum",
    "--num-processes": "world-size nproc nnodes",
    "--process-id": "rank local-rank",
    "--coordinator": "master-addr dist-url",
    "--log": "verbose quiet json",
}


def parse(
    options: Literal["distill", "teacher"],
    description: str,
    argv: list[str] | None,
    *,
    program: str | None = None,
    kind: type[TrainingOptions] | None = None,
) -> tuple[str, Preset]:
    """Read `[PRESET] [--option value …]`: the preset's name, and the preset with those options changed.

    Args:
        options: the part of the preset that the options change.
        description: what the program does, for its help.
        argv: the command line; that of this process if None.
        program: name of the program; that of `options` if None.
        kind: class of the options, if it is not the preset's; what it adds has defaults.

    Raises:
        InputError: for a preset, an option or a value that does not exist, or a value out of its range.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    preset = argv.pop(0) if argv and not argv[0].startswith("-") else DEFAULT
    default = _default(options, preset, kind)
    presets = f"Presets: {', '.join(PRESETS)}. The values in brackets are those of {preset}."
    chosen = _read(
        type(default),
        vars(default),
        argv,
        f"{command(program or options)} [PRESET] [--option value …]",
        f"{description} {presets}",
    )
    return preset, PRESETS[preset]._replace(**{options: chosen})


def choose(
    options: Literal["distill", "teacher"],
    preset: str,
    keywords: Mapping[str, Any],
    *,
    kind: type[TrainingOptions] | None = None,
) -> tuple[str, Preset]:
    """As `parse`, of keyword arguments, which are named as the fields of the options are.

    A path may be a str, and `hyper` a mapping such as {"alpha": 0.6}. Errors name flags, as those of `parse` do.
    """
    default = _default(options, preset, kind)
    known = _shown(type(default))
    for name in keywords:
        if name not in known:
            raise _unknown(f"--{name}", known.values())
    chosen = _with(type(default), vars(default), keywords)
    return preset, PRESETS[preset]._replace(**{options: chosen})


def read_options(kind: type[Kind], description: str, argv: list[str] | None, program: str) -> Kind:
    """Read the options of a program that has no presets.

    Raises:
        InputError: as `parse`.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    found = options_of(kind)
    defaults = {name: option.default for name, option in found.items() if option.default is not MISSING}
    places = [
        option.name.upper() if option.default is MISSING else f"[{option.name.upper()}]"
        for option in found.values()
        if option.spelling.positional
    ]
    return _read(kind, defaults, argv, " ".join([command(program), *places, "[--option value …]"]), description)


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
    known = {field.name for field in fields(kind)} & {field.name for field in fields(options)}
    return kind(**{name: getattr(options, name) for name in known})


def check(options: Any) -> None:
    """Check each option's range, and whether its name is known.

    Raises:
        InputError: for a value that does not fit.
    """
    for name, option in options_of(type(options)).items():
        option.check(getattr(options, name))
    parse_augmentation(getattr(options, "augment", ""))
    if getattr(options, "tensorboard", False) and find_spec("tensorboardX") is None:
        raise InputError('--tensorboard: needs tensorboardX: pip install -e ".[tensorboard]"')


def _default(options: str, preset: str, kind: type[Any] | None) -> Any:
    """The options of a preset, as that kind."""
    if preset not in PRESETS:
        nearest = did_you_mean(preset, PRESETS)
        raise InputError(f"preset {preset!r}: unknown; expected one of {', '.join(PRESETS)}{nearest}")
    default = getattr(PRESETS[preset], options)
    return default if kind is None else as_kind(kind, default)


def _shown(kind: type) -> dict[str, Option]:
    """The options that a user may give."""
    return {name: option for name, option in options_of(kind).items() if not option.spelling.hidden}


def _with(kind: type[Kind], values: Mapping[str, Any], given: Mapping[str, Any]) -> Kind:
    """Options of these values, but for the given ones, which may be texts."""
    known = options_of(kind)
    chosen = kind(**{**values, **{name: known[name].read(value) for name, value in given.items()}})
    check(chosen)
    return chosen


def _read(kind: type[Kind], values: Mapping[str, Any], argv: list[str], usage: str, description: str) -> Kind:
    """Options of these values, but for those of the command line; `--help` prints them and exits."""
    parser = _parser(kind, values, usage, description)
    argv = [_hyphens(word) for word in argv]
    given, unknown = parser.parse_known_args(argv)
    if unknown:
        raise _unknown(unknown[0], _shown(kind).values(), unknown[1:2])
    return _with(kind, values, vars(given))


def _hyphens(word: str) -> str:
    """A flag with hyphens for underscores, `--batch_size`; other words as they are."""
    flag, equals, value = word.partition("=")
    return flag.replace("_", "-") + equals + value if word.startswith("--") else word


class _Formatter(HelpFormatter):
    """Keeps names such as spiking-resnet18 in one line."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False)


class _Parser(ArgumentParser):
    """Raises in place of printing usage and exiting."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message.removeprefix("argument "))


def _parser(kind: type, values: Mapping[str, Any], usage: str, description: str) -> ArgumentParser:
    """A parser that gives texts; those that the command line names alone."""
    width = min(shutil.get_terminal_size().columns - 2, WIDEST)
    parser = _Parser(
        usage=usage,
        description=description,
        add_help=False,
        allow_abbrev=False,
        argument_default=SUPPRESS,
        formatter_class=lambda prog: _Formatter(prog, max_help_position=24, width=width),
    )
    parser.add_argument("-h", "--help", action="help", help=SUPPRESS)
    for title, options in _groups(kind):
        group = parser.add_argument_group(title)
        for option in options:
            _add(group, option, values)
    return parser


def _add(group: Any, option: Option, values: Mapping[str, Any]) -> None:
    """Add an option to a group of the parser, with its help."""
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


def _groups(kind: type) -> Iterable[tuple[str, list[Option]]]:
    """The options in groups: first those of the program itself, then `GROUPS`."""
    left = _shown(kind)
    groups = []
    for title, classes in GROUPS:
        names = [name for cls in classes if issubclass(kind, cls) for name in vars(cls).get("__annotations__", {})]
        groups.append((title, [left.pop(name) for name in names if name in left]))
    return [group for group in (("options", list(left.values())), *groups) if group[1]]


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
    shown = f"{value:g}" if isinstance(value, float) else " ".join(map(str, value)) if option.many else value
    default = "" if shown in (None, "") or option.kind is bool else f" [{shown}]"
    return (option.help + listed + default).replace("%", "%%")


def _unknown(word: str, known: Iterable[Option], value: Iterable[str] = ()) -> InputError:
    """The error for a word of the command line that is no option, with what was probably meant."""
    if not word.startswith("-"):
        if word in PRESETS:
            return InputError(f"{word}: expected before the options, as in `… {word} --epochs 5`")
        return InputError(f"{word}: expected an option, such as --epochs; --help lists all")
    flags = [flag for option in known for flag in option.flags]
    name = word.lstrip("-").partition("=")[0].replace("_", "-")
    slips = {slip: flag for flag, others in SLIPS.items() for slip in others.split() if flag in flags}
    parameters = {parameter for method in METHODS for parameter in hyperparameters(method)}
    if name.lower() in slips:
        nearest = f"; did you mean {slips[name.lower()]}?"
    elif name.replace("-", "_") in parameters and "--hyper" in flags:
        number = word.partition("=")[2] or next(iter(value), "VALUE")
        nearest = f"; did you mean --hyper {name.replace('-', '_')}={number}?"
    else:
        nearest = did_you_mean(f"--{name}", flags)
    return InputError(f"{word.partition('=')[0]}: unknown option{nearest or '; --help lists all'}")
