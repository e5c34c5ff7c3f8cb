"""Several devices: the suite makes eight of one CPU; an accelerator may be the only one."""

import jax
import pytest


def first_devices(count: int) -> list[jax.Device]:
    """The first so many; where there are fewer accelerators, the test is skipped."""
    found = jax.devices()
    if len(found) < count:
        kind = found[0].platform
        assert kind != "cpu", f"{len(found)} devices: conftest.py makes eight"
        pytest.skip(f"needs {count} devices, here are {len(found)} of {kind}; JAX_PLATFORMS=cpu has eight")
    return found[:count]
