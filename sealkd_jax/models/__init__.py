"""Networks, spiking students and ANN teachers, each as two pure functions. Flax is used here and nowhere else.

Axis legend: T timesteps, B batch, C classes.
"""

import math
from typing import Any

import jax.numpy as jnp

from sealkd_jax.errors import InputError
from sealkd_jax.layers.time import NEURONS, Neuron
from sealkd_jax.models.network import Network, Observed, Variables
from sealkd_jax.models.observe import Synapses
from sealkd_jax.models.students import STUDENTS, SpikingNet
from sealkd_jax.models.teachers import TEACHERS, ConvNet

__all__ = [
    "NEURONS",
    "PRECISIONS",
    "REMAT",
    "SEES",
    "STUDENTS",
    "TEACHERS",
    "ConvNet",
    "Network",
    "Neuron",
    "Observed",
    "SpikingNet",
    "Synapses",
    "Variables",
    "create_student",
    "create_teacher",
]

PRECISIONS = ("float32", "bfloat16", "float64")
"""Of activations, see `create_student`."""
REMAT = ("none", "spikes", "full")
"""What the backward pass finds in memory, see `create_student`."""
SEES = ("mean", "each")
"""What a teacher sees of frames, see `create_teacher`."""


def create_student(
    name: str,
    classes: int,
    *,
    width: float = 1.0,
    neuron: str = "lif",
    decay: float = 0.5,
    precision: str = "float32",
    remat: str = "none",
) -> Network:
    """A spiking student from `STUDENTS`.

    Args:
        name: a key of `STUDENTS`.
        classes: how many.
        width: factor on the features of every layer but the last, such as 0.25 for a network small enough for a CPU.
        neuron: `lif`, `iaf` or `plif` (see `Neuron`).
        decay: share of the membrane that a timestep keeps, in (0, 1).
        precision: of activations; parameters, BatchNorm statistics, membranes and losses are float32, or float64.
        remat: what the backward pass finds in memory: `none` everything, `spikes` the spikes of every layer, `full`
            what enters each block, spikes as one byte each; it computes the rest again.

    Raises:
        InputError: for a name or choice that does not exist, or a width or decay out of its range.
    """
    _expect("student", name, STUDENTS)
    _expect("neuron", neuron, NEURONS)
    _expect("remat", remat, REMAT)
    if not 0 < decay < 1:
        raise InputError(f"decay {decay}: expected a number between 0 and 1, such as 0.5")
    module = STUDENTS[name](
        classes=classes,
        width=_positive_width(width),
        neuron=neuron,
        decay=decay,
        remat=remat,
        **_dtypes(precision),
    )
    return Network(module)


def create_teacher(
    name: str, classes: int, *, width: float = 1.0, precision: str = "float32", sees: str = "mean"
) -> Network:
    """An ANN teacher from `TEACHERS`; arguments and errors as `create_student`.

    Of frames it sees the `mean`, or `each` and then has logits at every timestep.
    """
    _expect("teacher", name, TEACHERS)
    _expect("sees", sees, SEES)
    return Network(TEACHERS[name](classes=classes, width=_positive_width(width), sees=sees, **_dtypes(precision)))


def _dtypes(precision: str) -> dict[str, Any]:
    _expect("precision", precision, PRECISIONS)
    return {"dtype": jnp.dtype(precision), "param_dtype": jnp.promote_types(precision, jnp.float32)}


def _positive_width(width: float) -> float:
    if not 0 < width < math.inf:
        raise InputError(f"width {width}: expected a number above 0, such as 1 or 0.25")
    return width


def _expect(what: str, value: str, choices: Any) -> None:
    if value not in choices:
        raise InputError(f"{what} {value!r}: unknown; expected one of {', '.join(choices)}")
