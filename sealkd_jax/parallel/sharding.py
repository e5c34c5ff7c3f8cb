"""Data parallelism: the same step under `jit` on a mesh or under `pmap`, in one process or several.

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
    """Checks that `devices` times `accumulate` divides the batch size.

    Raises:
        InputError: if it does not; the message names the nearest batch size that fits.
    """
    if accumulate < 1:
        raise InputError(f"accumulate {accumulate}: expected at least 1")
    shards = devices * accumulate
    if batch_size % shards:
        nearest = max(1, round(batch_size / shards)) * shards
        by = f"{devices} devices" if accumulate == 1 else f"accumulate {accumulate} on {devices} devices"
        verb = "do" if accumulate == 1 else "does"
        raise InputError(f"batch_size {batch_size}: {by} {verb} not divide it; the nearest that fits is {nearest}")


def pick_devices(count: int | None, batch_size: int, accumulate: int = 1) -> list[jax.Device]:
    """The first `count` devices; None: all. Several processes contribute equally many each.

    The devices of a process stand together, in the order of the processes. With None, each process contributes as
    many as the process with the fewest has.

    Raises:
        InputError: if there are fewer devices, `count` is not a multiple of the number of processes, or the devices
            do not divide the batch (see `check_batch`).
    """
    available = [jax.local_devices(process_index=process) for process in range(jax.process_count())]
    processes, platform = len(available), available[0][0].platform
    most = processes * min(map(len, available))
    count = most if count is None else count
    if not processes <= count <= most or count % processes:
        which = f"the {platform} devices of this machine"
        if processes > 1:
            which = f"a multiple of {processes}: equally many {platform} devices of each of the {processes} processes"
        raise InputError(f"devices {count}: expected {processes} to {most}, {which}")
    check_batch(batch_size, count, accumulate)
    return [device for of_process in available for device in of_process[: count // processes]]


def place(array: Any, sharding: jax.sharding.Sharding) -> jax.Array:
    """The array with this sharding. If the sharding spans several processes, each must have the whole array."""
    if sharding.is_fully_addressable:
        return jax.device_put(array, sharding)
    # `device_put` would send every array to every process to check that they are equal.
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def per_shard(
    function: Callable[..., Any],
    in_specs: Sequence[PartitionSpec],
    out_specs: PartitionSpec | tuple[PartitionSpec, ...],
    *,
    batch: int,
) -> Callable[..., Any]:
    """`function`, applied by each device to its own shard of a batch that `Parallel` has laid out under `jit`.

    Use it where the compiler would gather the batch although each device could work on its own shard. Outside of
    such a program, or if the devices do not divide `batch`, it returns `function` itself.

    Args:
        function: of arrays.
        in_specs: the batch axis of each argument: `PartitionSpec(None, DATA_AXIS)` for the second axis.
        out_specs: the axis of each result along which the devices' results are joined.
        batch: the number of examples.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if DATA_AXIS not in mesh.auto_axes or batch % mesh.shape[DATA_AXIS]:
        return function
    return jax.shard_map(function, in_specs=tuple(in_specs), out_specs=out_specs, check_vma=False)


