"""Random events, files of them in the three formats that the package reads, and damaged files.

Axis legend: E events of one recording.
"""

import io
import struct

import lz4.frame
import numpy as np
import zstandard
from hypothesis import strategies as st

from sealkd_jax.data.events.recordings import Events


@st.composite
def events(draw, sensor, longest=2**23 - 1, most=60):
    """1 to `most` events of a square sensor, ordered by time."""
    count = draw(st.integers(1, most))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    last = draw(st.integers(0, longest))
    x, y, p = (rng.integers(0, bound, count) for bound in (sensor, sensor, 2))
    return Events(x, y, p, np.sort(rng.integers(0, last, count, endpoint=True)))


def some_events(count, sensor, seed=0, longest=300_000):
    """`count` events of a square sensor, ordered by time."""
    rng = np.random.default_rng(seed)
    x, y, p = (rng.integers(0, bound, count) for bound in (sensor, sensor, 2))
    return Events(x, y, p, np.sort(rng.integers(0, longest, count)))


def nmnist(events):
    """N-MNIST, 5 bytes for each event: x, y, polarity and the upper 7 bits of time, its middle and lower 8."""
    x, y, p, t = events
    return np.stack([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255], 1).astype(np.uint8).tobytes()


def npy(events, dtype=np.int64, order="C"):
    """The array that tonic publishes for DVS128 Gesture, `[E, 4]`: x, y, polarity, milliseconds."""
    x, y, p, t = events
    file = io.BytesIO()
    np.save(file, np.asarray(np.stack([x, y, p, t // 1000], 1), dtype, order=order))
    return file.getvalue()


def aedat4(*packets, compression=0, end=None):
    """AEDAT 4 with a packet for each (stream, events).

    `end` is the end of the packets as the header gives it; None: the true one.
    """
    body = b"".join(
        struct.pack("<II", stream, len(data)) + data
        for stream, data in ((stream, _pack(_packet(events), compression)) for stream, events in packets)
    )
    start = 14 + 4 + 44
    # root's offset, identifier, vtable (its size, the table's, two fields), padding, table (vtable, compression, end)
    header = struct.pack("<I4sHHHHIiiq8x", 20, b"IOHE", 8, 16, 4, 8, 0, 12, compression, end or start + len(body))
    return b"#!AER-DAT4.0\r\n" + struct.pack("<I", len(header)) + header + body


def _packet(events):
    dtype = np.dtype([("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "u1"), ("padding", "V3")])
    array = np.zeros(len(events.t), dtype)
    for name in "xypt":
        array[name] = getattr(events, name)
    # root's offset, identifier, vtable (its size, the table's, one field), padding, table (vtable, vector), its length
    table = struct.pack("<I4sHHHHiII", 16, b"EVTS", 6, 8, 4, 0, 8, 4, len(array)) + array.tobytes()
    return struct.pack("<I", len(table)) + table


def _pack(data, compression):
    return {0: bytes, 1: lz4.frame.compress, 2: lz4.frame.compress}.get(compression, zstandard.compress)(data)


@st.composite
def damaged(draw, data):
    """The bytes cut short, with some bits flipped, with some bytes replaced, or random bytes in their place."""
    kind = draw(st.sampled_from(["cut", "flip", "other", "random"]))
    if kind == "cut":
        return data[: draw(st.integers(0, len(data) - 1))]
    if kind == "random":
        return draw(st.binary(max_size=400))
    array = np.frombuffer(data, np.uint8).copy()
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, min(len(data), 600) - 1) | st.integers(0, len(data) - 1))
        array[at] = array[at] ^ 1 << draw(st.integers(0, 7)) if kind == "flip" else draw(st.integers(0, 255))
    return array.tobytes()
