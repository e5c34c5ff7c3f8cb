"""A finished run: its model card, its student, and what the student says of new examples.

Axis legend: T timesteps, N examples, H height, W width, C channels of images and classes of logits.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sealkd_jax.data import normalise
from sealkd_jax.diagnostics import accumulate, early_exit
from sealkd_jax.errors import InputError
from sealkd_jax.export.model_card import model_card
from sealkd_jax.models import Network, Variables
from sealkd_jax.programs.commands import command
from sealkd_jax.programs.environment import computing
from sealkd_jax.programs.examples import Example, Format, read_examples
from sealkd_jax.programs.networks import named_student
from sealkd_jax.programs.runs import read_run_options
from sealkd_jax.run_files import read_summary
from sealkd_jax.weights.own import load_weights, params_digest

BATCH = 64  # examples in memory and on the device at a time


class Predictions(NamedTuple):
    """What a student says of N examples.

    Attributes:
        names: of the examples: the file, with the place in it if it holds several.
        classes: names of the classes.
        probabilities: float32 `[T, N, C]`, after 1 to T timesteps.
        answers: `[N]`, the class that each example ends with.
        timesteps: `[N]`, the number of timesteps that this took.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    probabilities: np.ndarray
    answers: np.ndarray
    timesteps: np.ndarray


@dataclass(frozen=True)
class FinishedRun:
    """A finished run.

    Attributes:
        directory: of the run.
        card: its model card: data, input, method, accuracy; see `sealkd_jax.export.model_card`.
        network: the student.
        variables: its weights.
        format: what its examples look like.
    """

    directory: Path
    card: dict[str, Any]
    network: Network
    variables: Variables
    format: Format

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits."""
        return tuple(self.card["data"]["classes"])

    @property
    def timesteps(self) -> int:
        """T, the number of timesteps."""
        return self.card["timesteps"]

    def logits(self, images: np.ndarray) -> np.ndarray:
        """The logits of each timestep, `[T, N, C]`.

        Args:
            images: as in the data set of the run, not normalised: uint8 `[N, H, W, C]`, or frames of events, uint8 or
                uint16 `[N, T, H, W, 2]`.

        Raises:
            InputError: for images of another type or size.
        """
        self.format.check("images", np.asarray(images))
        blocks = [self._logits(images[first : first + BATCH]) for first in range(0, len(images), BATCH)]
        return np.concatenate(blocks, 1)

    def predict(self, files: str | Path | Iterable[str | Path], exit_at: float | None = None) -> Predictions:
        """Predictions for files: pictures, arrays (`.npz`, `.npy`), or for a run on events its kind of recordings.

        Args:
            files: one or several. A picture becomes an image of the run's size.
            exit_at: confidence, 0 to 1, at which an example stops early; None: each takes all T timesteps.

        Raises:
            InputError: for a file that is missing, damaged, or of another kind than the run's data.
        """
        paths = [files] if isinstance(files, str | Path) else list(files)
        names, blocks = list[str](), list[np.ndarray]()
        for batch in _batches(read_examples(map(Path, paths), self.format)):
            names += [example.name for example in batch]
            blocks.append(self._logits(np.stack([example.image for example in batch])))
        if not blocks:
            raise InputError("files: none; expected a picture, arrays or a recording")
        logits = jnp.asarray(np.concatenate(blocks, 1))
        found = early_exit(logits, np.inf if exit_at is None else exit_at)
        probabilities = np.asarray(jax.nn.softmax(accumulate(logits)))
        return Predictions(
            tuple(names), self.classes, probabilities, np.asarray(found.predictions), np.asarray(found.timesteps)
        )

    def _logits(self, images: np.ndarray) -> np.ndarray:
        """Logits `[T, N, C]` of at most `BATCH` images, whose batch is filled up, so that one program serves all."""
        rows = np.minimum(np.arange(BATCH), len(images) - 1)
        with computing(self.card["model"]["precision"]):
            return np.asarray(self._compiled(self.variables, images[rows]), np.float32)[:, : len(images)]

    @cached_property
    def _compiled(self) -> Any:
        mean, std = (np.array(self.card["input"][name]) for name in ("mean", "std"))

        @jax.jit
        def logits(variables: Variables, images: jax.Array) -> jax.Array:
            x = normalise(images, jnp.asarray(mean), jnp.asarray(std))
            x = jnp.swapaxes(x, 0, 1) if x.ndim == 5 else x
            return self.network.predict(variables, x, timesteps=self.timesteps)

        return logits


def load_run(directory: str | Path) -> FinishedRun:
    """The student of a finished run, ready for new examples: `load_run("runs/digits-seal-s0").predict("a.png")`.

    Args:
        directory: of the run.

    Raises:
        InputError: if there is no run, or it is unfinished or damaged.
    """
    directory = Path(directory)
    card = read_card(directory)
    with computing(card["model"]["precision"]):
        network, variables = read_student(directory, card)
    options, _ = read_run_options(directory)
    return FinishedRun(directory, card, network, variables, Format.of_run(card["input"], options))


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
    normalised = {name: card["input"][name] for name in ("mean", "std", "frames")}
    name, classes = choices.pop("student"), len(card["data"]["classes"])
    network = named_student(name, classes, image_shape(card), **normalised, **choices)
    image = jax.ShapeDtypeStruct((1, *image_shape(card)), np.float32)
    path = directory / "weights.safetensors"
    variables = load_weights(path, jax.eval_shape(network.init, jax.random.key(0), image))
    if params_digest(variables) != card["params_digest"]:
        raise InputError(f"{path}: not the weights of summary.json (params_digest differs); train the run again")
    return network, variables


def image_shape(card: dict[str, Any]) -> tuple[int, int, int]:
    """Height, width and channels of the run's images."""
    return card["input"]["height"], card["input"]["width"], card["input"]["channels"]


def _batches(examples: Iterator[Example]) -> Iterator[list[Example]]:
    batch: list[Example] = []
    for example in examples:
        batch.append(example)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
