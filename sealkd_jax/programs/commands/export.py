"""Export the student of a finished run: NIR, StableHLO or safetensors, with a model card.

The files go to the directory `export` of the run; docs/export.md says how other tools read each of them.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np

from sealkd_jax.errors import InputError
from sealkd_jax.export.dialects import DIALECTS
from sealkd_jax.export.model_card import model_card
from sealkd_jax.files import make_directory, replacing, write_json
from sealkd_jax.models import Network, Variables, create_student
from sealkd_jax.programs.command_line import read_options
from sealkd_jax.programs.commands import command
from sealkd_jax.programs.option import POSITIONAL, Names, Spelling
from sealkd_jax.programs.runs import read_run_options
from sealkd_jax.run_files import read_summary
from sealkd_jax.training import params_digest
from sealkd_jax.weights.own import load_weights, save_weights

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


def read_card(directory: Path) -> dict[str, Any]:
    """The model card of a run.

    Raises:
        InputError: if there is no run, or it is unfinished or damaged.
    """
    if not (directory / "summary.json").exists():
        raise InputError(f"{directory}: no finished run there (no summary.json); make one with {command('distill')}")
    options, config = read_run_options(directory)
    return model_card({**config, "options": asdict(options)}, read_summary(directory))


def read_student(directory: Path, card: dict[str, Any]) -> tuple[Network, Variables]:
    """The student that the card describes, with the weights of the run.

    Raises:
        InputError: if the weights are damaged, or not those of the card.
    """
    choices = dict(card["model"])
    network = create_student(choices.pop("student"), len(card["data"]["classes"]), **choices)
    image = jax.ShapeDtypeStruct((1, *_image_shape(card)), np.float32)
    path = directory / "weights.safetensors"
    variables = load_weights(path, jax.eval_shape(network.init, jax.random.key(0), image))
    if params_digest(variables) != card["params_digest"]:
        raise InputError(f"{path}: not the weights of summary.json (params_digest differs); train the run again")
    return network, variables


def _image_shape(card: dict[str, Any]) -> tuple[int, int, int]:
    return card["input"]["height"], card["input"]["width"], card["input"]["channels"]


def _write(to: str, path: Path, network: Network, variables: Variables, card: dict[str, Any], dialect: str) -> None:
    """Write one file.

    Raises:
        InputError: for a package that is not installed, or a network that the format cannot express.
    """
    try:
        if to == "nir":
            import nir

            from sealkd_jax.export.nir_graph import to_nir

            nir.write(path, to_nir(network, variables, _image_shape(card), dialect=dialect))
        elif to == "stablehlo":
            from sealkd_jax.export.streaming import export_step

            path.write_bytes(export_step(network, variables, _image_shape(card)).serialize())
        else:
            save_weights(path, variables, {"model_card": card})
    except ImportError as error:
        raise InputError(f'--to {to}: a package is missing ({error}); pip install "sealkd-jax[export]"') from error
