"""Weights in eight bits: whole numbers from -127 to 127, and a scale for each output channel."""

from dataclasses import replace

import numpy as np

from sealkd_jax.models.graph import Graph, Weights

LARGEST = 127


def to_eight_bits(graph: Graph) -> Graph:
    """The graph with each kernel rounded to `scale * n`, where n is a whole number from -127 to 127.

    The largest weight of an output channel keeps its value. Biases, thresholds and decays stay as they are. BatchNorm
    is folded into the kernels already, so that what is rounded is what is computed.

    Returns:
        A graph with `scales`, `[F]` for each layer of weights.
    """
    scales, weights = {}, {}
    for name, (kernel, bias) in graph.weights.items():
        largest = np.abs(kernel).max(axis=tuple(range(1, kernel.ndim)))
        scale = np.where(largest > 0, largest, 1) / kernel.dtype.type(LARGEST)
        scales[name] = scale.astype(kernel.dtype)
        weights[name] = Weights(whole_numbers(kernel, scales[name]) * _by_channel(kernel, scales[name]), bias)
    return replace(graph, weights=weights, scales=scales)


def whole_numbers(kernel: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The kernel in units of its scale, as int8 would have it, in its own type."""
    return np.clip(np.rint(kernel / _by_channel(kernel, scale)), -LARGEST, LARGEST)


def _by_channel(kernel: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return scale.reshape(-1, *[1] * (kernel.ndim - 1))
