"""What training changes, and its digest."""

import hashlib
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from sealkd_jax.models import Network, Variables


class TrainState(NamedTuple):
    """Everything a step reads and replaces. Order and augmentation follow from seed and epoch, not from here."""

    variables: Variables
    opt_state: Any


def init_state(
    network: Network, optimizer: optax.GradientTransformation, key: jax.Array, images: jax.Array
) -> TrainState:
    """A fresh state for images `[B, H, W, C]` of this shape, already normalised."""

    variables = network.init(key, images)
    return TrainState(variables, jax.jit(optimizer.init)(variables.params))


def params_digest(variables: Variables) -> str:
    """SHA-256 of all parameters and statistics: path, dtype, shape and bytes of every array, ordered by path."""
    digest = hashlib.sha256()
    for path, leaf in sorted(flatten(variables).items()):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{path}:{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def flatten(variables: Variables) -> dict[str, Any]:
    """Every array by its path, `params/block_0/Conv_0/kernel`."""
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
