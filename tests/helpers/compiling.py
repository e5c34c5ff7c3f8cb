"""Networks whose functions are compiled, and `jax.jit` with the optimisations that conftest.py switches off."""

from functools import partial
from importlib.metadata import version
from types import SimpleNamespace

import jax

from sealkd_jax.models import Network

_FUSED = {"xla_cpu_use_fusion_emitters": True} if version("jaxlib").startswith("0.10.") else {}

optimised_jit = partial(jax.jit, compiler_options=_FUSED | {"xla_backend_optimization_level": 3})
fused_jit = partial(jax.jit, compiler_options=_FUSED)  # fusion, and so memory, as users have it; slower machine code


def jitted(network: Network) -> SimpleNamespace:
    """The functions of a network under `jax.jit`. Without it, each operation is compiled by itself."""
    compiled = {
        name: jax.jit(getattr(network, name), static_argnames=("timesteps",))
        for name in ("predict", "train", "spikes", "observe")
    }
    return SimpleNamespace(init=network.init, step=jax.jit(network.step), **compiled)
