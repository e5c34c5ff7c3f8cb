"""Bring your own student: a Flax module under a name of yours.

    python docs/bring_your_own/student.py

It takes images [B, H, W, C], or frames [T, B, H, W, C], and returns logits [T, B, classes]. Layers of neurons from
`sealkd_jax.layers.neurons` are counted, drawn and exported to a streaming step like those of the built-in students. To
train a network of another library, use the losses alone: the README shows NNX and Equinox.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from sealkd_jax.layers.neurons import LIF, NeuronFactory
from sealkd_jax.layers.time import add_time_axis, per_timestep, repeat_over_time
from sealkd_jax.models import STUDENTS
from sealkd_jax.models.network import scale_features
from sealkd_jax.programs import distill


class TwoDense(nn.Module):
    """Two dense layers with neurons between them."""

    # Every student is made with these. A small one may ignore `remat` and `dtype`.
    classes: int
    width: float = 1.0
    neuron: NeuronFactory = LIF
    remat: str = "none"
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, images: jax.Array, *, timesteps: int, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        x = add_time_axis(images)  # a static image: one timestep
        x = x.reshape(*x.shape[:2], -1)
        hidden = nn.Dense(scale_features(128, self.width), param_dtype=self.param_dtype, name="hidden")
        currents = repeat_over_time(per_timestep(hidden, x), timesteps)  # computed once, the same at every timestep
        spikes = self.neuron(name="neuron")(currents)
        return per_timestep(nn.Dense(self.classes, param_dtype=self.param_dtype, name="readout"), spikes)


def main(**options: Any) -> None:
    STUDENTS["two-dense"] = TwoDense
    distill("digits", student="two-dense", out="runs/two-dense", **options)


if __name__ == "__main__":
    main()
