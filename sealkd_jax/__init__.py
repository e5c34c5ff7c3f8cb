"""SeAl-KD for spiking neural networks in JAX: losses and neurons as pure functions.

The first name that is asked for loads jax, and nothing else does. Models, data, training and reports are imported from
their own modules.
"""

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sealkd_jax import surrogates
    from sealkd_jax.losses import (
        METHODS,
        card_seal_kd_loss,
        ce_loss,
        ela_loss,
        hyperparameters,
        mean_ce_loss,
        mean_kd_loss,
        needs_teacher,
        seal_kd_loss,
        self_distillation_loss,
        sta_loss,
        sta_weights,
        uniform_kd_loss,
    )
    from sealkd_jax.neurons import iaf, lif

__all__ = [
    "METHODS",
    "card_seal_kd_loss",
    "ce_loss",
    "ela_loss",
    "hyperparameters",
    "iaf",
    "lif",
    "mean_ce_loss",
    "mean_kd_loss",
    "needs_teacher",
    "seal_kd_loss",
    "self_distillation_loss",
    "sta_loss",
    "sta_weights",
    "surrogates",
    "uniform_kd_loss",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":  # read when asked for: a copy of this folder need not be installed
        return metadata.version("sealkd-jax")
    if name in ("losses", "neurons", "surrogates"):
        return import_module(f"sealkd_jax.{name}")
    if name in __all__:
        return getattr(import_module("sealkd_jax.neurons" if name in ("iaf", "lif") else "sealkd_jax.losses"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
