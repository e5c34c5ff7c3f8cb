"""A data set, a network and a plan that train in seconds."""

from dataclasses import fields
from functools import cache

import jax.numpy as jnp
import numpy as np
import pytest

from sealkd_jax import lif
from sealkd_jax.data import Dataset, Split, crop
from sealkd_jax.losses import METHODS
from sealkd_jax.models import Network, SpikingNet
from sealkd_jax.parallel.sharding import Parallel
from sealkd_jax.training import EpochSpec, Plan, feed, loop
from tests.helpers.devices import first_devices

CLASSES = 3


def make_dataset(examples=40, seed=0) -> Dataset:
    """Three classes: the upper, middle or lower third of the image is bright."""
    rng = np.random.default_rng(seed)

    def split(n):
        labels = rng.integers(0, CLASSES, n).astype(np.int32)
        images = rng.integers(0, 120, (n, 6, 6, 1)).astype(np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[2 * label : 2 * label + 2] += 120
        return Split(images, labels)

    return Dataset("thirds", split(examples), split(13), split(17), ("a", "b", "c"))


def make_network(**kwargs) -> Network:
    return Network(SpikingNet(CLASSES, features=(4,), pool=(True,), **kwargs))


def make_spec(**changes) -> EpochSpec:
    scale = {"mean": np.array([0.4]), "std": np.array([0.25])}
    return EpochSpec(crop(1), view_seed=0, views=2, batch_size=8, epochs=4, **scale)._replace(**changes)


def make_plan(method="none", **kwargs) -> Plan:
    method = METHODS[method] if isinstance(method, str) else method
    return Plan(make_network(), method, make_spec(), 2, seed=0, **{**RECIPE, **kwargs})


RECIPE = {"optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 1e-3, "warmup_epochs": 1}


@cache
def one_device() -> Parallel:
    return Parallel("jit", first_devices(1))


def compile_once(patch: pytest.MonkeyPatch) -> None:
    """Lets trainings of the same plan but for its seed, on the same data and devices, share what they compile."""

    def identities(argument):
        if isinstance(argument, Plan):
            return tuple(id(getattr(argument, field.name)) for field in fields(argument) if field.name != "seed")
        return id(argument)

    def remember(function):
        found = {}

        def call(*args):
            key = (feed.CHUNK_BYTES, *map(identities, args))
            if key not in found:
                found[key] = function(*args), args  # as long as they live, their identities are theirs
            return found[key][0]

        return call

    for name in ("prepare", "compile_epoch", "compile_evaluation"):
        patch.setattr(loop, name, remember(getattr(loop, name)))


class TinyStudent:
    """A layer of neurons between two matrices, as a network that `make_step` can train."""

    def train(self, variables, images, *, timesteps, axis_name=None):
        currents = images.reshape(len(images), -1) @ variables.params["in"]
        spikes, _ = lif(jnp.broadcast_to(currents, (timesteps, *currents.shape)))
        return spikes @ variables.params["out"], variables.stats


class Interrupted(Exception):
    """Raised by a test to interrupt training."""
