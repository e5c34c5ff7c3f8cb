"""Where random numbers come from."""

import jax


def random_key(seed: jax.typing.ArrayLike) -> jax.Array:
    """A key of the generator that all views and runs are of, whatever `JAX_DEFAULT_PRNG_IMPL` names."""
    return jax.random.key(seed, impl="threefry2x32")
