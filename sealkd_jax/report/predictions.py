"""What the report of a run makes of its test predictions.

T: timesteps, N: test examples, C: classes.
"""

import math
from collections.abc import Sequence

import jax
import numpy as np

from sealkd_jax import plots
from sealkd_jax.diagnostics import (
    accuracy_by_timestep,
    accuracy_of_timestep,
    confidence,
    early_exit_curve,
    mean_sta_weights,
)
from sealkd_jax.report.page import Panel

EXITS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, math.inf)
"""Confidences at which the report lets examples stop; the first lets all after one timestep, the last none before T."""


def error_panels(logits: np.ndarray, labels: np.ndarray, hyper: Sequence[str]) -> list[Panel]:
    """Where errors stand in time, and who listens to whom; nothing where there is only one timestep.

    Args:
        logits: [T, N, C].
        labels: [N].
        hyper: the method's hyper-parameters as `name=value`; those of STA's weights are heeded.
    """
    if len(logits) == 1:
        return []
    return [
        Panel("error_raster", plots.error_raster(logits.argmax(-1) != labels)),
        Panel("sta_weights", plots.sta_weights(np.asarray(mean_sta_weights(logits, **sta_knobs(hyper))))),
    ]


def exit_panels(logits: np.ndarray, labels: np.ndarray) -> list[Panel]:
    """Accuracy against timesteps if each example stops when sure; nothing where there is only one timestep.

    Args:
        logits: [T, N, C].
        labels: [N].
    """
    if len(logits) == 1:
        return []
    curve = early_exit_curve(logits, labels, np.array(EXITS, np.float32))
    fixed = accuracy_by_timestep(logits, labels)
    figure = plots.early_exit(EXITS, curve.timesteps.tolist(), curve.accuracy.tolist(), fixed.tolist())
    return [Panel("early_exit", figure)]


def confidence_panels(logits: np.ndarray, labels: np.ndarray) -> list[Panel]:
    """How sure the timesteps [T, N, C] and their mean are, against how often they are right."""
    of_timestep = (np.asarray(measure) for measure in (confidence(logits), accuracy_of_timestep(logits, labels)))
    by_timestep, final = plots.confidence_by_timestep(*of_timestep), logits.mean(0)
    calibration = plots.reliability(np.asarray(jax.nn.softmax(final).max(-1)), final.argmax(-1) == labels)
    return [Panel("confidence_by_timestep", by_timestep), Panel("reliability", calibration)]


def sta_knobs(hyper: Sequence[str]) -> dict[str, float]:
    """What of a method's hyper-parameters, `name=value` each, STA's weights follow from."""
    given = dict(item.split("=", 1) for item in hyper)
    return {name: float(given[name]) for name in ("score_temperature", "confidence_threshold") if name in given}
