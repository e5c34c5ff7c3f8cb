"""Networks, spiking students and ANN teachers, as pure functions of their variables.

Axis legend: T timesteps, B batch, C classes.
"""

import math
from functools import partial
from typing import Any

import jax.numpy as jnp

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
    if not 0 < decay < 1:
        raise InputError(f"decay {decay}: expected a number between 0 and 1, such as 0.5")
    if v_reset is not None and not math.isfinite(v_reset):
        raise InputError(f"v_reset {v_reset}: expected a number, such as 0, or None for a soft reset")
    if not max(0, v_reset or 0) < threshold < math.inf:
        raise InputError(f"threshold {threshold}: expected a number above 0 and v_reset, such as 1")
    reset: dict[str, Any] = {"threshold": threshold, "v_reset": v_reset, "detach_reset": detach_reset}
    make = partial(NEURONS[neuron], decay=decay, decay_input=decay_input, **reset)
    kwargs = _dtypes(precision) | {"classes": classes, "width": _positive_width(width)}
    return Network(STUDENTS[name](neuron=make, remat=remat, **kwargs))


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
    kwargs = _dtypes(precision) | {"classes": classes, "width": _positive_width(width)}
    return Network((TEACHERS | PUBLISHED)[name](frame_mode=frame_mode, **kwargs))


def _dtypes(precision: str) -> dict[str, Any]:
    _expect("precision", precision, PRECISIONS)
    return {"dtype": jnp.dtype(precision), "param_dtype": at_least_float32(precision)}


def _positive_width(width: float) -> float:
    if not 0 < width < math.inf:
        raise InputError(f"width {width}: expected a number above 0, such as 1 or 0.25")
    return width


def _expect(what: str, value: str, choices: Any) -> None:
    if value not in choices:
        nearest = did_you_mean(value, choices)
        raise InputError(f"{what} {value!r}: unknown; expected one of {', '.join(choices)}{nearest}")
