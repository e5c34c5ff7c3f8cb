"""The files of an export: how each one is made, and the test images that it needs."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, TypedDict

import jax
import jax.numpy as jnp
import numpy as np

from sealkd_jax.data import Dataset, normalise, take
from sealkd_jax.diagnostics import accuracy_by_timestep
from sealkd_jax.errors import InputError
from sealkd_jax.export.eight_bits import to_eight_bits
from sealkd_jax.export.pixels import Pixels, from_pixels
from sealkd_jax.export.student_graph import student_graph
from sealkd_jax.files import replacing
from sealkd_jax.models import Network
from sealkd_jax.models.graph import Graph, GraphNet
from sealkd_jax.programs.data import load_dataset
from sealkd_jax.programs.finished import FinishedRun, image_shape
from sealkd_jax.programs.runs import read_run_options
from sealkd_jax.weights.own import save_weights

FILES = {
    "nir": "student.nir",
    "onnx": "student.onnx",
    "onnx-step": "student_step.onnx",
    "stablehlo": "student.stablehlo",
    "safetensors": "student.safetensors",
}
IN_EIGHT_BITS = ("nir", "onnx", "onnx-step")

To = Literal["nir", "onnx", "onnx-step", "stablehlo", "safetensors"]
Bits = Literal["float", "int8"]


class Made(TypedDict):
    """How a file is made, from the entry `files` of a model card."""

    to: To
    dialect: str
    pixels: bool
    weights: Bits
    examples: int


@dataclass(frozen=True)
class Source:
    """A finished run, as its files are made from it."""

    run: FinishedRun

    @cached_property
    def data(self) -> Dataset:
        """The data set of the run, whose test split is the one that it was tested on."""
        options, config = read_run_options(self.run.directory)
        try:
            data = load_dataset(options)
        except InputError as error:
            raise InputError(f"{error} (--examples 0 needs no data)") from error
        if data.splits_fingerprint != config["splits"]:
            expected = "expected the same, or --examples 0"
            raise InputError(f"{self.run.directory}: {data.name} is not the data of this run; {expected}")
        return data

    def test_images(self, first: int | None = None) -> np.ndarray:
        """The first test images, or all, not normalised."""
        return take(self.data.test.images, np.arange(len(self.data.test.labels))[:first])

    def graph(self, made: Made) -> Graph:
        """The student as a graph, in eight bits and for raw images where asked."""
        graph = student_graph(self.run.network, self.run.variables, image_shape(self.run.card))
        if made["pixels"]:
            graph = from_pixels(graph, Pixels.of_card(self.run.card))
        return to_eight_bits(graph) if made["weights"] == "int8" else graph

    def in_eight_bits(self) -> "Source":
        """The run with a student whose weights are rounded, for normalised images."""
        run = self.run
        graph = self.graph(Made(to="nir", dialect="generic", pixels=False, weights="int8", examples=0))
        dtype = run.network.module.param_dtype
        network, image = Network(GraphNet(graph, dtype=dtype, param_dtype=dtype)), (1, *image_shape(run.card))
        return Source(replace(run, network=network, variables=network.init(jax.random.key(0), jnp.zeros(image, dtype))))

    def accuracy_by_timestep(self) -> list[float]:
        """On the test split, after 1 to T timesteps."""
        logits = self.run.logits(self.test_images())
        return np.asarray(accuracy_by_timestep(logits, self.data.test.labels)).tolist()


def write_file(source: Source, made: Made, out: Path) -> None:
    """Write one file of an export into `out`, and what belongs to it.

    Raises:
        InputError: for a package that is not installed, a network that the format cannot express, or data that is
            missing.
    """
    try:
        with replacing(out / FILES[made["to"]]) as partial:
            _write(source, made, partial)
        if made["to"] == "nir" and made["examples"]:
            _write_examples(source, made, out)
    except ImportError as error:
        message = f'--to {made["to"]}: a package is missing ({error}); pip install "sealkd-jax[export]"'
        raise InputError(message) from error


def _write(source: Source, made: Made, path: Path) -> None:
    run = source.run
    if made["to"] == "nir":
        import nir

        from sealkd_jax.export.nir_graph import write_nir

        nir.write(path, write_nir(source.graph(made), made["dialect"]))
    elif made["to"] == "safetensors":
        save_weights(path, run.variables, {"model_card": run.card})
    elif made["to"] == "stablehlo":
        from sealkd_jax.export.streaming import export_step

        pixels = Pixels.of_card(run.card) if made["pixels"] else None
        path.write_bytes(export_step(run.network, run.variables, image_shape(run.card), pixels=pixels).serialize())
    else:
        from sealkd_jax.export.onnx_graph import step_to_onnx, to_onnx

        images = Pixels.of_card(run.card).dtype if made["pixels"] else None
        frames = run.card["input"]["frames"] is not None
        graph = source.graph(made)
        whole = made["to"] == "onnx"
        model = to_onnx(graph, run.timesteps, frames=frames, images=images) if whole else step_to_onnx(graph, images)
        path.write_bytes(model.SerializeToString())


def _write_examples(source: Source, made: Made, out: Path) -> None:
    import nir

    from sealkd_jax.export.nir_data import DATA, example_data

    run = source.in_eight_bits().run if made["weights"] == "int8" else source.run
    images = source.test_images(made["examples"])
    mean, std = (jnp.asarray(run.card["input"][name], run.network.module.param_dtype) for name in ("mean", "std"))
    normalised = np.asarray(normalise(jnp.asarray(images), mean, std))
    if images.ndim == 5:  # time first
        images, normalised = images.swapaxes(0, 1), normalised.swapaxes(0, 1)
    shown = images.astype(normalised.dtype) if made["pixels"] else normalised
    data = example_data(run.network, run.variables, normalised, run.timesteps, shown=shown)
    with replacing(out / DATA) as partial:
        nir.write_data(partial, data)
