"""Networks, spiking students and ANN teachers, each as two pure functions. Flax is used here and nowhere else.

Axis legend: T timesteps, B batch, C classes.
"""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from sealkd_jax.errors import InputError
from sealkd_jax.models.layers import NEURONS, Neuron
from sealkd_jax.models.students import STUDENTS, SpikingNet
from sealkd_jax.models.synapses import INPUTS, Synapses, watch
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


class Variables(NamedTuple):
    """What a network has learned: `params` by gradients, `stats` (BatchNorm's running statistics) by counting."""

    params: Any
    stats: Any


@dataclass(frozen=True)
class Network:
    """A Flax module as pure functions of its variables.

    Attributes:
        module: called with `(images, timesteps=, train=, axis_name=)`, returns logits `[T, B, C]`.
    """

    module: nn.Module

    def init(self, key: jax.Array, images: jax.Array) -> Variables:
        """Fresh variables for images `[B, H, W, C]` or frames `[T, B, H, W, C]`. They serve any number of timesteps."""
        timesteps = images.shape[0] if images.ndim == 5 else 1
        init: Callable[..., Any] = partial(self.module.init, timesteps=timesteps)
        if not any(isinstance(argument, jax.core.Tracer) for argument in (key, images)):
            init = jax.jit(init, compiler_options=_compile_quickly())
        variables = init(key, images)
        stats = variables.get("batch_stats", {})  # Flax begins them in float32, whatever they become
        return Variables(variables["params"], jax.tree.map(lambda x: x.astype(self.module.param_dtype), stats))

    def train(
        self, variables: Variables, images: jax.Array, *, timesteps: int, axis_name: str | None = None
    ) -> tuple[jax.Array, Any]:
        """Logits `[T, B, C]` with the batch's own statistics, and the updated running statistics."""

        logits, updated = self.module.apply(
            _collections(variables),
            images,
            timesteps=timesteps,
            train=True,
            axis_name=axis_name,
            mutable=["batch_stats"],
        )
        return logits, updated.get("batch_stats", {})

    def predict(self, variables: Variables, images: jax.Array, *, timesteps: int) -> jax.Array:
        """Logits `[T, B, C]` with the running statistics."""
        logits: Any = self.module.apply(_collections(variables), images, timesteps=timesteps)
        return logits

    def spikes(
        self, variables: Variables, images: jax.Array, *, timesteps: int
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Logits as `predict`, and the spikes `[T, B, ...]` of every layer of neurons by its name; an ANN has none."""
        return self.observe(variables, images, timesteps=timesteps)[:2]

    def observe(self, variables: Variables, images: jax.Array, *, timesteps: int) -> "Observed":
        """Logits and what the layers do, for images `[B, H, W, C]` or frames `[T, B, H, W, C]`."""
        synapses: dict[str, Synapses] = {}
        with nn.intercept_methods(watch(images.shape[-4], synapses)):
            logits, sown = self.module.apply(
                _collections(variables), images, timesteps=timesteps, mutable=["spikes", INPUTS]
            )
        return Observed(logits, _by_layer(sown.get("spikes", {})), _by_layer(sown.get(INPUTS, {})), synapses)

    def step(self, variables: Variables, membranes: Any, images: jax.Array) -> tuple[jax.Array, Any]:
        """One timestep of a student: logits `[B, C]` of images, or one frame each, `[B, H, W, C]`, and the membranes.

        Args:
            membranes: what the step before returned; `{}`: from rest. T steps give the logits of `predict`.
        """
        logits, after = self.module.apply(
            _collections(variables) | {"membranes": membranes}, images, timesteps=1, mutable=["membranes"]
        )
        return logits[0], after["membranes"]

    def neurons(self, variables: Variables, image_shape: tuple[int, ...]) -> dict[str, int]:
        """How many neurons each spiking layer has for images `[H, W, C]` of this shape."""
        image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
        _, spikes = jax.eval_shape(partial(self.spikes, timesteps=1), variables, image)
        return {name: math.prod(layer.shape[2:]) for name, layer in spikes.items()}

    def synapses(self, variables: Variables, image_shape: tuple[int, ...]) -> dict[str, Synapses]:
        """Every layer of weights by its name, input first, for images `[H, W, C]` of this shape."""
        found: dict[str, Synapses] = {}
        image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
        jax.eval_shape(lambda v, x: found.update(self.observe(v, x, timesteps=1).synapses), variables, image)
        return found


class Observed(NamedTuple):
    """What a network does with a batch.

    Attributes:
        logits: `[T, B, C]`.
        spikes: `[T, B, ...]` of every layer of neurons.
        inputs: of every layer of weights, the share of its inputs that is not zero, `[T, B]`; `[1, B]` where it runs
            once for all timesteps.
        synapses: of every layer of weights, what follows from its shape.
    """

    logits: jax.Array
    spikes: dict[str, jax.Array]
    inputs: dict[str, jax.Array]
    synapses: dict[str, Synapses]


def _by_layer(sown: Any) -> dict[str, jax.Array]:
    leaves = jax.tree_util.tree_leaves_with_path(sown)
    return {jax.tree_util.keystr(path[:-1], simple=True, separator="/"): leaf for path, leaf in leaves}


def _compile_quickly() -> dict[str, int] | None:
    """Compiler options for what runs once, unless XLA_FLAGS has some already.

    XLA's CPU compiler takes four times as long to optimise the random numbers of a network as to compile them, 22 s
    instead of 5 s of one core for ResNet-18; they are the same to the bit.
    """
    level = "xla_backend_optimization_level"
    quick = jax.default_backend() == "cpu" and level not in os.environ.get("XLA_FLAGS", "")
    return {level: 1} if quick else None


def _collections(variables: Variables) -> dict[str, Any]:
    return {"params": variables.params, "batch_stats": variables.stats}


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
