"""Spikes and the energy they cost.

Axes: `T` timesteps, `B` examples, `...` the neurons of a layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sealkd_jax._checks import as_time_first, as_where

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Shaped

PICOJOULE_PER_MAC = 4.6
PICOJOULE_PER_AC = 0.9
"""Energy of a multiply-accumulate and of an accumulate: 32-bit floating point in 45 nm CMOS, 3.7 pJ the product and
0.9 pJ the sum (Horowitz, Computing's energy problem, ISSCC 2014)."""


def firing_rate(
    spikes: Shaped[ArrayLike, "T B ..."], *, where: Bool[ArrayLike, "B"] | None = None, time_axis: int = 0
) -> Float[Array, "T"]:
    """Share of a layer's neurons that fire at each timestep, mean over examples.

    >>> import jax.numpy as jnp
    >>> print(firing_rate(jnp.array([[[1, 0, 0, 0]], [[1, 1, 0, 0]]])))
    [0.25 0.5 ]
    """
    fired, counts = _as_fired(spikes, where, time_axis)
    return fired.mean(range(1, fired.ndim), where=counts)


def dead_share(
    spikes: Shaped[ArrayLike, "T B ..."], *, where: Bool[ArrayLike, "B"] | None = None, time_axis: int = 0
) -> Float[Array, ""]:
    """Share of a layer's neurons that fire at no timestep of any example; give it many examples.

    >>> print(dead_share(jnp.array([[[1, 0, 0, 0]], [[1, 1, 0, 0]]])))
    0.5
    """
    fired, counts = _as_fired(spikes, where, time_axis)
    return 1 - (fired & counts).any((0, 1)).mean()


def saturated_share(
    spikes: Shaped[ArrayLike, "T B ..."], *, where: Bool[ArrayLike, "B"] | None = None, time_axis: int = 0
) -> Float[Array, ""]:
    """Share of a layer's neurons that fire at every timestep of every example.

    >>> print(saturated_share(jnp.array([[[1, 0, 0, 0]], [[1, 1, 0, 0]]])))
    0.25
    """
    fired, counts = _as_fired(spikes, where, time_axis)
    return (fired | ~counts).all((0, 1)).mean()


def synaptic_operations(rate: Float[ArrayLike, "T"], macs: float) -> Float[Array, ""]:
    """Accumulates per example in a layer that receives spikes: firing rate × T × MACs.

    Args:
      rate: `[T]`, firing rate of the neurons that feed the layer, see `firing_rate`.
      macs: multiply-accumulates of the layer for one example and one timestep.
    """
    return jnp.asarray(rate).sum() * macs


def energy(
    macs: Mapping[str, float], rates: Mapping[str, ArrayLike], *, real_runs: int | Mapping[str, int] = 1
) -> dict[str, Any]:
    """Estimated energy of classifying one example, in picojoules; on the host.

    The usual count: a layer that receives spikes costs `PICOJOULE_PER_AC` per synaptic operation, one that receives
    real numbers `PICOJOULE_PER_MAC` per MAC; the ANN of the same layers costs all MACs once. This is arithmetic alone,
    on hardware that skips every zero, without memory access, neurons or leakage: compare it only with numbers that are
    counted in the same way.

    Args:
      macs: layer -> multiply-accumulates for one example and one timestep, input first.
      rates: layer -> `[T]`, firing rate of the neurons that feed it. Layers that are not in it receive real numbers.
      real_runs: how often the layers that receive real numbers run, one number or one for each: once before the first
        neuron of a static image, T times for frames that differ and after a neuron.

    Returns:
      `{"snn_picojoule": float, "ann_picojoule": float, "layers": {layer: float}}`, the layers being the SNN's.

    >>> cost = energy({"stem": 100.0, "body": 1000.0}, {"body": jnp.array([0.1, 0.3])})
    >>> {name: round(picojoule) for name, picojoule in cost["layers"].items()}, round(cost["ann_picojoule"])
    ({'stem': 460, 'body': 360}, 5060)

    Reference: the constants are Horowitz's (see above); directly trained SNNs are commonly counted this way, e.g. in
    Zhou et al., Spikformer, ICLR 2023 (arXiv 2209.15425).
    """
    if unknown := rates.keys() - macs.keys():
        raise ValueError(f"rates: expected the layers of macs, {sorted(macs)}, got also {sorted(unknown)}")
    runs = real_runs if isinstance(real_runs, Mapping) else dict.fromkeys(macs, real_runs)
    layers = {
        name: float(synaptic_operations(rates[name], count)) * PICOJOULE_PER_AC
        if name in rates
        else runs[name] * count * PICOJOULE_PER_MAC
        for name, count in macs.items()
    }
    return {
        "snn_picojoule": sum(layers.values()),
        "ann_picojoule": sum(macs.values()) * PICOJOULE_PER_MAC,
        "layers": layers,
    }


def _as_fired(spikes: ArrayLike, where: ArrayLike | None, time_axis: int) -> tuple[jax.Array, jax.Array]:
    """Spikes as bool `[T, B, ...]`, and which of them count, to broadcast against them."""
    spikes = as_time_first("spikes", spikes, time_axis)
    if spikes.ndim < 2 or 0 in spikes.shape:
        raise ValueError(f"spikes: expected shape [T, B, ...], not empty, got {spikes.shape}")
    counts = jnp.ones(spikes.shape[1], bool) if where is None else as_where(where, spikes.shape[1])
    return spikes.astype(bool), jnp.expand_dims(counts, (0, *range(2, spikes.ndim)))
