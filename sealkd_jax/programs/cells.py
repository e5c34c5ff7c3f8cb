"""The cells of a comparison: one method with its options each.

The key of a cell holds everything that its result follows from.
"""

from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from itertools import product
from typing import Any, NamedTuple

from sealkd_jax.data import Dataset
from sealkd_jax.errors import InputError, did_you_mean
from sealkd_jax.files import sha256
from sealkd_jax.losses import METHODS, hyperparameters, needs_teacher
from sealkd_jax.parallel.sharding import Parallel, pick_devices
from sealkd_jax.programs.command_line import as_kind, check
from sealkd_jax.programs.option import options_of
from sealkd_jax.programs.options import CompareOptions, DataOptions, DistillOptions
from sealkd_jax.programs.plans import bind_method, make_plan
from sealkd_jax.programs.ready_teacher import Teacher
from sealkd_jax.programs.runs import MAY_CHANGE
from sealkd_jax.training import Plan

# Options that do not change from cell to cell: where and on what it runs, what is compared, and against which teacher.
FIXED = (
    *(field.name for field in fields(DataOptions) if field.name != "timesteps"),
    *MAY_CHANGE,
    "method",
    "hyper",
    "seed",
    "teacher",
    "teacher_width",
    "teacher_sees",
    "teacher_logits",
    "scale",
    "train_examples",
    "precision",
)


class Cell(NamedTuple):
    """One method with its options. `swept` holds its values of `--sweep`, as they were written."""

    name: str
    swept: dict[str, str]
    options: DistillOptions
    plan: Plan
    parallel: Parallel


def make_cells(options: CompareOptions, dataset: Dataset) -> list[Cell]:
    """Every method with every combination of the swept options that it has.

    A hyper-parameter is varied for the methods that have it; the others have one cell.

    Raises:
        InputError: for an unknown method, option or hyper-parameter, or a value that does not fit.
    """
    methods = list(dict.fromkeys(options.methods.split(",")))
    if unknown := [method for method in methods if method not in METHODS]:
        nearest = did_you_mean(unknown[0], METHODS)
        raise InputError(f"--methods {unknown[0]}: unknown; expected some of {','.join(METHODS)}{nearest}")
    known = {name for method in methods for name in hyperparameters(method)}
    sweeps = _read_sweeps(options.sweep, known)
    for item in options.hyper:
        if item.partition("=")[0] not in known:
            nearest = did_you_mean(item.partition("=")[0], known)
            raise InputError(
                f"--hyper {item}: expected NAME=VALUE; these methods have {', '.join(sorted(known))}{nearest}"
            )
    return [cell for method in methods for cell in _cells_of(method, sweeps, options, dataset)]


def _options_to_sweep() -> list[str]:
    return [field.name for field in fields(DistillOptions) if field.name not in FIXED]


def _read_sweeps(sweep: Sequence[str], known: set[str]) -> dict[str, list[str]]:
    """The values of each option or hyper-parameter, as they are written."""
    varied, sweeps = _options_to_sweep(), {}
    for item in sweep:
        name, _, texts = (part.strip() for part in item.partition("="))
        name = name.replace("-", "_")
        if name not in {*varied, *known} or "" in texts.split(",") or name in sweeps:
            raise InputError(
                f"--sweep {item}: expected NAME=VALUE,VALUE, each NAME once, of "
                f"{', '.join(sorted(known))} (hyper-parameters of these methods), {', '.join(varied)}"
            )
        sweeps[name] = list(dict.fromkeys(texts.split(",")))
    return sweeps


def _cells_of(method: str, sweeps: dict[str, list[str]], options: CompareOptions, dataset: Dataset) -> list[Cell]:
    """The cells of one method."""
    own, cells = hyperparameters(method), []
    names = [name for name in sweeps if name in own or name in _options_to_sweep()]
    for values in product(*(sweeps[name] for name in names)):
        swept = dict(zip(names, values, strict=True))
        hyper = [item for item in options.hyper if item.partition("=")[0] in own]
        hyper += [f"{name}={text}" for name, text in swept.items() if name in own]
        known = options_of(DistillOptions)
        changes = {name: known[name].read(text) for name, text in swept.items() if name not in own}
        chosen = replace(as_kind(DistillOptions, options), method=method, hyper=tuple(hyper), **changes)
        check(chosen)
        devices = pick_devices(chosen.devices, chosen.batch_size, chosen.accumulate)
        name = " ".join([method, *(f"{name}={text}" for name, text in swept.items())])
        cells.append(Cell(name, swept, chosen, make_plan(chosen, dataset), Parallel(chosen.parallel, devices)))
    return cells


def cache_key(cell: Cell, seeds: Sequence[int], teacher: Teacher | None, dataset: Dataset) -> dict[str, Any]:
    """Everything that a cell's result follows from, as JSON values."""
    options = asdict(cell.options)
    for name in {*FIXED, "hyper", "seed"} - {"method", "precision"}:
        options.pop(name, None)
    source = None
    if needs_teacher(cell.options.method):
        own = cell.options.teacher_logits
        source = sha256(own) if own is not None else teacher.digest if teacher else None
    hyper = hyperparameters(cell.options.method) | bind_method(cell.options.method, cell.options.hyper).keywords
    return {
        "options": options,
        "hyper": hyper,
        "seeds": list(seeds),
        "teacher": source,
        "data": dataset.splits_fingerprint,
    }
