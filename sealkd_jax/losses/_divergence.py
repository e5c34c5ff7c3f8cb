"""The Kullback-Leibler divergence that all distillation losses here are made of.

Axes: C classes, always last.
"""

import jax
import jax.numpy as jnp


def kl(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    """KL(p || q) = Σ_c p (log p − log q) of log-probabilities, over the last axis."""
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


def softened(logits: jax.Array, temperature: jax.Array) -> jax.Array:
    """log softmax(logits/τ), over the last axis."""
    shifted = _from_highest(logits, temperature)
    return shifted - jnp.log(jnp.sum(jnp.exp(shifted), axis=-1, keepdims=True))


def softened_kl(target: jax.Array, student: jax.Array, temperature: jax.Array) -> jax.Array:
    """KD_τ = τ² KL(softmax(target/τ) ‖ softmax(student/τ)); the target carries no gradient.

    The factor τ² keeps the size of the gradient, τ (q − p), the same for all τ (arXiv 1503.02531).
    """
    a, b = _from_highest(jax.lax.stop_gradient(target), temperature), _from_highest(student, temperature)
    p, q = jnp.exp(a), jnp.exp(b)  # but for their sums
    p_sum, q_sum = p.sum(axis=-1), q.sum(axis=-1)
    return temperature**2 * (jnp.sum(p * (a - b), axis=-1) / p_sum - jnp.log(p_sum) + jnp.log(q_sum))


def _from_highest(logits: jax.Array, temperature: jax.Array) -> jax.Array:
    """(logits − max)/τ: in this order, equal logits stay exactly equal however the compiler fuses the two."""
    highest = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    # A temperature for each row, NaN where its highest is. With one for all, XLA's CPU compiler joins the maximum, the
    # difference and the quotient, and writes out what it needs for that, `[T, B, C]` each.
    return (logits - highest) / jnp.where(jnp.isnan(highest), highest, temperature)