class Parallel:
    """Compiles functions for a list of devices. Arguments and results are replicated; batches are sharded.

    The devices may belong to several processes: equally many each, and those of a process together.

    Args:
        mode: a name in `PARALLEL`.
        devices: see `pick_devices`.

    Attributes:
        axis_name: the axis for collectives in a step: `data` under `pmap`, None under `jit`.
        processes: the number of processes that have these devices.

    Raises:
        InputError: for an unknown mode.
    """

    def __init__(self, mode: str, devices: Sequence[jax.Device]):
        if mode not in PARALLEL:
            raise InputError(f"parallel {mode!r}: unknown; expected one of {', '.join(PARALLEL)}")
        self.mode, self.devices = mode, list(devices)
        self.axis_name = DATA_AXIS if mode == "pmap" else None
        self._mesh = Mesh(self.devices, (DATA_AXIS,))
        self.replicated = NamedSharding(self._mesh, PartitionSpec())
        self.processes = len({device.process_index for device in self.devices})
        if jax.process_count() > 1 and self.processes > 1:  # not for devices that are only described, to compile for
            self._first_collective()

    def _first_collective(self) -> None:
        """Runs one collective: on CPU the first times out if processes arrive more than 30 s apart."""
        wait_for_all()
        ones = place(np.ones(len(self.devices), np.float32), NamedSharding(self._mesh, PartitionSpec(DATA_AXIS)))
        jax.block_until_ready(jax.jit(lambda x: x.sum(), out_shardings=self.replicated)(ones))

    def for_batch_size(self, batch_size: int) -> "Parallel":
        """The same mode on as many of these devices as divide `batch_size`.

        Raises:
            InputError: if the processes do not divide it.
        """
        of_process = len(self.devices) // self.processes
        if batch_size % self.processes:
            raise InputError(
                f"batch_size {batch_size}: {self.processes} processes do not divide it; start a number that does"
            )
        count = math.gcd(of_process, batch_size // self.processes)
        if count == of_process:
            return self
        return Parallel(self.mode, [device for k, device in enumerate(self.devices) if k % of_process < count])

    def process_shard(self, array: np.ndarray) -> np.ndarray:
        """The part of an array `[..., B]` for the devices of this process.

        Parts are equal; if B does not divide, the last element is repeated.
        """
        size = -(-array.shape[-1] // self.processes)
        places = jax.process_index() % self.processes * size + np.arange(size)
        return array[..., np.minimum(places, array.shape[-1] - 1)]

    def put(self, tree: Any) -> Any:
        """Copies arrays to every device."""
        return jax.tree.map(lambda array: place(array, self.replicated), tree)

    def constrain_batch(self, index: jax.Array) -> jax.Array:
        """Under `jit`: shards the indices `[B]` of a batch over the devices. All that is computed from them follows."""
        return jax.lax.with_sharding_constraint(index, NamedSharding(self._mesh, PartitionSpec(DATA_AXIS)))

    def split_batch(self, index: jax.Array) -> jax.Array:
        """The indices `[B]` of a batch, sharded: by `constrain_batch`, or under `pmap` cut to this device's shard."""
        if self.mode == "jit":
            return self.constrain_batch(index)
        size, rest = divmod(len(index), len(self.devices))
        if rest:
            raise InputError(f"batch_size {len(index)}: {len(self.devices)} devices do not divide it")
        return jax.lax.dynamic_slice_in_dim(index, jax.lax.axis_index(DATA_AXIS) * size, size)

    def compile_epoch(self, epoch_fn: Callable[..., Any], *, sharded: bool = False) -> Callable[..., Any]:
        """Compiles (state, data, ...) -> (state, metrics), a function that uses `axis_name` and `split_batch`.

        With `sharded`, `data` are batches laid out by `put_batches`; otherwise every device has all of `data`. The
        state is donated.
        """
        if self.mode == "jit":
            return jax.jit(self._on_mesh(epoch_fn), donate_argnums=0, out_shardings=self.replicated)
        mapped = jax.pmap(
            lambda _, state, data, args: epoch_fn(state, data, *args),
            DATA_AXIS,
            devices=self.devices,
            in_axes=(0, None, 0 if sharded else None, None),
            out_axes=None,
        )
        numbers = np.arange(len(self.devices) // self.processes)  # pmap needs an argument to map over
        return lambda state, data, *args: self._on_all_processes(mapped(numbers, state, data, args))

    def put_batches(self, batches: Any) -> Any:
        """Lays batches `[P, B, ...]` out for `compile_epoch`, so that every device gets its shard of each batch.

        A process passes its `process_shard` of each batch.
        """
        axis = PartitionSpec(None, DATA_AXIS) if self.mode == "jit" else PartitionSpec(DATA_AXIS)
        sharding, own = NamedSharding(self._mesh, axis), len(self.devices) // self.processes

        def lay_out(x: np.ndarray) -> jax.Array:
            if self.mode == "pmap":
                x = np.moveaxis(x.reshape(len(x), own, -1, *x.shape[2:]), 1, 0)
            return jax.make_array_from_process_local_data(sharding, x)

        return jax.tree.map(lay_out, batches)

    def _on_all_processes(self, tree: Any) -> Any:
        """Makes results of `pmap`, which are on this process's devices, arrays on all devices for `jit`."""
        if self.processes == 1:
            return tree

        def join(x: jax.Array) -> jax.Array:
            copies = [shard.data for shard in x.addressable_shards]
            return jax.make_array_from_single_device_arrays(x.shape, self.replicated, copies)

        return jax.tree.map(join, tree)

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Compiles a function without collectives of its own, such as an evaluation with `constrain_batch`."""
        return jax.jit(self._on_mesh(function), out_shardings=self.replicated)

    def _on_mesh(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, traced where `per_shard` finds the mesh."""
        if len(self.devices) == 1:
            return function

        def traced(*args: Any) -> Any:
            with jax.sharding.use_abstract_mesh(self._mesh.abstract_mesh):
                return function(*args)

        return traced
