"""Figures of one run and of a comparison of methods: plain arrays in, a `matplotlib.figure.Figure` out.

They use matplotlib's objects alone (no pyplot, no global state): they work in threads and without a display.
"""

from sealkd_jax.plots.learning import accuracy_curves, loss_curves, optimisation, wrong_timesteps
from sealkd_jax.plots.timesteps import accuracy_by_timestep, firing_rates

__all__ = [
    "accuracy_by_timestep",
    "accuracy_curves",
    "firing_rates",
    "loss_curves",
    "optimisation",
    "wrong_timesteps",
]
