"""Networks, spiking students and ANN teachers, as pure functions of their variables.

Axis legend: T timesteps, B batch, C classes.
"""

import math
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from sealkd_jax._checks import at_least_float32
from sealkd_jax.errors import InputError, did_you_mean
from sealkd_jax.layers.neurons import IAF, LIF, NEURONS, PLIF, Neuron, NeuronFactory
from sealkd_jax.models.network import Activity, Network, Variables
from sealkd_jax.models.observe import Layer, sum_layers
from sealkd_jax.models.published import PUBLISHED
from sealkd_jax.models.students import STUDENTS, SpikingNet
from sealkd_jax.models.teachers import TEACHERS, ConvNet

__all__ = [
    "FRAME_MODES",
    "IAF",
    "LIF",
    "NEURONS",
    "PLIF",
    "PRECISIONS",
    "PUBLISHED",
    "REMAT",
    "STUDENTS",
    "TEACHERS",
    "Activity",
    "ConvNet",
    "Layer",
    "Network",
    "Neuron",
    "NeuronFactory",
    "SpikingNet",
    "Variables",
    "create_student",
    "create_teacher",
    "sum_layers",
]

PRECISIONS = ("float32", "bfloat16", "float64")
"""Of activations, see `create_student`."""
REMAT = ("none", "spikes", "full")
"""What the backward pass recomputes, see `create_student`."""
FRAME_MODES = ("mean", "each")
"""What a teacher makes of frames, see `create_teacher`."""


def create_student(
    name: str,
    classes: int,
    *,
    width: float = 1.0,
    neuron: str = "lif",
    decay: float = 0.5,
    threshold: float = 1.0,
    v_reset: float | None = 0.0,
    detach_reset: bool = False,
    decay_input: bool = False,
    precision: str = "float32",
    remat: str = "none",
) -> Network:
    """A spiking student from `STUDENTS`.

    Args:
        name: a key of `STUDENTS`.
        classes: number of logits.
        width: factor on the features of every layer but the last, such as 0.25 for a network small enough for a CPU.
        neuron: a key of `NEURONS`.
        decay: share of the membrane that is left after a timestep, in (0, 1); `iaf` has none.
        threshold: of the membrane, above 0 and `v_reset`; a neuron fires there.
        v_reset: the membrane after a spike and at rest; None: soft reset, which subtracts the threshold.
        detach_reset: no gradient through the spike in the reset.
        decay_input: the current decays too, see `sealkd_jax.lif`.
        precision: of activations. Parameters, BatchNorm statistics, membranes and losses are float32, or float64.
        remat: what the forward pass keeps in memory: `none` everything, `spikes` the spikes of every layer, `full` the
            input of each block; spikes as one byte each. The backward pass computes the rest again.

    Raises:
        InputError: for an unknown name or choice, or a number out of its range.
    """
    _expect("student", name, STUDENTS)
    _expect("neuron", neuron, NEURONS)
    _expect("remat", remat, REMAT)
    _expect_number("decay", decay, "between 0 and 1, such as 0.5", 0, 1)
    if v_reset is not None:
        _expect_number("v_reset", v_reset, "such as 0, or None for a soft reset", -math.inf)
    _expect_number("threshold", threshold, "above 0 and v_reset, such as 1", max(0, v_reset or 0))
    reset: dict[str, Any] = {"threshold": threshold, "v_reset": v_reset, "detach_reset": detach_reset}
    make = partial(NEURONS[neuron], decay=decay, decay_input=decay_input, **reset)
    return Network(STUDENTS[name](neuron=make, remat=remat, **_common(classes, width, precision)))


def create_teacher(
    name: str, classes: int, *, width: float = 1.0, precision: str = "float32", frame_mode: str = "mean"
) -> Network:
    """An ANN teacher from `TEACHERS` or `PUBLISHED`; arguments and errors as in `create_student`.

    `frame_mode` is for event recordings: the teacher takes the `mean` of the frames, or `each` frame and then gives
    logits at every timestep.
    """
    if name not in PUBLISHED:
        _expect("teacher", name, TEACHERS)
    _expect("frame_mode", frame_mode, FRAME_MODES)
    return Network((TEACHERS | PUBLISHED)[name](frame_mode=frame_mode, **_common(classes, width, precision)))


def _common(classes: int, width: float, precision: str) -> dict[str, Any]:
    """What every network takes, checked."""
    _expect("precision", precision, PRECISIONS)
    _expect_number("width", width, "above 0, such as 1 or 0.25", 0)
    if not isinstance(classes, int | np.integer) or classes < 1:
        raise InputError(f"classes {classes!r}: expected a whole number of at least 1")
    dtypes = {"dtype": jnp.dtype(precision), "param_dtype": at_least_float32(precision)}
    return dtypes | {"classes": classes, "width": width}


def _expect_number(what: str, value: float, expected: str, above: float, below: float = math.inf) -> None:
    if not isinstance(value, int | float | np.number) or not above < value < below:
        raise InputError(f"{what} {value!r}: expected a number {expected}")


def _expect(what: str, value: str, choices: Any) -> None:
    if value not in choices:
        nearest = did_you_mean(value, choices)
        raise InputError(f"{what} {value!r}: unknown; expected one of {', '.join(choices)}{nearest}")
