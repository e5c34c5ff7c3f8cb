"""A student as a compiled step without state: membranes and an image in, logits and membranes out.

The exported program holds the weights and runs on any machine with jax, without this package; see docs/export.md.

Axis legend: T timesteps, B batch, H height, W width, C channels of the image, K classes.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from sealkd_jax.export.pixels import Pixels
from sealkd_jax.models import Network, Variables
from sealkd_jax.weights.own import flatten

PLATFORMS = ("cpu", "cuda", "tpu")


def export_step(
    network: Network,
    variables: Variables,
    image_shape: tuple[int, ...],
    *,
    pixels: Pixels | None = None,
    platforms: Sequence[str] = PLATFORMS,
) -> jax.export.Exported:
    """One timestep of a student, `(membranes, images) -> (logits, membranes)`, lowered for these platforms.

    T steps from membranes of zeros give the logits of `network.predict`. `serialize()` of the result returns bytes for
    `jax.export.deserialize`, whose result has the method `call`.

    Args:
        network: a student.
        variables: its parameters and running statistics, which become constants of the program.
        image_shape: `[H, W, C]`.
        pixels: what the pixels of raw images are; None: images are normalised as in training.
        platforms: any that jax knows; the machine needs none of them.

    Returns:
        A program for any B. It takes membranes `{layer: [B, ...]}` and images `[B, H, W, C]`, raw ones in the type of
        `pixels`, normalised ones in that of the parameters, and returns logits `[B, K]` and the membranes.
    """
    (batch,) = jax.export.symbolic_shape("batch")
    dtype = network.module.param_dtype
    images = jax.ShapeDtypeStruct((batch, *image_shape), jnp.dtype(pixels.dtype) if pixels else dtype)

    def one_step(membranes: Any, images: jax.Array) -> tuple[jax.Array, Any]:
        return network.step(variables, membranes, pixels.normalise(images, dtype) if pixels else images)

    _, like = jax.eval_shape(lambda images: one_step({}, images), images)
    structure, layers = jax.tree.structure(like), [path.removesuffix("/v") for path in flatten(like)]

    def step(membranes: dict[str, jax.Array], images: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        before = jax.tree.unflatten(structure, [membranes[layer] for layer in layers])
        logits, after = one_step(before, images)
        return logits, dict(zip(layers, jax.tree.leaves(after), strict=True))

    membranes = dict(zip(layers, jax.tree.leaves(like), strict=True))
    return jax.export.export(jax.jit(step), platforms=platforms)(membranes, images)
