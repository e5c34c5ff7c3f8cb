"""Devices for a test: conftest.py makes eight of one CPU; accelerators may be fewer."""

import jax
import pytest


def first_devices(count: int) -> list[jax.Device]:
    """The first `count` devices. Skips the test where there are fewer accelerators."""
    found = jax.devices()
    if len(found) < count:
        kind = found[0].platform
        assert kind != "cpu", f"{len(found)} devices: conftest.py makes eight"
        pytest.skip(f"{len(found)} {kind} devices: this test needs {count}; JAX_PLATFORMS=cpu has eight")
    return found[:count]
