"""Compiling for tests: a program runs once or twice here, so that optimising it costs more than it saves."""

from functools import partial

import jax

quick_jit = partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
)
