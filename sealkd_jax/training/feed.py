"""How examples get to the devices: a whole split at once, or, where it is read on demand, piece by piece.

A piece is some whole batches. While the devices compute on one, Grain reads the next. Several processes read a part
of each piece or batch each: to train, for their own devices; to evaluate, for all devices, which exchange them.

Axis legend: T timesteps, P batches of a piece, B batch, N examples.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.multihost_utils import process_allgather

from sealkd_jax.data import Dataset, Split
from sealkd_jax.data.streaming import stream
from sealkd_jax.models import Network, Variables
from sealkd_jax.parallel.sharding import Parallel
from sealkd_jax.training.epoch import DeviceData, Evaluation, PieceBatch, Recipe, Scale, epoch_order, make_evaluation
from sealkd_jax.training.survey import Survey, make_survey

PIECE_BYTES = 2**26


def on_devices(dataset: Dataset, split: Split, parallel: Parallel, first: int = 0) -> DeviceData:
    """Examples on every device; mean and std are float32, and float64 where JAX has it enabled."""
    images, labels = map(jnp.asarray, split)
    return parallel.put(DeviceData(images, labels, scale_of(dataset), jnp.int32(first)))


def scale_of(dataset: Dataset) -> Scale:
    """The data set's mean and deviation as JAX arrays."""
    return Scale(jnp.asarray(dataset.mean), jnp.asarray(dataset.std))


def piece_size(split: Split, batch_size: int) -> int:
    """Examples of a piece: as many whole batches as `PIECE_BYTES` of images hold, at least one."""
    batch_bytes = batch_size * int(np.prod(split.images.shape[1:])) * np.dtype(split.images.dtype).itemsize
    return batch_size * max(1, PIECE_BYTES // batch_bytes)


def pieces(dataset: Dataset, split: Split, parallel: Parallel, batch_size: int) -> Callable[[], Iterable[DeviceData]]:
    """Calls give the split in its order: all of it, kept on the devices, or a piece at a time."""
    if isinstance(split.images, np.ndarray):
        whole = [on_devices(dataset, split, parallel)]
        return lambda: whole

    def read() -> Iterable[DeviceData]:
        examples, size = len(split.labels), piece_size(split, batch_size)
        starts = range(0, examples, size)
        own = [parallel.process_shard(np.arange(start, min(start + size, examples))) for start in starts]
        blocks = stream(split, np.concatenate(own), len(own[0]))
        for start, (images, labels, _) in zip(starts, blocks, strict=True):
            if parallel.processes > 1:
                images, labels = process_allgather((images, labels), tiled=True)
            piece = Split(images[: examples - start], labels[: examples - start])
            yield on_devices(dataset, piece, parallel, start)

    return read


def compile_evaluation(
    network: Network, recipe: Recipe, timesteps: int, parallel: Parallel, dataset: Dataset, split: Split
) -> Callable[..., Evaluation]:
    """(variables, view=0) -> `Evaluation` of that split, on the devices of `parallel`; see `make_evaluation`."""
    evaluate = parallel.compile(
        make_evaluation(network, recipe, timesteps=timesteps, split_batch=parallel.constrain_batch)
    )
    read = pieces(dataset, split, parallel, recipe.batch_size)

    def run(variables: Variables, *view: jax.typing.ArrayLike) -> Evaluation:
        parts = [jax.tree.map(np.asarray, evaluate(variables, data, *view)) for data in read()]
        return jax.tree.map(lambda *part: np.concatenate(part, 1), *parts)

    return run


def survey_split(
    network: Network, variables: Variables, recipe: Recipe, timesteps: int, parallel: Parallel, dataset: Dataset
) -> Survey:
    """`Survey` of the test split, on the devices of `parallel`; see `make_survey`."""
    survey = parallel.compile(make_survey(network, recipe, timesteps=timesteps, split_batch=parallel.constrain_batch))
    test, parts = dataset.test, []
    for data in pieces(dataset, test, parallel, recipe.batch_size)():
        part, share = jax.tree.map(np.asarray, survey(variables, data)), len(data.labels) / len(test.labels)
        parts.append(part._replace(inputs={name: layer * share for name, layer in part.inputs.items()}))
    logits: Any = np.concatenate([part.logits for part in parts], 1)
    return Survey(logits, *(jax.tree.map(lambda *x: sum(x), *of) for of in list(zip(*parts, strict=True))[1:]))


def compile_epoch(program: Any, dataset: Dataset, parallel: Parallel) -> Callable[..., Iterator[tuple[Any, list[Any]]]]:
    """(state, teacher_logits, key, epoch, begun=()) -> (state, parts) of `loop.Program` so far, again and again.

    Parts are metrics, `[P]` each: of the whole epoch, or, of a split that is read piece by piece, of every piece; then
    `begun` are those of the epoch that came to the given state, which is gone on with. `teacher_logits` is one view's,
    `[N, C]` or `[N, T, C]`, or None. The given state is used up. The steps take the same batches either way.
    """
    train, recipe = dataset.train, program.plan.recipe
    if isinstance(train.images, np.ndarray):
        run_epoch, data = parallel.compile_epoch(program.epoch), on_devices(dataset, train, parallel)

        def whole(
            state: Any, teacher_logits: np.ndarray | None, key: jax.Array, epoch: int, _: Sequence[Any] = ()
        ) -> Iterator[tuple[Any, list[Any]]]:
            teacher = None if teacher_logits is None else jnp.asarray(teacher_logits, jnp.float32)
            state, metrics = run_epoch(state, data, teacher, key, jnp.int32(epoch))
            yield state, [metrics]

        return whole

    run_piece, scale = parallel.compile_piece(program.piece), parallel.put(scale_of(dataset))
    order_of = jax.jit(partial(epoch_order, recipe, len(train.labels)))
    steps_of_piece = piece_size(train, recipe.batch_size) // recipe.batch_size

    def in_pieces(
        state: Any, teacher_logits: np.ndarray | None, key: jax.Array, epoch: int, begun: Sequence[Any] = ()
    ) -> Iterator[tuple[Any, list[Any]]]:
        parts = list(begun)
        first = count_steps(parts)
        order = parallel.process_shard(np.asarray(order_of(key, epoch)))[first:]  # [steps, own part of B]
        share = order.shape[1]
        for images, labels, index in stream(train, order.reshape(-1), steps_of_piece * share):
            teacher = None if teacher_logits is None else np.asarray(teacher_logits[index], np.float32)
            piece: Any = (images, labels, index, teacher)
            batches = parallel.put_batches(
                jax.tree.map(lambda x: x.reshape(-1, share, *x.shape[1:]), PieceBatch(*piece))
            )
            state, metrics = run_piece(state, batches, scale, jnp.int32(epoch), jnp.int32(first))
            jax.block_until_ready(parts[-1:])  # two pieces on the devices are enough
            parts.append(metrics)
            first += len(labels) // share
            yield state, parts

    return in_pieces


def count_steps(parts: Sequence[Any]) -> int:
    """Of how many steps these are the metrics; does not wait for them."""
    return sum(len(part["loss"]) for part in parts)


def join_parts(parts: Sequence[Any]) -> Any:
    """The metrics of all these steps, on the host."""
    return jax.tree.map(lambda *part: np.concatenate(part), *parts)
