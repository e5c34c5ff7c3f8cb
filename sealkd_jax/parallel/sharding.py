"""Which devices a program runs on: the same step under `jit` on a mesh, or under `pmap`, in one process or several.

Axis legend: B batch.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sealkd_jax.errors import InputError
from sealkd_jax.parallel.processes import wait_for_all

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

    Several processes have equal shares of `count`: the first devices of each, the first process's first. None: as
    many of each as the one with the fewest has.

    Raises:
        InputError: if there are not so many, or they do not divide the batch, see `check_batch`.
    """
    available = [jax.local_devices(process_index=process) for process in range(jax.process_count())]
    processes, platform = len(available), available[0][0].platform
    most = processes * min(map(len, available))
    count = most if count is None else count
    if not processes <= count <= most or count % processes:
        which = f"the {platform} devices of this machine"
        if processes > 1:
            which = f"a multiple of {processes}: as many {platform} devices of each of the {processes} processes"
        raise InputError(f"devices {count}: expected {processes} to {most}, {which}")
    check_batch(batch_size, count, accumulate)
    return [device for of_process in available for device in of_process[: count // processes]]


def place(array: Any, sharding: jax.sharding.Sharding) -> jax.Array:
    """The array with this sharding; where that spans several processes, each of them has the whole array already."""
    if sharding.is_fully_addressable:
        return jax.device_put(array, sharding)
    # `device_put` would send every array to every process, to see that they are the same.
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def on_own_part(
    function: Callable[..., Any],
    parts: Sequence[PartitionSpec],
    result: PartitionSpec | tuple[PartitionSpec, ...],
    *,
    batch: int,
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

    The devices may be those of several processes, equally many of each, one process's after another's.

    Attributes:
        axis_name: what collectives of a step are to name: `data` under `pmap`, None under `jit`.
        processes: how many processes have the devices.
    """

    def __init__(self, mode: str, devices: Sequence[jax.Device]):
        if mode not in PARALLEL:
            raise InputError(f"parallel {mode!r}: unknown; expected one of {', '.join(PARALLEL)}")
        self.mode, self.devices = mode, list(devices)
        self.axis_name = DATA_AXIS if mode == "pmap" else None
        self._mesh = Mesh(self.devices, (DATA_AXIS,))
        self.replicated = NamedSharding(self._mesh, PartitionSpec())
        self.processes = len({device.process_index for device in self.devices})
        if jax.process_count() > 1 and self.processes > 1:  # not where devices are only described, to compile for
            self._meet()

    def _meet(self) -> None:
        """A first collective of these devices: CPUs that come to it more than 30 s apart give up, to later ones not."""
        wait_for_all()
        ones = place(np.ones(len(self.devices), np.float32), NamedSharding(self._mesh, PartitionSpec(DATA_AXIS)))
        jax.block_until_ready(jax.jit(lambda x: x.sum(), out_shardings=self.replicated)(ones))

    def dividing(self, batch_size: int) -> "Parallel":
        """The same on as many of these devices as divide `batch_size`.

        Raises:
            InputError: if the processes do not.
        """
        of_process = len(self.devices) // self.processes
        if batch_size % self.processes:
            raise InputError(
                f"batch-size {batch_size}: {self.processes} processes do not divide it; start as many as do"
            )
        share = math.gcd(of_process, batch_size // self.processes)
        if share == of_process:
            return self
        return Parallel(self.mode, [device for k, device in enumerate(self.devices) if k % of_process < share])

    def alone(self) -> "Parallel":
        """This process's first device, for what every process computes by itself."""
        rank = jax.process_index() % self.processes
        return Parallel("jit", self.devices[rank * len(self.devices) // self.processes :][:1])

    def own_part(self, array: np.ndarray) -> np.ndarray:
        """What of an array `[..., B]` is for this process's devices: equal parts, the last element filling up."""
        size = -(-array.shape[-1] // self.processes)
        places = jax.process_index() % self.processes * size + np.arange(size)
        return array[..., np.minimum(places, array.shape[-1] - 1)]

    def put(self, tree: Any) -> Any:
        """Copies arrays to every device."""
        return jax.tree.map(lambda array: place(array, self.replicated), tree)

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
        numbers = np.arange(len(self.devices) // self.processes)  # pmap wants an argument to map over
        return lambda *args: self._on_all_processes(mapped(numbers, args))

    def put_batches(self, batches: Any) -> Any:
        """Lays batches `[P, B, ...]` out for `compile_piece`, to every device its own part of each batch.

        Of each batch, a process brings its `own_part`.
        """
        axis = PartitionSpec(None, DATA_AXIS) if self.mode == "jit" else PartitionSpec(DATA_AXIS)
        sharding, own = NamedSharding(self._mesh, axis), len(self.devices) // self.processes

        def lay_out(x: np.ndarray) -> jax.Array:
            if self.mode == "pmap":
                x = np.moveaxis(x.reshape(len(x), own, -1, *x.shape[2:]), 1, 0)
            return jax.make_array_from_process_local_data(sharding, x)

        return jax.tree.map(lay_out, batches)

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
        return lambda state, batches, *args: self._on_all_processes(mapped(batches, state, args))

    def _on_all_processes(self, tree: Any) -> Any:
        """What `pmap` returns knows this process's devices alone, though all have the same: so that `jit` takes it."""
        if self.processes == 1:
            return tree

        def join(x: jax.Array) -> jax.Array:
            parts = [shard.data for shard in x.addressable_shards]
            return jax.make_array_from_single_device_arrays(x.shape, self.replicated, parts)

        return jax.tree.map(join, tree)

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
