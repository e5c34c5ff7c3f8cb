"""Several devices: the suite makes eight of one CPU; of GPUs and TPUs there are as many as there are."""

import jax
import pytest


def first_devices(count: int) -> list[jax.Device]:
    """The first so many; where there are fewer, the test is skipped."""
    found = jax.devices()
    if len(found) < count:
        kind = found[0].platform
        pytest.skip(f"needs {count} devices, here are {len(found)} of {kind}; JAX_PLATFORMS=cpu has eight")
    return found[:count]
