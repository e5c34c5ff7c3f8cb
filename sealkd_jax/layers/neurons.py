"""Layers of spiking neurons, one class for each kind.

A network takes a factory: a class of this file, or `functools.partial(LIF, decay=0.9)`; it calls it with `name=`. A
new kind needs its function in `sealkd_jax.neurons` and its class here, which also says how exports describe it.

Axis legend: T timesteps; `...` one timestep, such as `[B, H, W, C]`.
"""

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np
from flax import linen as nn

from sealkd_jax._checks import at_least_float32, require
from sealkd_jax.errors import InputError
from sealkd_jax.neurons import iaf, lif

NeuronFactory = Callable[..., "Neuron"]
"""Makes a layer of neurons: called with `name=` inside a network, such as `partial(LIF, decay=0.5)`.

A transformer gives it another `threshold=` for the neurons of its attention."""


class TorchParameter(NamedTuple):
    """How PyTorch has a parameter: its name there, and the conversion of its values to and from PyTorch."""

    name: str
    to_torch: Callable[[np.ndarray], np.ndarray]
    from_torch: Callable[[np.ndarray], np.ndarray]


class Neuron(nn.Module, ABC):
    """A layer of spiking neurons: currents `[T, ...]` -> spikes `[T, ...]`.

    The collections `spikes` and `membranes` (after the last timestep) can be read: `apply(..., mutable=["spikes"])`.
    Membranes start at rest, or from the collection `membranes` of an earlier call.

    Attributes:
        decay: share of the membrane that is left after a timestep, in (0, 1).
        threshold: of the membrane, above 0 and `v_reset`; a neuron fires there.
        v_reset: the membrane after a spike and at rest; None: soft reset, which subtracts the threshold.
        detach_reset: no gradient through the spike in the reset.
        decay_input: the current decays too, see `sealkd_jax.neurons.lif`.
        torch_parameters: the PyTorch form of each learned parameter, by its name here.
    """

    decay: float = 0.5
    threshold: float = 1.0
    v_reset: float | None = 0.0
    detach_reset: bool = False
    decay_input: bool = False

    torch_parameters: ClassVar[Mapping[str, TorchParameter]] = {}

    @nn.compact
    def __call__(self, currents: jax.Array) -> jax.Array:
        before: jax.Array | None = self.get_variable("membranes", "v")  # None: at rest
        spikes, after = self.fire(currents, before)
        for collection, name, value in (("spikes", "out", spikes), ("membranes", "v", after)):
            self.sow(collection, name, value, reduce_fn=lambda _, new: new, init_fn=lambda: None)
        return spikes

    @abstractmethod
    def fire(self, currents: jax.Array, v: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """Spikes `[T, ...]` and the membranes after them, `[...]`, from currents and the membranes before them."""

    def export_decay(self, params: Mapping[str, Any]) -> float:
        """The share of the membrane that is left after a timestep, 1 without a leak, for a neuron with these `params`.

        Exports write an integrate-and-fire neuron with this decay, the threshold and the reset.

        Raises:
            InputError: for a neuron that is none, or whose input decays.
        """
        raise InputError(f"{type(self).__name__}: cannot be exported; expected lif, iaf or plif")

    def _refuse_decaying_input(self) -> None:
        if self.decay_input:
            raise InputError("decay_input: neurons whose input decays cannot be exported; train without it")

    def _parameters(self) -> dict[str, Any]:
        """What `sealkd_jax.neurons` takes from every kind."""
        return {"threshold": self.threshold, "v_reset": self.v_reset, "detach_reset": self.detach_reset}


class LIF(Neuron):
    """Leaky integrate-and-fire."""

    def fire(self, currents: jax.Array, v: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        return lif(currents, v, decay=self.decay, decay_input=self.decay_input, **self._parameters())

    def export_decay(self, params: Mapping[str, Any]) -> float:
        self._refuse_decaying_input()
        return self.decay


class IAF(Neuron):
    """Integrate-and-fire, without a leak; `decay` and `decay_input` are not used."""

    def fire(self, currents: jax.Array, v: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        return iaf(currents, v, **self._parameters())

    def export_decay(self, params: Mapping[str, Any]) -> float:
        return 1.0


class PLIF(Neuron):
    """LIF with a learned decay, one for the layer: sigmoid(w), where w starts at logit(`decay`).

    Reference: Fang et al., Incorporating learnable membrane time constant, ICCV 2021 (arXiv 2007.05785).
    """

    # SpikingJelly's `ParametricLIFNode` keeps 1 - sigmoid(w) of the membrane.
    torch_parameters: ClassVar[Mapping[str, TorchParameter]] = {
        "decay_logit": TorchParameter("w", operator.neg, operator.neg)
    }

    def fire(self, currents: jax.Array, v: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        require(
            "decay", self.decay, "a number in (0, 1); for a time constant tau: 1 - 1/tau", lambda d: (d > 0) & (d < 1)
        )
        start = math.log(self.decay / (1 - self.decay))
        dtype = at_least_float32(currents.dtype)
        decay_logit = self.param("decay_logit", nn.initializers.constant(start), (), dtype)
        decay = jax.nn.sigmoid(decay_logit)
        return lif(currents, v, decay=decay, decay_input=self.decay_input, **self._parameters())

    def export_decay(self, params: Mapping[str, Any]) -> float:
        self._refuse_decaying_input()
        return float(1 / (1 + np.exp(-np.float64(params["decay_logit"]))))


NEURONS: dict[str, type[Neuron]] = {"lif": LIF, "iaf": IAF, "plif": PLIF}
"""Every kind of neuron by its name."""
