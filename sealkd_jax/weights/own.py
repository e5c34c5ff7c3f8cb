"""A network's variables as one safetensors file: every array under its path, metadata in the header."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from sealkd_jax.errors import InputError
from sealkd_jax.files import open_file, replacing
from sealkd_jax.models import Variables

_METADATA, _DIGEST = "facts", "params_digest"


def save_weights(path: Path, variables: Variables, metadata: dict[str, Any]) -> None:
    """Writes the file at once: a reader finds the old file or the new one, never a part.

    The metadata and a digest of the arrays are one entry of the header, in JSON, because safetensors writes several
    entries in no fixed order.
    """
    arrays = {name: np.asarray(leaf) for name, leaf in flatten(variables).items()}
    with replacing(path) as partial:
        partial.write_bytes(save(arrays, {_METADATA: json.dumps(metadata | {_DIGEST: params_digest(variables)})}))


def load_weights(path: Path, like: Variables) -> Variables:
    """Reads variables with the structure, shapes and dtypes of `like` (arrays or `jax.ShapeDtypeStruct`).

    Raises:
        InputError: if the file is not readable safetensors, does not hold exactly these arrays, or is damaged: its
            digest differs; or has a value that no weight can have, see `check_values`. A file that `save_weights` did
            not write has no digest.
    """
    try:
        with open_file(path), safe_open(path, framework="numpy") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            digest = json.loads((file.metadata() or {}).get(_METADATA, "{}")).get(_DIGEST)
    except (OSError, ValueError, AttributeError, RecursionError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be read as safetensors: {error}") from error
    wanted = flatten(like)
    if found.keys() != wanted.keys():
        name = min(found.keys() ^ wanted.keys())
        raise InputError(
            f"{path}: {name} is {'not expected' if name in found else 'missing'}; the file belongs to another network"
        )
    for name, array in found.items():
        if array.shape != wanted[name].shape or array.dtype != wanted[name].dtype:
            raise InputError(
                f"{path}: {name}: expected {wanted[name].dtype} {list(wanted[name].shape)}, "
                f"got {array.dtype} {list(array.shape)}; the file belongs to another network"
            )
    variables = jax.tree.unflatten(jax.tree.structure(like), [found[name] for name in wanted])
    if digest not in (None, params_digest(variables)):
        raise InputError(f"{path}: damaged: its arrays are not those that were written; remove it and create it again")
    check_values(path, found)
    return variables


def check_values(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Raises an `InputError` that names the first array with NaN, infinity or a negative variance.

    Neurons hide such weights: one whose membrane is NaN never fires, and the logits are finite.
    """
    for name, array in arrays.items():
        if not jnp.issubdtype(array.dtype, jnp.floating):
            continue
        if not (finite := np.isfinite(array)).all():
            raise InputError(
                f"{path}: {name}: expected finite numbers, got {array[~finite][0]}; give undamaged weights"
            )
        if name.endswith(("/var", "running_var")) and (array < 0).any():
            raise InputError(
                f"{path}: {name}: expected variances of at least 0, got {array.min()}; give undamaged weights"
            )


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
