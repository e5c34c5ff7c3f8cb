"""Streaming: examples of a split in a given order, read ahead by Grain's threads.

Axis legend: N examples, H height, W width, C channels.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from sealkd_jax.data.datasets import Split, take

THREADS = 16  # reading and decoding release the interpreter's lock
CHUNK = 64  # examples that a thread reads at once
AHEAD = 2  # blocks


class Examples(NamedTuple):
    """Images `[N, H, W, C]` as in `Split`, labels int32 `[N]`, and positions in the split, int32 `[N]`."""

    images: np.ndarray
    labels: np.ndarray
    position: np.ndarray


def stream(split: Split, order: np.ndarray, size: int) -> Iterator[Examples]:
    """Yields blocks of `size` examples, and last a smaller one: those of `split` at the positions `order` `[N]`.

    To continue a stream that stopped, or to read the shard of one process, give that part of the order. Only a few
    blocks are in memory at a time.
    """
    import grain

    chunks = [
        order[start : min(start + CHUNK, block + size)]
        for block in range(0, len(order), size)
        for start in range(block, min(block + size, len(order)), CHUNK)
    ]

    def read(index: np.ndarray) -> Examples:
        return Examples(take(split.images, index), split.labels[index], index.astype(np.int32))

    def join(parts: Sequence[Examples]) -> Examples:
        return Examples(*map(np.concatenate, zip(*parts, strict=True)))

    options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=2 * THREADS)
    rows = grain.MapDataset.source(chunks).map(read).to_iter_dataset(options)
    blocks = rows.batch(-(-size // CHUNK), drop_remainder=False, batch_fn=join)
    yield from grain.experimental.ThreadPrefetchIterDataset(blocks, prefetch_buffer_size=AHEAD)
