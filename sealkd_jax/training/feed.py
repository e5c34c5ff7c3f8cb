"""How examples reach the devices: a whole split at once, or chunk by chunk from a stream.

A chunk is some whole batches. While the devices compute on one, Grain reads the next. Each of several processes reads
its shard: to train, for its own devices; to evaluate, for all devices, between which the shards are exchanged.

Axis legend: T timesteps, P batches of a chunk, B batch, N examples, C classes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.multihost_utils import process_allgather

from sealkd_jax.data import Split
from sealkd_jax.data.streaming import stream
from sealkd_jax.parallel.sharding import Parallel
from sealkd_jax.training.batch import Batch
from sealkd_jax.training.epoch import epoch_order
from sealkd_jax.training.plan import PreparedPlan
from sealkd_jax.training.state import TrainState
from sealkd_jax.training.step import Metrics

CHUNK_BYTES = 2**26

Epoch = Callable[..., Iterator[tuple[TrainState, list[Metrics]]]]


def on_devices(split: Split, parallel: Parallel, first: int = 0) -> Batch:
    """Examples on every device, of which the first is at place `first` of its split."""
    labels = jnp.asarray(split.labels)
    position = first + jnp.arange(len(labels), dtype=jnp.int32)
    return parallel.put(Batch(jnp.asarray(split.images), labels, None, position))


def chunk_size(split: Split, batch_size: int) -> int:
    """The examples of a chunk: as many whole batches as `CHUNK_BYTES` of images hold, at least one."""
    batch_bytes = batch_size * int(np.prod(split.images.shape[1:])) * np.dtype(split.images.dtype).itemsize
    return batch_size * max(1, CHUNK_BYTES // batch_bytes)


def in_order(split: Split, parallel: Parallel, batch_size: int) -> Callable[[], Iterable[Batch]]:
    """Returns a function that gives the split in its order: whole, and kept on the devices, or a chunk at a time."""
    if isinstance(split.images, np.ndarray):
        whole = [on_devices(split, parallel)]
        return lambda: whole

    def read() -> Iterable[Batch]:
        examples, size = len(split.labels), chunk_size(split, batch_size)
        starts = range(0, examples, size)
        own = [parallel.process_shard(np.arange(start, min(start + size, examples))) for start in starts]
        blocks = stream(split, np.concatenate(own), len(own[0]))
        for start, (images, labels, _) in zip(starts, blocks, strict=True):
            if parallel.processes > 1:
                images, labels = process_allgather((images, labels), tiled=True)
            rest = examples - start  # the processes' equal shards may hold more
            yield on_devices(Split(images[:rest], labels[:rest]), parallel, start)

    return read


def compile_epoch(prepared: PreparedPlan, split: Split, parallel: Parallel) -> Epoch:
    """Compiles an epoch of the training split.

    Returns:
        (state, teacher_logits, key, epoch, begun=()) -> iterator over the state so far and the metrics so far: once
        for a split in memory, after each chunk for a streamed one. The metrics are a list of `[P]` each. The steps
        take the same batches either way. `teacher_logits` is one view's, `[N, C]` or `[N, T, C]`, or None. `begun`:
        the metrics of the steps already taken when resuming within an epoch. The given state is donated.
    """
    return (_whole if isinstance(split.images, np.ndarray) else _chunked)(prepared, split, parallel)


def _whole(prepared: PreparedPlan, split: Split, parallel: Parallel) -> Epoch:
    run, data = parallel.compile_epoch(prepared.epoch), on_devices(split, parallel)

    def epoch_fn(
        state: TrainState, teacher_logits: np.ndarray | None, key: chex.PRNGKey, epoch: int, _: Sequence[Metrics] = ()
    ) -> Iterator[tuple[TrainState, list[Metrics]]]:
        logits = None if teacher_logits is None else jnp.asarray(teacher_logits, jnp.float32)
        state, metrics = run(state, data._replace(teacher_logits=logits), key, jnp.int32(epoch))
        yield state, [metrics]

    return epoch_fn


def _chunked(prepared: PreparedPlan, split: Split, parallel: Parallel) -> Epoch:
    spec, run = prepared.plan.spec, parallel.compile_epoch(prepared.chunk, sharded=True)
    order_of = jax.jit(partial(epoch_order, spec, len(split.labels)))
    steps_of_chunk = chunk_size(split, spec.batch_size) // spec.batch_size

    def epoch_fn(
        state: TrainState,
        teacher_logits: np.ndarray | None,
        key: chex.PRNGKey,
        epoch: int,
        begun: Sequence[Metrics] = (),
    ) -> Iterator[tuple[TrainState, list[Metrics]]]:
        if teacher_logits is not None:
            chex.assert_axis_dimension(teacher_logits, 0, len(split.labels))
        parts = list(begun)
        first = count_steps(parts)
        order = parallel.process_shard(np.asarray(order_of(key, epoch)))[first:]  # [steps left, shard of B]
        size = order.shape[1]
        for images, labels, index in stream(split, order.reshape(-1), steps_of_chunk * size):
            logits = None if teacher_logits is None else np.asarray(teacher_logits[index], np.float32)
            chunk = Batch(images, labels, logits, index)
            chunk = jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), chunk)
            state, metrics = run(state, parallel.put_batches(chunk), jnp.int32(epoch), jnp.int32(first))
            jax.block_until_ready(parts[-1:])  # no more than two chunks on the devices at once
            parts.append(metrics)
            first += len(labels) // size
            yield state, parts

    return epoch_fn


def count_steps(parts: Sequence[Metrics]) -> int:
    """The number of steps that these metrics are of, without waiting for them."""
    return sum(len(part["loss"]) for part in parts)


def join_metrics(parts: Sequence[Metrics]) -> Metrics:
    """The metrics of all steps, on the host."""
    return jax.tree.map(lambda *part: np.concatenate(part), *parts)
