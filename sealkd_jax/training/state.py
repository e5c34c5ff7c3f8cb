"""The state that training changes."""

from typing import NamedTuple

import chex
import jax
import optax

from sealkd_jax.models import Network, Variables


class TrainState(NamedTuple):
    """All that a step reads and replaces. Order and augmentation follow from seed and epoch, not from the state."""

    variables: Variables
    opt_state: chex.ArrayTree

    @property
    def evaluated(self) -> Variables:
        """The variables that are validated, and reported at the end.

        An average of the weights, kept in `opt_state` by a transformation of `create_optimizer`, goes here.
        """
        return self.variables


def init_state(
    network: Network, optimizer: optax.GradientTransformation, key: chex.PRNGKey, images: chex.Array
) -> TrainState:
    """The initial state for images of this shape, `[B, H, W, C]` or `[T, B, H, W, C]`."""
    variables = network.init(key, images)
    return TrainState(variables, jax.jit(optimizer.init)(variables.params))
