"""What training changes."""

from typing import Any, NamedTuple

import jax
import optax

from sealkd_jax.models import Network, Variables


class TrainState(NamedTuple):
    """Everything a step reads and replaces. Order and augmentation follow from seed and epoch, not from here."""

    variables: Variables
    opt_state: Any


def init_state(
    network: Network, optimizer: optax.GradientTransformation, key: jax.Array, images: jax.Array
) -> TrainState:
    """A fresh state for images `[B, H, W, C]` of this shape, already normalised."""

    variables = network.init(key, images)
    return TrainState(variables, jax.jit(optimizer.init)(variables.params))
