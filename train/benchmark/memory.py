"""Print the memory of a training step of a spiking ResNet-18, beside the ANN of the same shape.

It is compiled for each number of timesteps and each `--remat`, and not run: the compiler says how much temporary memory
the step will need.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

from sealkd_jax.losses import METHODS
from sealkd_jax.models import REMAT, Network, create_student
from sealkd_jax.programs.command_line import read_options
from sealkd_jax.typed import POSITIVE, at_least
from train.benchmark.table import RESULTS_DIR, print_table, save


@dataclass(frozen=True)
class MemoryOptions:
    """The network and its timesteps."""

    timesteps: Annotated[tuple[int, ...], at_least(1)] = (1, 4)
    """T, the number of timesteps; several are measured one after another."""
    width: Annotated[float, POSITIVE] = 0.25
    """Factor on the features of every layer; memory grows with the activations."""
    batch_size: Annotated[int, at_least(1)] = 16
    """Images per step."""
    size: Annotated[int, at_least(8)] = 32
    """Height and width of the images, in pixels."""
    out: Path = RESULTS_DIR / "memory.json"
    """JSON file for the numbers."""


def temporary(network: Network, options: MemoryOptions, timesteps: int) -> int:
    """Bytes that the gradient of the cross-entropy needs besides its arguments and results."""
    image = (options.size, options.size, 3)
    variables = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, *image)))

    def gradient(variables, images, labels):
        def loss(params):
            logits, stats = network.train(variables._replace(params=params), images, timesteps=timesteps)
            return METHODS["none"](logits, None, labels)[0], stats

        return jax.grad(loss, has_aux=True)(variables.params)

    images = jax.ShapeDtypeStruct((options.batch_size, *image), np.float32)
    labels = jax.ShapeDtypeStruct((options.batch_size,), np.int32)
    return jax.jit(gradient).lower(variables, images, labels).compile().memory_analysis().temp_size_in_bytes


def main(argv: list[str]) -> None:
    """Print a table, and write JSON and a plot."""
    options = read_options(MemoryOptions, __doc__, argv, "benchmark memory")
    student = create_student("spiking-resnet18", 10, width=options.width)
    ann = temporary(Network(student.module.clone(neuron=None)), options, 1)
    measured = {
        remat: {
            timesteps: temporary(
                create_student("spiking-resnet18", 10, width=options.width, remat=remat), options, timesteps
            )
            for timesteps in options.timesteps
        }
        for remat in REMAT
    }
    rows = {"the same-shape ANN": [f"{ann / 1e6:.1f} MB"] + [""] * (len(options.timesteps) - 1)}
    rows |= {
        f"--remat {remat}": [f"{of[t] / 1e6:.1f} MB ({of[t] / ann:.2f} × ANN)" for t in options.timesteps]
        for remat, of in measured.items()
    }
    title = f"Temporary memory of a step: spiking ResNet-18, width {options.width}, {options.batch_size} images"
    print_table(title, [f"T = {t}" for t in options.timesteps], rows)
    save(options.out, {"ann": ann, "temporary": measured})
