"""Export the student of a finished run: NIR, StableHLO or safetensors, with a model card.

The files go to the directory `export` of the run; docs/export.md says how other tools read each of them.
"""

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import jax

from sealkd_jax.errors import InputError, reason
from sealkd_jax.export.dialects import DIALECTS
from sealkd_jax.export.hub_card import hub_card
from sealkd_jax.export.model_card import describe_file
from sealkd_jax.export.pixels import Pixels, from_pixels
from sealkd_jax.files import make_directory, replacing, write_json
from sealkd_jax.models import Network, Variables
from sealkd_jax.programs.command_line import read_options
from sealkd_jax.programs.finished import image_shape, read_card, read_student
from sealkd_jax.programs.option import POSITIONAL, Names, Spelling
from sealkd_jax.typed import as_type, read_json
from sealkd_jax.weights.own import save_weights

FILES = {"nir": "student.nir", "stablehlo": "student.stablehlo", "safetensors": "student.safetensors"}

To = Literal["nir", "stablehlo", "safetensors"]


@dataclass(frozen=True)
class ExportOptions:
    """A finished run and a format."""

    run: Annotated[Path, POSITIONAL]
    """Directory of the run."""
    to: To | None = None
    """A graph for neuromorphic tools; one compiled timestep, for any program with jax; or the weights. If not given,
    the files that an earlier export left are made anew."""
    dialect: Annotated[str, Names(DIALECTS), Spelling(flags=("--for",))] = "generic"
    """For nir: the tool that will read the graph."""
    pixels: bool = True
    """For nir and stablehlo: take images as they are, 0 to 255, or counts of events; normalisation is inside."""


@dataclass(frozen=True)
class Exported:
    """What was written: the paths of the files and of the model card. A README.md for hubs lies beside it."""

    paths: tuple[Path, ...]
    model_card: Path

    @property
    def path(self) -> Path:
        """The path of the file, or of the last of several."""
        return self.paths[-1]


class _Made(TypedDict):
    """How a file was made, from the entry `files` of a model card."""

    to: To
    dialect: str
    pixels: bool


class _Card(TypedDict, total=False):
    files: dict[str, dict[str, Any]]


def export(run: str | Path, to: To | None = None, *, dialect: str = "generic", pixels: bool = True) -> Exported:
    """Export the student of a finished run.

    Args:
        run: directory of the run.
        to: a graph for neuromorphic tools; one compiled timestep, for any program with jax; or the weights. None:
            those files that an earlier export left, made anew as they were.
        dialect: for nir: the tool that will read the graph, a key of `DIALECTS`.
        pixels: for nir and stablehlo: take images as they are, with normalisation inside.

    Raises:
        InputError: if there is no finished run, it is damaged, or the format cannot express the network.
    """
    if to is not None and to not in FILES:
        raise InputError(f"--to {to}: expected one of {', '.join(FILES)}")
    card = read_card(Path(run))
    out = make_directory(Path(run) / "export")
    entries = _entries(out)
    chosen = _earlier(out, entries) if to is None else [_Made(to=to, dialect=dialect, pixels=pixels)]
    card["files"] = entries | {FILES[made["to"]]: describe_file(card, **made, today=date.today()) for made in chosen}
    with jax.enable_x64(card["model"]["precision"] == "float64"):
        network, variables = read_student(Path(run), card)
        for made in chosen:
            with replacing(out / FILES[made["to"]]) as partial:
                _write(made, partial, network, variables, card)
    write_json(out / "model_card.json", card)
    with replacing(out / "README.md") as partial:
        partial.write_text(hub_card(card), encoding="utf-8")
    return Exported(tuple(out / FILES[made["to"]] for made in chosen), out / "model_card.json")


def main(argv: list[str] | None = None) -> None:
    """Print the paths of what was written."""
    description = "Export the student of a finished run, with a model card beside it."
    options = read_options(ExportOptions, description, argv, "export")
    made = export(options.run, options.to, dialect=options.dialect, pixels=options.pixels)
    print(", ".join(map(str, (*made.paths, made.model_card))))


def _entries(out: Path) -> dict[str, dict[str, Any]]:
    """What the model card says of those files that are there."""
    path = out / "model_card.json"
    files = read_json(path, _Card).get("files", {}) if path.exists() else {}
    return {name: entry for name, entry in files.items() if name in FILES.values() and (out / name).exists()}


def _earlier(out: Path, entries: dict[str, dict[str, Any]]) -> list[_Made]:
    """How the files were made that are there.

    Raises:
        InputError: if there are none, or their card does not say.
    """
    if not entries:
        raise InputError(f"{out}: nothing to make anew; choose a format with --to: {', '.join(FILES)}")
    try:
        return [as_type(_Made, {name: entry[name] for name in _Made.__annotations__}) for entry in entries.values()]
    except (KeyError, ValueError) as error:
        raise InputError(f"{out / 'model_card.json'}: damaged: files: {reason(error)}; remove {out}") from error


def _write(made: _Made, path: Path, network: Network, variables: Variables, card: dict[str, Any]) -> None:
    """Write one file.

    Raises:
        InputError: for a package that is not installed, or a network that the format cannot express.
    """
    shape, pixels = image_shape(card), Pixels.of_card(card) if made["pixels"] else None
    try:
        if made["to"] == "nir":
            import nir

            from sealkd_jax.export.nir_graph import write_nir
            from sealkd_jax.export.student_graph import student_graph

            graph = student_graph(network, variables, shape)
            nir.write(path, write_nir(from_pixels(graph, pixels) if pixels else graph, made["dialect"]))
        elif made["to"] == "stablehlo":
            from sealkd_jax.export.streaming import export_step

            path.write_bytes(export_step(network, variables, shape, pixels=pixels).serialize())
        else:
            save_weights(path, variables, {"model_card": card})
    except ImportError as error:
        message = f'--to {made["to"]}: a package is missing ({error}); pip install "sealkd-jax[export]"'
        raise InputError(message) from error
