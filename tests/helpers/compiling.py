"""Compiling networks once for each number of timesteps, and compiling as users do.

conftest.py has the suite compiled with few optimisations; some promises are about programs with all of them.
"""

from functools import partial
from importlib.metadata import version
from types import SimpleNamespace

import jax

from sealkd_jax.models import Network

_FUSED = {"xla_cpu_use_fusion_emitters": True} if version("jaxlib").startswith("0.10.") else {}

optimised_jit = partial(jax.jit, compiler_options=_FUSED | {"xla_backend_optimization_level": 3})
fused_jit = partial(jax.jit, compiler_options=_FUSED)  # the users' program and its memory, in slower machine code


def jitted(network: Network) -> SimpleNamespace:
    """The functions of a network, compiled: a call by itself would compile every operation on its own."""
    compiled = {
        name: jax.jit(getattr(network, name), static_argnames=("timesteps",))
        for name in ("predict", "train", "spikes", "observe")
    }
    return SimpleNamespace(init=network.init, step=jax.jit(network.step), **compiled)
