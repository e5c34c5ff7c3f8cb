"""List the presets, or describe one.

A preset says what it trains, how long that takes, and which accuracy to expect.
"""

from dataclasses import dataclass
from typing import Annotated, Any

from sealkd_jax.programs.command_line import read_options
from sealkd_jax.programs.listing import ListOptions, print_entries, print_json
from sealkd_jax.programs.option import POSITIONAL, Names
from sealkd_jax.programs.presets import PRESETS, description

NETWORKS = "{student} from {teacher}, T = {timesteps}, {epochs} epochs"


@dataclass(frozen=True, kw_only=True)
class PresetsOptions(ListOptions):
    """Which preset."""

    name: Annotated[str | None, Names(PRESETS), POSITIONAL] = None
    """Preset to describe; a line for each if not given."""


def main(argv: list[str] | None = None) -> None:
    """Print a line for each preset, or the description of one."""
    options = read_options(PresetsOptions, __doc__ or "", argv, "presets")
    found = [facts(name) for name in PRESETS if options.name in (name, None)]
    if options.json:
        print_json(found)
    elif options.name:
        print(description(options.name).strip())
    else:
        print_entries((each["name"], each["description"], NETWORKS.format(**each)) for each in found)


def facts(name: str) -> dict[str, Any]:
    """A preset as JSON values."""
    options = PRESETS[name].distill
    shown = {field: getattr(options, field) for field in ("dataset", "student", "teacher", "timesteps", "epochs")}
    return {"name": name, **shown, "description": description(name).partition("\n")[0]}
