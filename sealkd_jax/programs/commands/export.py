"""Exports the student of a finished run: `python -m train.export RUN --to {nir,stablehlo,safetensors}`.

Writes into RUN/export, always with the model card beside it; docs/export.md says how each is read elsewhere.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np

from sealkd_jax.errors import InputError
from sealkd_jax.export.card import model_card
from sealkd_jax.files import replacing, write_json
from sealkd_jax.models import Network, Variables, create_student
from sealkd_jax.programs.command_line import read_options
from sealkd_jax.programs.option import POSITIONAL
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


def main(argv: list[str] | None = None) -> None:
    """Prints what was written."""
    about = "Exports the student of a finished run, with a model card beside it."
    options = read_options(ExportOptions, about, argv, "export")
    card = read_card(options.run)
    with jax.enable_x64(card["model"]["precision"] == "float64"):
        network, variables = read_student(options.run, card)
        out = options.run / "export"
        out.mkdir(exist_ok=True)
        with replacing(out / FILES[options.to]) as partial:
            _write(options.to, partial, network, variables, card)
    write_json(out / "model_card.json", card)
    print(f"{out / FILES[options.to]}, {out / 'model_card.json'}")


def read_card(directory: Path) -> dict[str, Any]:
    """The model card of a run.

    Raises:
        InputError: if there is no run, or it is not finished, damaged, or of an earlier version.
    """
    if not (directory / "summary.json").exists():
        raise InputError(f"{directory}: no finished run there (no summary.json); make one with train.distill")
    try:
        config, summary = (json.loads((directory / f"{name}.json").read_text()) for name in ("config", "summary"))
        return model_card(config, summary)
    except KeyError as error:
        raise InputError(
            f"{directory}: damaged, or of an earlier version: {error} is missing; "
            "train.distill with its options and --resume writes it anew"
        ) from error
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{directory}: damaged: {error}") from error


def read_student(directory: Path, card: dict[str, Any]) -> tuple[Network, Variables]:
    """The student that the card describes, with the weights that the run reported.

    Raises:
        InputError: if they are damaged, or not those of the card.
    """
    choices = dict(card["model"])
    network = create_student(choices.pop("student"), len(card["data"]["classes"]), **choices)
    image = jax.ShapeDtypeStruct((1, *_image_shape(card)), np.float32)
    like = jax.eval_shape(network.init, jax.random.key(0), image)
    path = directory / "weights.safetensors"
    variables = load_weights(path, like)
    if params_digest(variables) != card["params_digest"]:
        raise InputError(f"{path}: not the weights of summary.json (params_digest differs); train the run again")
    return network, variables


def _image_shape(card: dict[str, Any]) -> tuple[int, int, int]:
    return card["input"]["height"], card["input"]["width"], card["input"]["channels"]


def _write(to: str, path: Path, network: Network, variables: Variables, card: dict[str, Any]) -> None:
    """Writes one file.

    Raises:
        InputError: for a package that is not installed, or a network that the format cannot say.
    """
    try:
        if to == "nir":
            import nir

            from sealkd_jax.export.nir_graph import to_nir

            nir.write(path, to_nir(network, variables, _image_shape(card)))
        elif to == "stablehlo":
            from sealkd_jax.export.streaming import export_step

            path.write_bytes(export_step(network, variables, _image_shape(card)).serialize())
        else:
            save_weights(path, variables, {"model_card": card})
    except ImportError as error:
        raise InputError(f'--to {to}: a package is missing ({error}); pip install -e ".[export]"') from error
