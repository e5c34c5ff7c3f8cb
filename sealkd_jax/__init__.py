"""SeAl-KD for spiking neural networks in JAX: losses and neurons as pure functions.

Importing this package loads jax alone. Models, data, training and reports are imported from their own modules.
"""

from importlib import metadata

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


def __getattr__(name: str) -> str:
    if name == "__version__":  # read when asked for: a copy of this folder need not be installed
        return metadata.version("sealkd-jax")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
