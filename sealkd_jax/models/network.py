"""A network as pure functions of its variables.

Axis legend: T timesteps, B batch, H height, W width, C channels (images) or classes (logits).
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
from sealkd_jax.models.observe import INPUTS, Layer, record_layers


class Variables(NamedTuple):
    """What a network has learned: `params` by gradients, `stats` (running statistics of BatchNorm) from batches."""

    params: Any
    stats: Any


class Activity(NamedTuple):
    """What a network does with a batch.

    Attributes:
        logits: `[T, B, C]`.
        spikes: of every layer of neurons, `[T, B, ...]`.
        inputs: of every layer of weights, the share of its inputs that is not zero, `[T, B]`; `[1, B]` where it runs
            once for all timesteps.
    """

    logits: jax.Array
    spikes: dict[str, jax.Array]
    inputs: dict[str, jax.Array]


@dataclass(frozen=True)
class Network:
    """A Flax module as pure functions of its variables.

    Attributes:
        module: called with `(images, timesteps=, train=, axis_name=)`, returns logits `[T, B, C]`.
    """

    module: nn.Module

    def init(self, key: jax.Array, images: jax.Array) -> Variables:
        """Fresh variables for images `[B, H, W, C]` or frames `[T, B, H, W, C]`, and any number of timesteps."""
        timesteps = images.shape[0] if images.ndim == 5 else 1
        init: Callable[..., Any] = partial(self.module.init, timesteps=timesteps)
        if not any(isinstance(argument, jax.core.Tracer) for argument in (key, images)):
            init = jax.jit(init, compiler_options=_compile_quickly())
        variables = init(key, images)
        stats = variables.get("batch_stats", {})  # Flax initialises them in float32
        return Variables(variables["params"], jax.tree.map(lambda x: x.astype(self.module.param_dtype), stats))

    def train(
        self, variables: Variables, images: jax.Array, *, timesteps: int, axis_name: str | None = None
    ) -> tuple[jax.Array, Any]:
        """Logits `[T, B, C]` with the statistics of the batch, and the updated running statistics."""
        logits, updated = self._train(["batch_stats"], variables, images, timesteps=timesteps, axis_name=axis_name)
        return logits, updated.get("batch_stats", {})

    def train_and_observe(
        self, variables: Variables, images: jax.Array, *, timesteps: int, axis_name: str | None = None
    ) -> tuple[jax.Array, Any, dict[str, jax.Array]]:
        """As `train`, and the spikes `[T, B, ...]` of every layer of neurons by its name, which carry gradient."""
        read = ["batch_stats", "spikes"]
        logits, updated = self._train(read, variables, images, timesteps=timesteps, axis_name=axis_name)
        return logits, updated.get("batch_stats", {}), _by_layer(updated.get("spikes", {}))

    def _train(self, read: list[str], variables: Variables, images: jax.Array, **how: Any) -> tuple[jax.Array, Any]:
        """Logits of training, and the collections that are read after it."""
        return self.module.apply(_collections(variables), images, train=True, mutable=read, **how)

    def predict(self, variables: Variables, images: jax.Array, *, timesteps: int) -> jax.Array:
        """Logits `[T, B, C]` with the running statistics."""
        logits: Any = self.module.apply(_collections(variables), images, timesteps=timesteps)
        return logits

    def spikes(
        self, variables: Variables, images: jax.Array, *, timesteps: int
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Logits as in `predict`, and the spikes `[T, B, ...]` of every layer of neurons by its name."""
        return self.observe(variables, images, timesteps=timesteps)[:2]

    def observe(self, variables: Variables, images: jax.Array, *, timesteps: int) -> Activity:
        """Logits and what the layers do, for images `[B, H, W, C]` or frames `[T, B, H, W, C]`."""
        return self._observe({}, variables, images, timesteps)

    def _observe(
        self, layers: dict[str, Layer], variables: Variables, images: jax.Array, timesteps: int = 1
    ) -> Activity:
        with record_layers(images.shape[-4], layers):
            logits, sown = self.module.apply(
                _collections(variables), images, timesteps=timesteps, mutable=["spikes", INPUTS]
            )
        return Activity(logits, _by_layer(sown.get("spikes", {})), _by_layer(sown.get(INPUTS, {})))

    def step(self, variables: Variables, membranes: Any, images: jax.Array) -> tuple[jax.Array, Any]:
        """One timestep of a student: logits `[B, C]` for images or one frame each, `[B, H, W, C]`, and the membranes.

        Args:
            variables: of the student.
            membranes: those that the step before returned; `{}`: at rest. T steps give the logits of `predict`.
            images: `[B, H, W, C]`.
        """
        logits, after = self.module.apply(
            _collections(variables) | {"membranes": membranes}, images, timesteps=1, mutable=["membranes"]
        )
        return logits[0], after["membranes"]

    def neurons(self, variables: Variables, image_shape: tuple[int, ...]) -> dict[str, int]:
        """The number of neurons in each layer of neurons, for images `[H, W, C]` of this shape."""
        image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
        _, spikes = jax.eval_shape(partial(self.spikes, timesteps=1), variables, image)
        return {name: math.prod(layer.shape[2:]) for name, layer in spikes.items()}

    def layers(self, variables: Variables, image_shape: tuple[int, ...]) -> dict[str, Layer]:
        """Every layer by its name, input first, for images `[H, W, C]` of this shape. Computes nothing."""
        found: dict[str, Layer] = {}
        image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
        jax.eval_shape(partial(self._observe, found), variables, image)
        return found

    def synapses(self, variables: Variables, image_shape: tuple[int, ...]) -> dict[str, Layer]:
        """The layers of weights among `layers`."""
        return {name: layer for name, layer in self.layers(variables, image_shape).items() if layer.macs}


def scale_features(features: int, width: float) -> int:
    """Number of features of a layer in a network of this `width`: a share, of 1 or more, of its usual number."""
    return max(1, round(features * width))


def require_whole_patches(images: jax.Array, size: int) -> None:
    """Refuse images `[..., H, W, C]` that patches of `size` pixels do not divide."""
    height, width = images.shape[-3:-1]
    if height % size or width % size:
        nearest = [max(size, round(side / size) * size) for side in (height, width)]
        raise InputError(
            f"images of {height}x{width} pixels: patches of {size}x{size} do not divide them; resize or crop them, "
            f"such as to {nearest[0]}x{nearest[1]}"
        )


def _by_layer(sown: Any) -> dict[str, jax.Array]:
    leaves = jax.tree_util.tree_leaves_with_path(sown)
    return {jax.tree_util.keystr(path[:-1], simple=True, separator="/"): leaf for path, leaf in leaves}


def _compile_quickly() -> dict[str, int] | None:
    """Compiler options for a program that runs once, unless XLA_FLAGS sets the same option.

    XLA's CPU compiler takes four times as long to optimise the random numbers of a network as to compile them, 22 s
    instead of 5 s of one core for ResNet-18. The numbers are the same to the bit.
    """
    level = "xla_backend_optimization_level"
    quick = jax.default_backend() == "cpu" and level not in os.environ.get("XLA_FLAGS", "")
    return {level: 1} if quick else None


def _collections(variables: Variables) -> dict[str, Any]:
    return {"params": variables.params, "batch_stats": variables.stats}
