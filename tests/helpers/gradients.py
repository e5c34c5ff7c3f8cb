"""Random arrays, and the outputs and gradients of a neuron."""

import jax
import jax.numpy as jnp
import numpy as np


def random(*shape, seed=0, scale=1.5):
    return np.random.default_rng(seed).normal(0.3, scale, shape)


def pullback(neuron, cotangents, *args):
    """The outputs of a neuron, and the gradients of its arguments for these gradients of its outputs."""

    def run(*args):
        outputs, vjp = jax.vjp(neuron, *args)
        return outputs, vjp(tuple(jnp.asarray(c, o.dtype) for c, o in zip(cotangents, outputs, strict=True)))

    return jax.jit(run)(*args)
