"""Reading a split that does not fit into memory: records in a given order, read ahead by Grain's threads.

Axis legend: N examples, H height, W width, C channels.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from sealkd_jax.data.datasets import Split, take

THREADS = 16  # reading and decoding let go of the interpreter's lock
CHUNK = 64  # examples that one thread reads in a row
AHEAD = 2  # blocks


class Examples(NamedTuple):
    """Images `[N, H, W, C]` as in `Split`, labels int32 `[N]`, and their places in the split `[N]`."""

    images: np.ndarray
    labels: np.ndarray
    index: np.ndarray  # type: ignore[assignment]  # no longer that of a tuple


def stream(split: Split, order: np.ndarray, size: int) -> Iterator[Examples]:
    """Yields the examples of `split` whose places are `order` `[N]`, `size` at a time; the last block may be smaller.

    Which example comes when follows from `order` alone: to go on where an earlier stream stopped, or to read one
    process's share, give that part of the order. Not more than a few blocks are in memory at once.
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
