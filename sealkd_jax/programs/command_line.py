"""From a command line to typed options, and their ranges."""

import sys
from collections.abc import Callable
from dataclasses import fields
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import tyro

from sealkd_jax.errors import InputError
from sealkd_jax.programs.options import Preset, TrainingOptions
from sealkd_jax.programs.presets import DEFAULT, PRESETS


def parse(
    options: Literal["distill", "teacher"],
    description: str,
    argv: list[str] | None,
    *,
    program: str | None = None,
    kind: type[TrainingOptions] | None = None,
) -> tuple[str, Preset]:
    """Reads `[PRESET] [--option value …]`: the preset's name, and the preset with those options changed.

    `program` is that of `options` where not given. `kind` adds options of its own, with defaults, to the preset's.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    name = argv.pop(0) if argv and not argv[0].startswith("-") else DEFAULT
    if name not in PRESETS:
        raise InputError(f"preset {name!r}: unknown; expected one of {', '.join(PRESETS)}")
    preset = PRESETS[name]
    default = getattr(preset, options)
    if kind is not None:
        default = as_kind(kind, default)
    usage = f"{description} A preset may come first: {', '.join(PRESETS)}; "
    chosen = tyro.cli(
        type(default),
        prog=f"python -m train.{program or options}",
        default=default,
        args=argv,
        description=f"{usage}the values below are those of {name}.",
    )
    check(chosen)
    return name, preset._replace(**{options: chosen})


def as_kind(kind: type[TrainingOptions], options: TrainingOptions) -> Any:
    """These options as another kind: what it does not know is dropped, what it adds has its default."""
    known = {field.name for field in fields(kind)} & {field.name for field in fields(options)}
    return kind(**{name: getattr(options, name) for name in known})


def check(options: Any) -> None:
    """Ranges that the types of a program's options do not say.

    Raises:
        InputError: for a value outside.
    """
    ranges: dict[str, tuple[str, Callable[[Any], bool]]] = {
        "epochs": ("at least 1", lambda x: x >= 1),
        "batch_size": ("at least 1", lambda x: x >= 1),
        "learning_rate": ("a positive number", lambda x: 0 < x < float("inf")),
        "weight_decay": ("0 or a positive number", lambda x: 0 <= x < float("inf")),
        "warmup_epochs": ("at least 0", lambda x: x >= 0),
        "crop": ("at least 0", lambda x: x >= 0),
        "resized_crop": ("a number from 0 to 1", lambda x: 0 <= x <= 1),
        "cutout": ("at least 0", lambda x: x >= 0),
        "roll": ("at least 0", lambda x: x >= 0),
        "nda": ("at least 0", lambda x: x >= 0),
        "time_shift": ("at least 0", lambda x: x >= 0),
        "event_drop": ("a number from 0 to 1", lambda x: 0 <= x <= 1),
        "frame_size": ("at least 1", lambda x: x is None or x >= 1),
        "image_size": ("at least 1", lambda x: x >= 1),
        "seed": ("0 to 2**32 - 1", lambda x: 0 <= x < 2**32),
        "view_seed": ("0 to 2**32 - 1", lambda x: 0 <= x < 2**32),
        "timesteps": ("at least 1", lambda x: np.min(x) >= 1),
        "num_processes": ("at least 1", lambda x: x is None or x >= 1),
        "process_id": ("at least 0", lambda x: x is None or x >= 0),
        "calls": ("at least 1", lambda x: x >= 1),
        "size": ("at least 8", lambda x: x >= 8),
        "shares": ("at least 1", lambda x: np.min(x) >= 1),
        "accumulate": ("at least 1", lambda x: x >= 1),
        "views": ("at least 1", lambda x: x >= 1),
        "train_examples": ("at least 1", lambda x: x is None or x >= 1),
        "decay": ("a number between 0 and 1", lambda x: 0 < x < 1),
        "repeats": ("at least 1", lambda x: x >= 1),
        "width": ("a positive number", lambda x: 0 < x < float("inf")),
        "teacher_width": ("a positive number", lambda x: 0 < x < float("inf")),
        "seeds": ("at least 1", lambda x: x >= 1),
        "seeds_at_once": ("at least 1", lambda x: x is None or x >= 1),
    }
    for field in fields(options):
        value = getattr(options, field.name)
        expected, holds = ranges.get(field.name, ("", lambda _: True))
        if not holds(value):
            given = " ".join(map(str, value)) if isinstance(value, tuple) else value
            raise InputError(f"--{field.name.replace('_', '-')} {given}: expected {expected}")
    if getattr(options, "tensorboard", False) and find_spec("tensorboardX") is None:
        raise InputError('--tensorboard: needs tensorboardX: pip install -e ".[tensorboard]"')
