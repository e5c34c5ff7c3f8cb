"""AEDAT 4, the file format of iniVation's cameras: packets of events, each compressed.

Why not tonic's `read_aedat4`: its decoder, `aedat` 2.3, trusts its input, and some damaged files abort the whole
process. On undamaged files the two agree.

    file:   "#!AER-DAT4.0\\r\\n", size (4 bytes), header (FlatBuffers table: compression, end of the packets),
            packets, an index of the packets, which is not needed
    packet: stream (4 bytes), size (4 bytes), data; unpacked: size (4 bytes), FlatBuffers table (a vector of events)

Source: https://docs.inivation.com/software/software-advanced-usage/file-formats/aedat-4.0.html, and FlatBuffers' own
https://flatbuffers.dev/internals. Integers are little-endian.

Axis legend: E events of one recording.
"""

import struct

import numpy as np

from sealkd_jax.data.events.recordings import BadRecording, Events, Sensor, checked, optional_dependency

MAGIC = b"#!AER-DAT4.0\r\n"
LARGEST = 2**26  # bytes of one recording's packets, unpacked: four million events
_EVENT = np.dtype([("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "u1"), ("padding", "V3")])


def parse(where: str, data: bytes, sensor: Sensor) -> Events:
    """The events of the file's first stream of events.

    Raises:
        BadRecording: if the file is truncated, damaged or of another format; see also `recordings.checked`.
    """
    if not data.startswith(MAGIC):
        raise BadRecording(f"{where}: byte 0: expected {MAGIC!r}, an AEDAT 4 file, got {data[: len(MAGIC)]!r}")
    streams: dict[int, list[np.ndarray]] = {}
    starts: dict[int, list[int]] = {}
    at, left = len(MAGIC), LARGEST
    try:
        (size,) = struct.unpack_from("<I", data, at)
        header, at = _whole(data, at + 4, size, len(data)), at + 4 + size
        compression, end = _number(header, 0, 0, "<i", 0), _number(header, 0, 1, "<q", -1)
        end = len(data) if end == -1 else end  # -1: the recording was not closed
        if not at <= end <= len(data):
            raise ValueError(f"the packets end at byte {end} of {len(data)}")
        while at < end:
            stream, size = struct.unpack_from("<II", data, at)
            packet = _unpacked(_whole(data, at + 8, size, end), compression, left)
            left -= len(packet)
            if packet[8:12] == b"EVTS":
                streams.setdefault(stream, []).append(_events(packet))
                starts.setdefault(stream, []).append(at)
            at += 8 + size
    except (ValueError, struct.error) as error:
        raise BadRecording(f"{where}: byte {at}: truncated or damaged: {error}") from error
    if not streams:
        raise BadRecording(f"{where}: byte {at}: no events")
    first = min(streams)
    events = np.concatenate(streams[first])
    ends = np.cumsum([len(packet) for packet in streams[first]])

    def place(event: int) -> str:
        return f"packet at byte {starts[first][np.searchsorted(ends, event, side='right')]}"

    return checked(where, Events(*(events[name].astype(np.int64) for name in "xypt")), sensor, place)


def _whole(data: bytes, start: int, size: int, end: int) -> bytes:
    if not 12 <= size <= end - start:  # the smallest FlatBuffers table
        raise ValueError(f"{size} bytes declared, {end - start} found")
    return data[start : start + size]


def _field(table_buffer: bytes, root: int, field: int) -> int | None:
    """The position of a field in a FlatBuffers table, None if it has its default. `root`: position of the offset."""
    (table,) = struct.unpack_from("<I", table_buffer, root)
    table += root
    vtable = table - struct.unpack_from("<i", table_buffer, table)[0]
    if vtable < 0:
        raise ValueError(f"a table with its layout at byte {vtable}")
    (size,) = struct.unpack_from("<H", table_buffer, vtable)
    if 4 + 2 * field >= size:
        return None
    (offset,) = struct.unpack_from("<H", table_buffer, vtable + 4 + 2 * field)
    return table + offset if offset else None


def _number(table_buffer: bytes, root: int, field: int, kind: str, default: int) -> int:
    at = _field(table_buffer, root, field)
    return default if at is None else struct.unpack_from(kind, table_buffer, at)[0]


def _unpacked(data: bytes, compression: int, bound: int) -> bytes:
    """The packet's data. Stops unpacking after `bound` bytes, and refuses the packet."""
    if compression not in range(5):
        raise ValueError(f"compression {compression}; expected 0 to 4")
    with optional_dependency():
        import lz4.frame
        import zstandard
    try:
        if compression == 0:
            packet = data
        elif compression < 3:
            decoder = lz4.frame.LZ4FrameDecompressor()
            packet = decoder.decompress(data, max_length=bound + 1)
            if not decoder.eof and len(packet) <= bound:
                raise ValueError("a packet is truncated")
        else:
            packet = zstandard.ZstdDecompressor().stream_reader(data).read(bound + 1)
    except (RuntimeError, zstandard.ZstdError, EOFError) as error:
        raise ValueError(str(error)) from error
    if len(packet) > bound:
        raise ValueError(f"more than {LARGEST} bytes of events")
    return packet


def _events(packet: bytes) -> np.ndarray:
    at = _field(packet, 4, 0)  # after the size
    if at is None:
        return np.empty(0, _EVENT)
    at += struct.unpack_from("<I", packet, at)[0]
    (count,) = struct.unpack_from("<I", packet, at)
    if at + 4 + count * _EVENT.itemsize > len(packet):
        raise ValueError(f"a packet declares {count} events in {len(packet)} bytes")
    return np.frombuffer(packet, _EVENT, count, at + 4)
