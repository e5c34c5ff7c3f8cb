"""Figures of one run and of a comparison of methods: plain arrays in, a `matplotlib.figure.Figure` out.

They use matplotlib's objects alone (no pyplot, no global state): they work in threads and without a display.
"""

from sealkd_jax.plots.comparison import LADDER, accuracies, differences, includes_zero, ladder, ladder_by_timestep
from sealkd_jax.plots.energy import energy
from sealkd_jax.plots.learning import accuracy_curves, loss_curves, optimisation, wrong_timesteps
from sealkd_jax.plots.predictions import confidence_by_timestep, error_raster, reliability, sta_weights
from sealkd_jax.plots.timesteps import accuracy_by_timestep, early_exit, firing_rates

__all__ = [
    "LADDER",
    "accuracies",
    "accuracy_by_timestep",
    "accuracy_curves",
    "confidence_by_timestep",
    "differences",
    "early_exit",
    "energy",
    "error_raster",
    "firing_rates",
    "includes_zero",
    "ladder",
    "ladder_by_timestep",
    "loss_curves",
    "optimisation",
    "reliability",
    "sta_weights",
    "wrong_timesteps",
]
