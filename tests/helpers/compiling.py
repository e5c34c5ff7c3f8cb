"""Compiling as users do. conftest.py has the suite compiled with few optimisations; some promises are about those."""

from functools import partial
from importlib.metadata import version

import jax

_FUSED = {"xla_cpu_use_fusion_emitters": True} if version("jaxlib").startswith("0.10.") else {}

optimised_jit = partial(jax.jit, compiler_options=_FUSED | {"xla_backend_optimization_level": 3})
fused_jit = partial(jax.jit, compiler_options=_FUSED)  # the users' program and its memory, in slower machine code
