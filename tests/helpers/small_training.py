"""A data set, a network and a plan that train in seconds."""

import numpy as np

from sealkd_jax.data import Dataset, Split, crop
from sealkd_jax.losses import METHODS
from sealkd_jax.models import Network, SpikingNet
from sealkd_jax.parallel.sharding import Parallel
from sealkd_jax.training import EpochSpec, Plan
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


def one_device() -> Parallel:
    return Parallel("jit", first_devices(1))


class Interrupted(Exception):
    """Raised by a test to interrupt training."""
