"""The losses: the paper's, the method card's, and those they are compared with. Pure functions that need jax alone.

Axes everywhere: student logits `[T, B, C]`, T timesteps first, B examples, C classes. In the equations s are the
student's logits, t the teacher's, y the label, i and j timesteps, b an example, c a class, τ is the temperature;
logarithms are natural, and argmax takes the lowest index on ties.

Every loss and every method takes two more arguments:

- `where`, bool `[B]`: the examples that count, e.g. those that do not pad a batch. The others have a loss of exactly 0
  and a gradient of exactly 0, whatever their logits (also NaN) and labels (also −1) are. Losses are returned unreduced:
  divide their sum by T times the number of examples that count, as `METHODS` does, whose means are over those alone.
  A mean over no example is 0.
- `time_axis`: 0, or 1 for logits `[B, T, C]`. The result then has its batch axis first, too: `[B, T]`. Logits
  `[B, T, C]` without it cannot be told from `[T, B, C]` if T = B. Under `jax.jit` it is static.

`features` has losses of the maps inside the networks, which take arrays of other shapes, and reduce.

A class of the teacher that is masked by −∞ has the probability 0, and 0 · log 0 is 0.
"""

from sealkd_jax.losses import methods  # registered first, and so listed first

# isort: split
from sealkd_jax.losses import baselines, recent_baselines
from sealkd_jax.losses._registry import (
    METHODS,
    UNCONFIRMED,
    Method,
    Terms,
    couples_examples,
    hyperparameters,
    method,
    needs_teacher,
)
from sealkd_jax.losses.card import card_seal_kd_loss
from sealkd_jax.losses.cross_entropy import ce_loss, mean_ce_loss
from sealkd_jax.losses.features import (
    attention_transfer_loss,
    bkd_loss,
    hint_loss,
    kdsnn_feature_loss,
    lasnn_feature_loss,
    samd_loss,
)
from sealkd_jax.losses.kd import mean_kd_loss, self_distillation_loss, uniform_kd_loss
from sealkd_jax.losses.paper import ela_loss, seal_kd_loss, sta_confidence, sta_loss, sta_weights

__all__ = [
    "METHODS",
    "UNCONFIRMED",
    "Method",
    "Terms",
    "attention_transfer_loss",
    "baselines",
    "bkd_loss",
    "card_seal_kd_loss",
    "ce_loss",
    "couples_examples",
    "ela_loss",
    "hint_loss",
    "hyperparameters",
    "kdsnn_feature_loss",
    "lasnn_feature_loss",
    "mean_ce_loss",
    "mean_kd_loss",
    "method",
    "methods",
    "needs_teacher",
    "recent_baselines",
    "samd_loss",
    "seal_kd_loss",
    "self_distillation_loss",
    "sta_confidence",
    "sta_loss",
    "sta_weights",
    "uniform_kd_loss",
]
