"""Compiling as users do. conftest.py has the suite compiled with few optimisations; some promises are about those."""

from functools import partial
from importlib.metadata import version

import jax

_OPTIONS = {"xla_backend_optimization_level": 3}
if version("jaxlib").startswith("0.10."):
    _OPTIONS["xla_cpu_use_fusion_emitters"] = True

optimised_jit = partial(jax.jit, compiler_options=_OPTIONS)
