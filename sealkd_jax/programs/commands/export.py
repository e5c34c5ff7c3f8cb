"""Export the student of a finished run: NIR, ONNX, StableHLO or safetensors, with a model card.

The files go to the directory `export` of the run; docs/export.md says how other tools read each of them.
"""

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, TypedDict

from sealkd_jax.errors import InputError, reason
from sealkd_jax.export.dialects import DIALECTS
from sealkd_jax.export.hub_card import hub_card
from sealkd_jax.export.model_card import describe_file
from sealkd_jax.files import make_directory, replacing, write_json
from sealkd_jax.programs.command_line import read_options
from sealkd_jax.programs.data import select_fields
from sealkd_jax.programs.environment import computing
from sealkd_jax.programs.export_files import FILES, IN_EIGHT_BITS, Bits, Made, Source, To, write_file
from sealkd_jax.programs.finished import load_run
from sealkd_jax.programs.option import POSITIONAL, Names, Spelling
from sealkd_jax.typed import as_type, at_least, read_json

MOST_DIFFERENT = 1e-3  # share of a layer's spikes that rounding may change


@dataclass(frozen=True)
class ExportOptions:
    """A finished run and a format; or an export to check."""

    run: Annotated[Path | None, POSITIONAL] = None
    """Directory of the run."""
    to: To | None = None
    """A graph for neuromorphic tools; all timesteps, or one, for ONNX Runtime; one compiled timestep, for any program
    with jax; or the weights. If not given, the formats of the earlier export are written again."""
    dialect: Annotated[str, Names(DIALECTS), Spelling(flags=("--for",))] = "generic"
    """For nir: the tool that will read the graph."""
    pixels: bool = True
    """For all but safetensors: take images as they are, 0 to 255, or counts of events; normalisation is inside."""
    weights: Bits = "float"
    """int8: kernels in eight bits with a scale for each output channel, for nir and onnx."""
    examples: Annotated[int, at_least(0, 1000)] = 10
    """For nir: number of test examples that are written beside the graph, with their spikes and logits."""
    check: Annotated[Path | None, Spelling(metavar="DIR")] = None
    """Run the NIR graph in this directory on the examples beside it, and print what differs."""


@dataclass(frozen=True)
class Exported:
    """What was written: the paths of the files and of the model card. A README.md for hubs lies beside it."""

    paths: tuple[Path, ...]
    model_card: Path

    @property
    def path(self) -> Path:
        """The path of the file, or of the last of several."""
        return self.paths[-1]


class _Card(TypedDict, total=False):
    files: dict[str, dict[str, Any]]


def export(
    run: str | Path,
    to: To | None = None,
    *,
    dialect: str = "generic",
    pixels: bool = True,
    weights: Bits = "float",
    examples: int = 10,
) -> Exported:
    """Export the student of a finished run.

    Args:
        run: directory of the run.
        to: a graph for neuromorphic tools; all timesteps, or one, for ONNX Runtime; one compiled timestep, for any
            program with jax; or the weights. None: the formats of the earlier export, with its options.
        dialect: for nir: the tool that will read the graph, a key of `DIALECTS`.
        pixels: for all but safetensors: take images as they are, with normalisation inside.
        weights: `int8`: kernels in eight bits, for nir and onnx. The data set of the run is read to test them, and the
            card has the accuracy.
        examples: for nir: number of test examples beside the graph; 0: none, and the data set is not read.

    Raises:
        InputError: if there is no finished run, it is damaged, its data is missing, or the format cannot express the
            network.
    """
    if to is not None and to not in FILES:
        raise InputError(f"--to {to}: expected one of {', '.join(FILES)}")
    if weights == "int8" and to is not None and to not in IN_EIGHT_BITS:
        raise InputError(f"--weights int8: not for {to}; expected one of {', '.join(IN_EIGHT_BITS)}")
    source = Source(load_run(run))
    card = source.run.card
    out = make_directory(Path(run) / "export")
    entries = _entries(out)
    made = Made(to=to or "nir", dialect=dialect, pixels=pixels, weights=weights, examples=examples)
    chosen = _earlier(out, entries) if to is None else [made]
    card["files"] = entries | {FILES[made["to"]]: describe_file(card, **made, today=date.today()) for made in chosen}
    with computing(card["model"]["precision"]):
        if any(made["weights"] == "int8" for made in chosen):
            accuracy = source.in_eight_bits().accuracy_by_timestep()
            for made in chosen:
                if made["weights"] == "int8":
                    card["files"][FILES[made["to"]]]["accuracy_by_timestep"] = accuracy
        for made in chosen:
            write_file(source, made, out)
    write_json(out / "model_card.json", card)
    with replacing(out / "README.md") as partial:
        partial.write_text(hub_card(card), encoding="utf-8")
    return Exported(tuple(out / FILES[made["to"]] for made in chosen), out / "model_card.json")


def check(directory: str | Path) -> Any:
    """Run an exported NIR graph on the examples beside it, in NIR's equations, and return what differs.

    Args:
        directory: `export` of a run.

    Returns:
        A `sealkd_jax.export.nir_data.Replay`.

    Raises:
        InputError: if a file is missing or damaged, or the graph is for a reader that has other equations.
    """
    try:
        from sealkd_jax.export.nir_data import replay
    except ImportError as error:
        raise InputError(f'--check: a package is missing ({error}); pip install "sealkd-jax[export]"') from error
    return replay(Path(directory))


def main(argv: list[str] | None = None) -> None:
    """Print the paths of what was written, or what a check found."""
    description = "Export the student of a finished run, with a model card beside it."
    options = read_options(ExportOptions, description, argv, "export")
    if options.check is not None:
        _print_check(options.check)
        return
    if options.run is None:
        raise InputError("run: none given; expected the directory of a run, or --check with that of an export")
    kwargs: Any = select_fields(ExportOptions, options)
    del kwargs["check"]
    made = export(**kwargs)
    print(", ".join(map(str, (*made.paths, made.model_card))))


def _print_check(directory: Path) -> None:
    """Print a line for each layer, and refuse a graph that gives other spikes or classes than it should."""
    found = check(directory)
    for layer, different, spikes in found.layers:
        print(f"{layer}: {different} of {spikes} spikes differ")
    print(f"logits differ by at most {found.logits:.1e}; {found.other_classes} of {found.examples} classes differ")
    worst = max((layer.different / layer.spikes for layer in found.layers), default=0.0)
    if worst > MOST_DIFFERENT or found.other_classes:
        raise InputError(f"{directory}: the graph does not give what its examples say; export it again")


def _entries(out: Path) -> dict[str, dict[str, Any]]:
    """What the model card says of those files that are there."""
    path = out / "model_card.json"
    files = read_json(path, _Card).get("files", {}) if path.exists() else {}
    return {name: entry for name, entry in files.items() if name in FILES.values() and (out / name).exists()}


def _earlier(out: Path, entries: dict[str, dict[str, Any]]) -> list[Made]:
    """How the files were made that are there.

    Raises:
        InputError: if there are none, or their card does not say.
    """
    if not entries:
        raise InputError(f"{out}: nothing to export again; choose a format with --to: {', '.join(FILES)}")
    try:
        return [as_type(Made, {name: entry[name] for name in Made.__annotations__}) for entry in entries.values()]
    except (KeyError, ValueError) as error:
        raise InputError(f"{out / 'model_card.json'}: damaged: files: {reason(error)}; remove {out}") from error
