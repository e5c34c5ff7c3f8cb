"""The Kullback-Leibler divergence that all distillation losses here are made of.

Axes: C classes, always last.
"""

import jax
import jax.numpy as jnp


def kl(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    """KL(p || q) = Σ_c p (log p − log q) of log-probabilities, over the last axis."""
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


def softened(logits: jax.Array, temperature: jax.Array) -> jax.Array:
    """log softmax(logits/τ), over the last axis.

    The maximum is taken off before the division, so that equal logits have exactly equal probabilities
    however the compiler fuses the two.
    """
    highest = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    shifted = (logits - highest) / temperature
    return shifted - jnp.log(jnp.sum(jnp.exp(shifted), axis=-1, keepdims=True))


def softened_kl(target: jax.Array, student: jax.Array, temperature: jax.Array) -> jax.Array:
    """KD_τ = τ² KL(softmax(target/τ) ‖ softmax(student/τ)); the target carries no gradient.

    The factor τ² keeps the size of the gradient, τ (q − p), the same for all τ (arXiv 1503.02531).
    """
    log_p = softened(jax.lax.stop_gradient(target), temperature)
    return temperature**2 * kl(log_p, softened(student, temperature))
