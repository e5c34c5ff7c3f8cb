"""AEDAT 2.0 and 3.1, in which the authors of CIFAR10-DVS and of DVS128 Gesture publish their recordings of a DVS128.

    2.0: lines that begin with "#"; events of 8 bytes, big-endian: an address (4) and a time in microseconds (4)
    3.1: the same, ended by "#!END-HEADER"; packets of a header (28 bytes, little-endian) and events, 8 bytes each

Source: https://docs.inivation.com/software/software-advanced-usage/file-formats/. What the bits of an address mean in
CIFAR10-DVS follows SpikingJelly's reader, with which the authors of SeAl-KD train: x = 127 - bits 8 to 14,
y = 127 - bits 1 to 7, and bit 0 is 1 where it became darker.

Axis legend: E events of one recording.
"""

import struct

import numpy as np

from sealkd_jax.data.events.recordings import BadRecording, Events

SENSOR = 128
MAGIC = b"#!AER-DAT"
_END = b"#!END-HEADER\r\n"
_POLARITY = 1  # the type of a packet of events


def parse(where: str, data: bytes) -> Events:
    """All events of a file, not yet checked.

    Raises:
        BadRecording: if the file is truncated, damaged or of another format.
    """
    version = data[len(MAGIC) : len(MAGIC) + 3] if data.startswith(MAGIC) else b""
    if version not in (b"2.0", b"3.1"):
        raise BadRecording(f"{where}: byte 0: expected AEDAT 2.0 or 3.1, {MAGIC.decode()}…, got {data[:14]!r}")
    return _parse_2(where, data) if version == b"2.0" else _parse_3(where, data)


def _parse_2(where: str, data: bytes) -> Events:
    start = 0
    while data[start : start + 1] == b"#":
        end = data.find(b"\n", start)
        if end < 0:
            raise BadRecording(f"{where}: byte {start}: truncated within its header")
        start = end + 1
    if left := (len(data) - start) % 8:
        raise BadRecording(f"{where}: byte {len(data) - left}: truncated; expected 8 bytes per event")
    address, time = np.frombuffer(data, ">u4", offset=start).reshape(-1, 2).T.astype(np.int64)
    if (wrong := address >= 2**16).any():
        first = int(wrong.argmax())
        raise BadRecording(f"{where}: byte {start + 8 * first}: address {address[first]}; expected one of a DVS128")
    return Events(127 - (address >> 8 & 127), 127 - (address >> 1 & 127), 1 - (address & 1), time)


def _parse_3(where: str, data: bytes) -> Events:
    at = data.find(_END)
    if at < 0:
        raise BadRecording(f"{where}: byte {len(data)}: truncated within its header")
    if b"#Format: RAW" not in data[:at]:
        raise BadRecording(f"{where}: byte 0: expected the format RAW, which is not compressed")
    at += len(_END)
    parts = [np.empty((3, 0), np.int64)]
    while at < len(data):
        if at + 28 > len(data):
            raise BadRecording(f"{where}: byte {at}: truncated within the header of a packet")
        kind, _, size, _, overflow, capacity, number, _ = struct.unpack_from("<HHIIIIII", data, at)
        if number > capacity or at + 28 + capacity * size > len(data):
            raise BadRecording(
                f"{where}: byte {at}: truncated or damaged: a packet of {number} of {capacity} events of {size} bytes"
            )
        if kind == _POLARITY:
            if size != 8 or overflow >= 2**16:
                raise BadRecording(f"{where}: byte {at}: damaged: events of {size} bytes, {overflow} overflows of time")
            word, time = np.frombuffer(data, "<u4", 2 * number, at + 28).reshape(-1, 2).T.astype(np.int64)
            valid = (word & 1).astype(bool)
            parts.append(np.stack([word, time | overflow << 31, valid])[:, valid])
        at += 28 + capacity * size
    word, time, _ = np.concatenate(parts, 1)
    return Events(word >> 17 & 0x7FFF, word >> 2 & 0x7FFF, word >> 1 & 1, time)
