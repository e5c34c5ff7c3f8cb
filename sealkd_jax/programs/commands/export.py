"""Export the student of a finished run: NIR, StableHLO or safetensors, with a model card.

The files go to the directory `export` of the run; docs/export.md says how other tools read each of them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import jax

from sealkd_jax.errors import InputError
from sealkd_jax.export.dialects import DIALECTS
from sealkd_jax.files import make_directory, replacing, write_json
from sealkd_jax.models import Network, Variables
from sealkd_jax.programs.command_line import read_options
from sealkd_jax.programs.finished import image_shape, read_card, read_student
from sealkd_jax.programs.option import POSITIONAL, Names, Spelling
from sealkd_jax.weights.own import save_weights

FILES = {"nir": "student.nir", "stablehlo": "student.stablehlo", "safetensors": "student.safetensors"}


@dataclass(frozen=True)
class ExportOptions:
    """A finished run and a format."""

    run: Annotated[Path, POSITIONAL]
    """Directory of the run."""
    to: Literal["nir", "stablehlo", "safetensors"]
    """A graph for neuromorphic tools; one compiled timestep, for any program with jax; or the weights."""
    dialect: Annotated[str, Names(DIALECTS), Spelling(flags=("--for",))] = "generic"
    """For nir: the tool that will read the graph."""


@dataclass(frozen=True)
class Exported:
    """What was written: the paths of the student and of its model card."""

    path: Path
    model_card: Path


def export(run: str | Path, to: Literal["nir", "stablehlo", "safetensors"], *, dialect: str = "generic") -> Exported:
    """Export the student of a finished run.

    Args:
        run: directory of the run.
        to: a graph for neuromorphic tools; one compiled timestep, for any program with jax; or the weights.
        dialect: for nir: the tool that will read the graph, a key of `DIALECTS`.

    Raises:
        InputError: if there is no finished run, it is damaged, or the format cannot express the network.
    """
    if to not in FILES:
        raise InputError(f"--to {to}: expected one of {', '.join(FILES)}")
    card = read_card(Path(run))
    with jax.enable_x64(card["model"]["precision"] == "float64"):
        network, variables = read_student(Path(run), card)
        out = make_directory(Path(run) / "export")
        with replacing(out / FILES[to]) as partial:
            _write(to, partial, network, variables, card, dialect)
    write_json(out / "model_card.json", card)
    return Exported(out / FILES[to], out / "model_card.json")


def main(argv: list[str] | None = None) -> None:
    """Print the paths of what was written."""
    description = "Export the student of a finished run, with a model card beside it."
    options = read_options(ExportOptions, description, argv, "export")
    made = export(options.run, options.to, dialect=options.dialect)
    print(f"{made.path}, {made.model_card}")


def _write(to: str, path: Path, network: Network, variables: Variables, card: dict[str, Any], dialect: str) -> None:
    """Write one file.

    Raises:
        InputError: for a package that is not installed, or a network that the format cannot express.
    """
    try:
        if to == "nir":
            import nir

            from sealkd_jax.export.nir_graph import to_nir

            nir.write(path, to_nir(network, variables, image_shape(card), dialect=dialect))
        elif to == "stablehlo":
            from sealkd_jax.export.streaming import export_step

            path.write_bytes(export_step(network, variables, image_shape(card)).serialize())
        else:
            save_weights(path, variables, {"model_card": card})
    except ImportError as error:
        raise InputError(f'--to {to}: a package is missing ({error}); pip install "sealkd-jax[export]"') from error
