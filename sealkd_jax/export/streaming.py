"""A student as a compiled step that remembers nothing: membranes and an image in, logits and membranes out.

What is written holds the weights and runs on any machine with jax, without this package, as docs/export.md shows.

Axis legend: B batch, H height, W width, C channels of the image, K classes.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from sealkd_jax.models import Network, Variables
from sealkd_jax.training.state import flatten

PLATFORMS = ("cpu", "cuda", "tpu")


def export_step(
    network: Network, variables: Variables, image_shape: tuple[int, ...], *, platforms: Sequence[str] = PLATFORMS
) -> jax.export.Exported:
    """One timestep of a student, `(membranes, images) -> (logits, membranes)`, lowered for these platforms.

    T steps from membranes of zeros give what `network.predict` gives. `serialize()` of the result is bytes for
    `jax.export.deserialize`, which its `call` then runs.

    Args:
        network: a student.
        variables: its parameters and running statistics, which become constants of the program.
        image_shape: `[H, W, C]`.
        platforms: any that jax knows; none of them needs to be there.

    Returns:
        of membranes `{layer: [B, ...]}` and images `[B, H, W, C]`, normalised as in training, in the precision of the
        parameters, for any B; logits are `[B, K]`.
    """
    network_dtype = network.module.param_dtype

    def step(membranes: dict[str, jax.Array], images: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        logits, after = network.step(variables, _nest(membranes), images)
        return logits, _by_layer(after)

    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *image_shape), network_dtype)
    _, membranes = jax.eval_shape(lambda x: step({}, x), images)
    return jax.export.export(jax.jit(step), platforms=platforms)(membranes, images)


def _by_layer(membranes: Any) -> dict[str, jax.Array]:
    """`{block_0: {neuron: {v: array}}}` as `{"block_0/neuron": array}`."""
    return {path.removesuffix("/v"): v for path, v in flatten(membranes).items()}


def _nest(membranes: dict[str, jax.Array]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, v in membranes.items():
        inner = nested
        for name in path.split("/"):
            inner = inner.setdefault(name, {})
        inner["v"] = jnp.asarray(v)
    return nested
