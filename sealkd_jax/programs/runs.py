"""The directory of a run: whether it is free, and whether a run that is resumed is the same run."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict

from sealkd_jax.data import Dataset
from sealkd_jax.errors import InputError
from sealkd_jax.programs.command_line import options_from_json
from sealkd_jax.programs.options import DistillOptions
from sealkd_jax.run_files import Config, Started, read_config
from sealkd_jax.training.checkpoints import check_path
from sealkd_jax.typed import as_type, read_json

# Options that may change when a run is resumed: where it is, what it runs on, and what it shows.
MAY_CHANGE = ("out", "resume", "parallel", "devices", "data_dir", "stream", "log", "tensorboard")


def check_out(out: Path, resume: bool) -> None:
    """Refuse a directory that is taken, or cannot hold a run, before any work is done. Writes nothing."""
    try:
        check_path(out)
    except InputError as error:
        raise InputError(f"--out {error}") from error
    try:
        # A lock, or a file that a kill left half written, does not make a run.
        taken = out.exists() and any(path.suffix != ".partial" and path.name != ".lock" for path in out.iterdir())
    except OSError as error:
        raise InputError(f"--out {out}: cannot be used as a directory: {error.strerror}") from error
    if taken and not resume:
        raise InputError(f"--out {out}: not empty; add --resume to continue it, or choose another --out")
    if taken and not (out / "config.json").exists():
        raise InputError(f"--out {out}: not empty, and no run to resume (no config.json); choose another --out")
    existing = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise InputError(f"--out {out}: cannot be made; {existing} is not a directory that can be written to")


class _Chosen(TypedDict, total=False):
    options: dict[str, Any]


def is_comparison(directory: Path) -> bool:
    """Whether a directory holds a comparison, finished or not."""
    path = directory / "config.json"
    return path.exists() and "methods" in read_json(path, _Chosen).get("options", {})


def options_as_json(preset: str, options: DistillOptions) -> dict[str, Any]:
    """What `config.json` says of the options."""
    return json.loads(json.dumps({"preset": preset} | asdict(options), default=str))


def make_config(
    out: Path, preset: str, options: DistillOptions, source: str | None, dataset: Dataset, started: Started
) -> Config:
    """What `config.json` will say. If a run is resumed, checks that it is the same run and adds the new start.

    Args:
        source: digest of the user's own teacher or logits, which may have changed under the same name.
        dataset: whose fingerprints are kept, for the same reason.
        started: `environment()` of this start.

    Raises:
        InputError: if the run that is there has other options, data or teacher, or its `config.json` is damaged.
    """
    path, chosen = out / "config.json", options_as_json(preset, options)
    data, splits = dataset.fingerprint, dataset.splits_fingerprint
    if not path.exists():
        return {"options": chosen, "source": source, "data": data, "splits": splits, **started, "resumed": []}
    config = read_config(out)
    before, known, same = config["options"], dict(config), as_type(dict[str, Any], chosen)
    for name in sorted(chosen.keys() - set(MAY_CHANGE)):
        if name not in before or before[name] != same[name]:
            raise InputError(
                f"--{name.replace('_', '-')} {chosen[name]}: {out} was started with {before.get(name, 'none')}; resume "
                "with the same options, or choose another --out"
            )
    config["resumed"].append(started)
    differences = {
        "another teacher": known["source"] != source,
        "other training data": known["data"] != data,
        "other validation or test data": known["splits"] != splits,
    }
    for what, differs in differences.items():
        if differs:
            raise InputError(f"{out} was started with {what} under that name; choose another --out")
    return config


def read_run_options(directory: Path) -> tuple[DistillOptions, Config]:
    """The options of a run, and the whole `config.json`.

    Raises:
        InputError: if its `config.json` is damaged.
    """
    config = read_config(directory)
    try:
        return options_from_json(DistillOptions, config["options"]), config
    except ValueError as error:
        raise InputError(f"{directory}/config.json: damaged: {error}") from error
