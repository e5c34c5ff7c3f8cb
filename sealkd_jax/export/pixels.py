r"""Raw pixels as the input of an export: normalisation as its first layer.

A pixel p from 0 to 255 becomes $(p / 255 - \mu) / \sigma = g\,p + b$ with $g = 1 / (255\,\sigma)$ and
$b = -\mu / \sigma$. Counts of events become the same.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sealkd_jax.data import normalise
from sealkd_jax.models.graph import INPUT, Conv, Dense, Flatten, Graph, Node, Weights

LAYER = "pixels"
"""The name of the layer that normalises."""


class Pixels(NamedTuple):
    """The pixels that an export takes.

    Attributes:
        mean: of each channel, for pixels in [0, 1].
        std: standard deviation of each channel.
        dtype: uint8, or uint16 for counts of events.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    dtype: str

    @classmethod
    def of_card(cls, card: Mapping[str, Any]) -> "Pixels":
        """Those of a model card."""
        given = card["input"]
        return cls(tuple(given["mean"]), tuple(given["std"]), "uint16" if given["frames"] else "uint8")

    def normalise(self, images: jax.Array, dtype: Any) -> jax.Array:
        """Raw images `[B, H, W, C]` as the network takes them."""
        return normalise(images, jnp.asarray(self.mean, dtype), jnp.asarray(self.std, dtype))


def from_pixels(graph: Graph, pixels: Pixels) -> Graph:
    """The graph for raw images `[C, H, W]`, with floats from 0 to 255 or counts.

    Dense layers on the image take the normalisation into their weights. Before a convolution stands one of 1x1, since
    the zeros around a normalised image are not zeros of pixels.
    """
    std = np.asarray(pixels.std)
    gain, shift = 1 / (255 * std), -np.asarray(pixels.mean) / std
    flat = [node.name for node in graph.consumers(INPUT) if isinstance(node.layer, Flatten)]
    after = [node for name in flat for node in graph.consumers(name)]
    if len(flat) == len(graph.consumers(INPUT)) and all(isinstance(node.layer, Dense) for node in after):
        places = int(np.prod(graph.input_shape[1:]))
        folded = {node.name: _fold(graph.weights[node.name], gain, shift, places) for node in after}
        return replace(graph, weights={**graph.weights, **folded})
    dtype = next(iter(graph.weights.values())).kernel.dtype
    weights = Weights(np.diag(gain)[..., None, None].astype(dtype), shift.astype(dtype))
    renamed = {INPUT: LAYER}
    nodes = [replace(node, sources=tuple(renamed.get(name, name) for name in node.sources)) for node in graph.nodes]
    first = Node(LAYER, Conv((1, 1)), (INPUT,))
    return replace(graph, nodes=(first, *nodes), weights={LAYER: weights, **graph.weights})


def _fold(weights: Weights, gain: np.ndarray, shift: np.ndarray, places: int) -> Weights:
    """A dense layer on an image that is flattened as `[C, H, W]`, with `places` pixels in each channel."""
    kernel, bias = (array.astype(np.float64) for array in weights)
    bias = bias + kernel @ np.repeat(shift, places)
    kernel = kernel * np.repeat(gain, places)
    return Weights(kernel.astype(weights.kernel.dtype), bias.astype(weights.bias.dtype))
