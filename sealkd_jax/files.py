"""Files that are whole or absent, facts that are as they were written, directories that one process writes to."""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from sealkd_jax.errors import InputError


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors of writing say to which file: that of a full disk comes without a name."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write to; it becomes `path` when the block ends well, and vanishes when it does not."""
    partial = path.with_name(path.name + ".partial")
    try:
        with naming(path):
            yield partial
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """SHA-256 of a file of any size, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether columns come first, and dtype of an array in NumPy's `.npy` format; the numbers follow.

    Raises:
        ValueError: if it is none; of damaged text NumPy lets through whatever tokenize and ast raise.
    """
    headers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    headers[3, 0] = headers[2, 0]  # 3.0 is 2.0 with names of fields in UTF-8
    if (version := npy.read_magic(stream)) not in headers:
        raise ValueError(f"version {version} of the format .npy; expected 1.0 to 3.0")
    return headers[version](stream)


def write_json(path: Path, facts: Any) -> None:
    """Writes JSON that a person can read, all at once."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(facts, indent=1, allow_nan=False, default=str) + "\n")


def write_sealed(path: Path, facts: dict[str, Any]) -> None:
    """`write_json` with a SHA-256 of the facts beside them, which `read_sealed` checks."""
    facts = json.loads(json.dumps(facts, default=str))
    write_json(path, facts | {"sha256": _seal(facts)})


def read_sealed(path: Path) -> dict[str, Any]:
    """The facts that `write_sealed` wrote.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is damaged, or was changed by hand.
    """
    facts = json.loads(path.read_text())
    if not isinstance(facts, dict) or facts.pop("sha256", None) != _seal(facts):
        raise ValueError("its SHA-256 is another")
    return facts


def _seal(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@contextmanager
def locked(directory: Path, *, wait: bool) -> Iterator[None]:
    """Makes `directory` and holds it for this process; the lock ends with the process, however it ends.

    Raises:
        InputError: if the directory cannot be written to, or `wait` is False and another process holds it.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = (directory / ".lock").open("w")
    except OSError as error:
        raise InputError(f"{directory}: cannot be written to: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise InputError(f"{directory}: another process is writing to it; choose another --out") from error
        yield
