"""The state that training changes."""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from sealkd_jax.models import Network, Variables


class Averaged(NamedTuple):
    """The optimiser's state, and beside it the exponential moving average of all variables.

    Attributes:
        optimizer: the state of the optimiser.
        variables: the average of the variables after each step so far.
        steps: int32, how many they are.
    """

    optimizer: Any
    variables: Variables
    steps: chex.Array


class TrainState(NamedTuple):
    """All that a step reads and replaces. Order and augmentation follow from seed and epoch, not from the state.

    Attributes:
        variables: what the network computes with in training.
        opt_state: of the optimiser, or `Averaged`.
    """

    variables: Variables
    opt_state: Any

    @property
    def evaluated(self) -> Variables:
        """The variables that are validated, and reported at the end: the average if there is one."""
        return self.opt_state.variables if isinstance(self.opt_state, Averaged) else self.variables


def init_state(
    network: Network,
    optimizer: optax.GradientTransformation,
    key: chex.PRNGKey,
    images: chex.Array,
    *,
    averaged: bool = False,
) -> TrainState:
    """The initial state for images of this shape, `[B, H, W, C]` or `[T, B, H, W, C]`."""
    variables = network.init(key, images)
    opt_state = jax.jit(optimizer.init)(variables.params)
    if averaged:
        opt_state = Averaged(opt_state, jax.tree.map(jnp.copy, variables), jnp.int32(0))
    return TrainState(variables, opt_state)


def update_average(averaged: Averaged, opt_state: Any, variables: Variables, decay: float) -> Averaged:
    """The average after one more step.

    After n steps it is Σ d^(n−k) v_k / Σ d^(n−k) of the variables v_k after step k; the initial ones have no
    part in it. BatchNorm's statistics are averaged as the parameters are.
    """
    steps = averaged.steps + 1
    real = jnp.result_type(float)
    share = (1 - decay) / (1 - jnp.asarray(decay, real) ** steps.astype(real))

    def move(old: jax.Array, new: jax.Array) -> jax.Array:
        return old + share.astype(old.dtype) * (new - old)

    return Averaged(opt_state, jax.tree.map(move, averaged.variables, variables), steps)
