"""Options from a command line or from keyword arguments: read, checked, and refused in one line."""

import re
import shutil
import sys
import textwrap
from argparse import SUPPRESS, ArgumentParser, HelpFormatter
from collections.abc import Mapping
from dataclasses import MISSING, fields
from importlib.util import find_spec
from typing import Any, NoReturn, TypeVar

from sealkd_jax.data import parse_augmentation
from sealkd_jax.data.augmentation import STEPS
from sealkd_jax.errors import InputError, did_you_mean
from sealkd_jax.losses import METHODS, hyperparameters
from sealkd_jax.programs.commands import command
from sealkd_jax.programs.option import Option, options_of, shown_options
from sealkd_jax.programs.options import (
    GROUPS,
    DistillOptions,
    DistillProgramOptions,
    PrepareOptions,
    TeacherProgramOptions,
    TrainingOptions,
)
from sealkd_jax.programs.presets import DEFAULT, PRESETS
from sealkd_jax.typed import as_type

Kind = TypeVar("Kind")
Training = TypeVar("Training", bound=TrainingOptions)

WIDEST = 100  # characters; longer lines are hard to read
MOST_NAMES = 40  # characters of names that stand beside the flag; more stand in the help

# The option, and what other programs call it.
SLIPS = {
    "learning_rate": "lr eta base_lr",
    "batch_size": "bs b batch",
    "weight_decay": "wd",
    "optimizer": "opt optim",
    "warmup_epochs": "warmup",
    "epochs": "e ep max_epochs num_epochs n_epochs",
    "timesteps": "t time_steps time_step timestep steps",
    "seed": "random_seed manual_seed",
    "method": "loss kd",
    "hyper": "hyperparameters hparams",
    "student": "model net network",
    "neuron": "node",
    "decay": "tau",
    "dataset": "data ds",
    "data_dir": "data_path root data_root",
    "augment": "augmentation aug",
    "out": "output output_dir out_dir save_dir log_dir logdir o",
    "resume": "ckpt checkpoint continue load",
    "devices": "gpus gpu num_gpus ngpu num_devices",
    "precision": "amp fp16 bf16 half dtype",
    "accumulate": "grad_accumulation accumulation_steps grad_accum",
    "num_processes": "world_size nproc nnodes",
    "process_id": "rank local_rank",
    "coordinator": "master_addr dist_url",
    "log": "verbose quiet",
}


def parse(kind: type[Training], description: str, argv: list[str] | None, program: str) -> tuple[str, Training]:
    """Read `[PRESET] [--option value …]`: the preset's name, and its options with those that are named changed.

    Args:
        kind: class of the options. Those that the preset does not set keep their defaults.
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
    values = vars(_preset_options(kind, preset))
    for name, value in keywords.items():
        if name not in shown_options(kind):
            raise InputError(f"{name}: unknown option{_meant(kind, name, value, flag=False)}")
    return _with(kind, values, keywords)


def read_options(kind: type[Kind], description: str | None, argv: list[str] | None, program: str) -> Kind:
    """Read the options of a program that has no presets.

    Raises:
        InputError: as `parse`.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    known = options_of(kind).values()
    values = {option.name: option.default for option in known if option.default is not MISSING}
    places = [option.name for option in known if option.spelling.positional]
    places = [f"[{place.upper()}]" if place in values else place.upper() for place in places]
    usage = " ".join([command(program), *places, "[--option value …]"])
    return _read(kind, values, argv, usage, description or "")


def options_from_json(kind: type[Kind], values: Mapping[str, Any]) -> Kind:
    """Options as `config.json` and `teacher.json` hold them.

    Raises:
        ValueError: for an unknown or a missing option, or a value of another type or out of its range.
    """
    options = as_type(kind, {name: value for name, value in values.items() if name != "preset"})
    check(options)
    return options


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


def with_flag(message: str, *kinds: type) -> str:
    """`batch_size 7: …` as `--batch-size 7: …`, if a class of options has the name that a message begins with."""
    name = re.split(r"[ :]", message, maxsplit=1)[0]
    for kind in (*kinds, DistillProgramOptions, TeacherProgramOptions, PrepareOptions):
        if name in (known := options_of(kind)) and not known[name].spelling.positional:
            return known[name].flags[0] + message[len(name) :]
    return message


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
    parser = _make_parser(kind, values, usage, description)
    given, unknown = parser.parse_known_args([_with_hyphens(word) for word in argv])
    if unknown:
        raise _unknown_word(kind, *unknown)
    try:
        return _with(kind, values, vars(given))
    except InputError as error:
        raise InputError(with_flag(str(error), kind)) from error


