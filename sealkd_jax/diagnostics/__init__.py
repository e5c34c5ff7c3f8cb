"""Diagnostics of a spiking network: its predictions in time, early exit, its spikes, its energy.

Pure functions of arrays, for the logits and spikes of any network. They also run under `jax.jit`, except those whose
docstring says "on the host".

Axes: `T` timesteps, first; `B` examples, `C` classes; `...` the neurons of a layer. Logits are `[T, B, C]`, labels
`[B]`, spikes `[T, B, ...]`. A timestep *alone* predicts from its own logits; *accumulated*, from the mean of the logits
so far. The final answer is the accumulated one after T. Shares and accuracies lie in [0, 1].

All functions of logits or spikes take `where`, bool `[B]`: the examples that count, e.g. those that do not pad a
batch; a mean over none is NaN. `time_axis=1` is for logits `[B, T, C]` and spikes `[B, T, ...]`, which without it
cannot be told from time first if T = B. Logits with a NaN are never right, and agree with no teacher.
"""

from sealkd_jax.diagnostics.activity import (
    PICOJOULE_PER_AC,
    PICOJOULE_PER_MAC,
    dead_share,
    energy,
    firing_rate,
    saturated_share,
    synaptic_operations,
)
from sealkd_jax.diagnostics.classes import by_class, standard_error
from sealkd_jax.diagnostics.early_exit import EarlyExit, ExitCurve, early_exit, early_exit_curve
from sealkd_jax.diagnostics.timesteps import (
    WORTHWHILE_ERRONEOUS_SHARE,
    ErroneousShare,
    InTime,
    Verdict,
    accumulate,
    accuracy_by_timestep,
    accuracy_of_timestep,
    confidence,
    correct,
    erroneous_share,
    expected_calibration_error,
    mean_sta_weights,
    prediction_flips,
    summarise,
    teacher_agreement,
    timestep_variance_verdict,
)

__all__ = [
    "PICOJOULE_PER_AC",
    "PICOJOULE_PER_MAC",
    "WORTHWHILE_ERRONEOUS_SHARE",
    "EarlyExit",
    "ErroneousShare",
    "ExitCurve",
    "InTime",
    "Verdict",
    "accumulate",
    "accuracy_by_timestep",
    "accuracy_of_timestep",
    "by_class",
    "confidence",
    "correct",
    "dead_share",
    "early_exit",
    "early_exit_curve",
    "energy",
    "erroneous_share",
    "expected_calibration_error",
    "firing_rate",
    "mean_sta_weights",
    "prediction_flips",
    "saturated_share",
    "standard_error",
    "summarise",
    "synaptic_operations",
    "teacher_agreement",
    "timestep_variance_verdict",
]
