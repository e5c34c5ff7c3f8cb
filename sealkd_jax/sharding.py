"""Which devices a program runs on: the same step under `jit` on a mesh, or under `pmap`.

Axis legend: B batch.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sealkd_jax.errors import InputError

PARALLEL = ("jit", "pmap")
DATA_AXIS = "data"


def check_batch(batch_size: int, devices: int, accumulate: int = 1) -> None:
    """Complains of a batch that so many devices, taking it in `accumulate` parts, do not divide.

    Raises:
        InputError: which names the nearest that they do.
    """
    if accumulate < 1:
        raise InputError(f"accumulate {accumulate}: expected at least 1")
    shares = devices * accumulate
    if batch_size % shares:
        nearest = max(1, round(batch_size / shares)) * shares
        by = f"{devices} devices" if accumulate == 1 else f"accumulate {accumulate} on {devices} devices"
        verb = "do" if accumulate == 1 else "does"
        raise InputError(f"batch-size {batch_size}: {by} {verb} not divide it; the nearest that fits is {nearest}")


def pick_devices(count: int | None, batch_size: int, accumulate: int = 1) -> list[jax.Device]:
    """The first `count` devices of this machine (None: all) that will share every batch, or part of it.

    Raises:
        InputError: if there are not so many, or they do not divide the batch, see `check_batch`.
    """
    available = jax.local_devices()
    if count is not None and not 1 <= count <= len(available):
        raise InputError(
            f"devices {count}: expected 1 to {len(available)}, the {available[0].platform} devices of this machine"
        )
    devices = available[:count]
    check_batch(batch_size, len(devices), accumulate)
    return devices


def on_own_part(
    function: Callable[..., Any], parts: Sequence[PartitionSpec], result: PartitionSpec, *, batch: int
) -> Callable[..., Any]:
    """`function` on each device's part of a batch, where `Parallel` has laid one out over devices under `jit`.

    For what the compiler would bring all parts together for, though each device could do its own. Elsewhere, and
    where the devices do not divide `batch`, it is `function` itself.

    Args:
        function: of arrays.
        parts: for each of them, which axis is the batch's: `PartitionSpec(None, DATA_AXIS)` for the second.
        result: the same of what it returns: an array that has all devices' results along that axis.
        batch: how many examples there are.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if DATA_AXIS not in mesh.auto_axes or batch % mesh.shape[DATA_AXIS]:
        return function
    return jax.shard_map(function, in_specs=tuple(parts), out_specs=result, check_vma=False)


class Parallel:
    """Compiles programs for a list of devices. Arguments and results are replicated; each batch is split.

    Attributes:
        axis_name: what collectives of a step are to name: `data` under `pmap`, None under `jit`.
    """

    def __init__(self, mode: str, devices: Sequence[jax.Device]):
        if mode not in PARALLEL:
            raise InputError(f"parallel {mode!r}: unknown; expected one of {', '.join(PARALLEL)}")
        self.mode, self.devices = mode, list(devices)
        self.axis_name = DATA_AXIS if mode == "pmap" else None
        self._mesh = Mesh(self.devices, (DATA_AXIS,))
        self.replicated = NamedSharding(self._mesh, PartitionSpec())

    def dividing(self, batch_size: int) -> "Parallel":
        """The same on as many of these devices as divide `batch_size`."""
        return Parallel(self.mode, self.devices[: math.gcd(len(self.devices), batch_size)])

    def put(self, tree: Any) -> Any:
        """Copies arrays to every device."""
        return jax.device_put(tree, self.replicated)

    def constrain_batch(self, index: jax.Array) -> jax.Array:
        """Under `jit`: lays a batch's indices `[B]` out over the devices; all that is made from them follows."""
        return jax.lax.with_sharding_constraint(index, NamedSharding(self._mesh, PartitionSpec(DATA_AXIS)))

    def split_batch(self, index: jax.Array) -> jax.Array:
        """The indices `[B]` of a batch that this device handles: `constrain_batch`, or under `pmap` its own part."""
        if self.mode == "jit":
            return self.constrain_batch(index)
        share, rest = divmod(len(index), len(self.devices))
        if rest:
            raise InputError(f"batch-size {len(index)}: {len(self.devices)} devices do not divide it")
        return jax.lax.dynamic_slice_in_dim(index, jax.lax.axis_index(DATA_AXIS) * share, share)

    def compile_epoch(self, epoch_fn: Callable[..., Any]) -> Callable[..., Any]:
        """Compiles (state, ...) -> (state, metrics), written with `axis_name` and `split_batch` of this object."""
        if self.mode == "jit":
            return jax.jit(self._on_mesh(epoch_fn), donate_argnums=0, out_shardings=self.replicated)
        mapped = jax.pmap(
            lambda _, args: epoch_fn(*args), DATA_AXIS, devices=self.devices, in_axes=(0, None), out_axes=None
        )
        numbers = np.arange(len(self.devices))  # pmap wants an argument to map over
        return lambda *args: mapped(numbers, args)

    def put_batches(self, batches: Any) -> Any:
        """Lays batches `[P, B, ...]` out for `compile_piece`, to every device its own part of each batch."""
        if self.mode == "jit":
            return jax.device_put(batches, NamedSharding(self._mesh, PartitionSpec(None, DATA_AXIS)))

        def by_device(x: np.ndarray) -> np.ndarray:
            return np.moveaxis(x.reshape(len(x), len(self.devices), -1, *x.shape[2:]), 1, 0)

        return jax.device_put(jax.tree.map(by_device, batches), NamedSharding(self._mesh, PartitionSpec(DATA_AXIS)))

    def compile_piece(self, piece_fn: Callable[..., Any]) -> Callable[..., Any]:
        """Compiles (state, batches, ...) -> (state, metrics) for `batches` from `put_batches`."""
        if self.mode == "jit":
            return jax.jit(self._on_mesh(piece_fn), donate_argnums=0, out_shardings=self.replicated)
        mapped = jax.pmap(
            lambda batches, state, args: piece_fn(state, batches, *args),
            DATA_AXIS,
            devices=self.devices,
            in_axes=(0, None, None),
            out_axes=None,
        )
        return lambda state, batches, *args: mapped(batches, state, args)

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Compiles a program without collectives of its own, such as an evaluation with `constrain_batch`."""
        return jax.jit(self._on_mesh(function), out_shardings=self.replicated)

    def _on_mesh(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same, traced where `on_own_part` finds the mesh."""
        if len(self.devices) == 1:
            return function

        def traced(*args: Any) -> Any:
            with jax.sharding.use_abstract_mesh(self._mesh.abstract_mesh):
                return function(*args)

        return traced