def _with_hyphens(word: str) -> str:
    """A flag with hyphens for underscores, `--batch_size`; other words as they are."""
    flag, equals, value = word.partition("=")
    return flag.replace("_", "-") + equals + value if word.startswith("--") else word


def _unknown_word(kind: type, word: str, value: str = "VALUE", *others: str) -> InputError:
    """The error for a word of the command line that the parser did not take, and the word that follows it."""
    if word in PRESETS:
        return InputError(f"{word}: expected before the options, as in `… {word} --epochs 5`")
    if not word.startswith("-"):
        return InputError(f"{word}: expected an option, such as --seed; --help lists all")
    flag, _, own_value = word.partition("=")
    meant = _meant(kind, flag.lstrip("-").replace("-", "_"), own_value or value, flag=True)
    return InputError(f"{flag}: unknown option{meant or '; --help lists all'}")


def _meant(kind: type, name: str, value: Any, *, flag: bool) -> str:
    """The end of a message about an unknown option, or nothing: the one that was probably meant, as flag or keyword."""
    known = {name: option.flags if flag else (name,) for name, option in shown_options(kind).items()}
    usual = next((option for option, slips in SLIPS.items() if name.lower() in slips.split()), "")
    if usual in known:
        return f"; did you mean {known[usual][0]}?"
    if "hyper" in known and any(name in hyperparameters(method) for method in METHODS):
        return f"; did you mean --hyper {name}={value}?" if flag else f"; did you mean hyper={ {name: value} }?"
    if "augment" in known and name in STEPS:
        return f"; did you mean {known['augment'][0]}, with {name} among its steps?"
    spelled = "--" + name.replace("_", "-") if flag else name
    return did_you_mean(spelled, [word for words in known.values() for word in words])


class _Formatter(HelpFormatter):
    """Fits the terminal, and keeps names such as spiking-resnet18 in one line."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=24, width=min(shutil.get_terminal_size().columns - 2, WIDEST))

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(self._split_lines(" ".join(text.split()), width))


class _Parser(ArgumentParser):
    """Raises where argparse prints the usage and exits."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message.removeprefix("argument "))


def _make_parser(kind: type, values: Mapping[str, Any], usage: str, description: str) -> ArgumentParser:
    """A parser that gives the texts of the options that the command line names.

    Args:
        kind: class of the options.
        values: the values of options that the command line does not name, for the help; an option without one is
            required.
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
    known = shown_options(kind)
    grouped = {title: [name for name in names.split() if name in known] for title, names in GROUPS.items()}
    own = [name for name in known if not any(name in names for names in grouped.values())]
    for title, names in {"options": own, **grouped}.items():
        group = parser.add_argument_group(title)
        for name in names:
            _add(group, known[name], values)
    return parser


def _add(group: Any, option: Option, values: Mapping[str, Any]) -> None:
    """Add an option to a group of the parser."""
    required, help = option.name not in values, _help(option, values.get(option.name))
    if option.kind is bool:
        flag, negative = option.flags[0], option.flags[0].replace("--", "--no-")
        help += f" [on; {negative} turns it off]" * bool(values.get(option.name))
        group.add_argument(flag, dest=option.name, action="store_true", help=help)
        group.add_argument(negative, dest=option.name, action="store_false", help=SUPPRESS)
    elif option.spelling.positional:
        nargs = "+" if option.many else None if required else "?"
        group.add_argument(option.name, metavar=option.name.upper(), help=help, nargs=nargs)
    else:
        nargs = "*" if option.many else None
        group.add_argument(
            *option.flags, dest=option.name, metavar=_metavar(option), help=help, nargs=nargs, required=required
        )


def _metavar(option: Option) -> str:
    """What stands for the value: the names if they are few."""
    few = "{" + ",".join(option.names.known if option.names and not option.names.open else ()) + "}"
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
