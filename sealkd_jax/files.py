"""Files that are complete or absent, and directories that only one process writes to.

A directory may come from another person. We follow no symbolic link in it when we write, and read no pipe or device.
"""

import errno
import fcntl
import hashlib
import json
import os
import stat
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedIOBase, BufferedReader
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from sealkd_jax.errors import InputError, reason

DEFLATE = 1032  # most bytes that one byte of a zip archive can expand to; https://zlib.net/zlib_tech.html


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Adds the file's name to errors of writing; the error of a full disk has none."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """An empty temporary file to write to. It becomes `path` if the block succeeds and is removed if it fails.

    The block may open it by its name: it is a new file, whatever had this name before.

    Raises:
        InputError: if there is a directory of that name.
    """
    partial = path.with_name(path.name + ".partial")
    for place in (path, partial):
        if place.is_dir() and not place.is_symlink():
            raise InputError(f"{place}: a directory, where a file is to be written; move it away")
    try:
        with naming(path):
            partial.unlink(missing_ok=True)  # left by a kill, or a link to a file elsewhere
            os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666))
            yield partial
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(partial, path)
    finally:
        with suppress(OSError):  # it hides no error of the block
            partial.unlink(missing_ok=True)


def make_directory(path: Path) -> Path:
    """Creates a directory within that of a run, unless it is there.

    Raises:
        InputError: if it is a symbolic link or a file.
    """
    refuse_link(path)
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: a file, where a directory is needed; move it away")
    path.mkdir(exist_ok=True)
    return path


def refuse_link(path: Path) -> None:
    """Raises an `InputError` if the path is a symbolic link."""
    if path.is_symlink():
        raise InputError(f"{path}: a symbolic link, which is not followed; remove it, or choose another directory")


def open_file(path: Path) -> BufferedReader:
    """Opens a regular file for reading.

    Raises:
        OSError: if it cannot be opened, or is a pipe or a device, which could be read for ever.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def sha256(path: Path) -> str:
    """SHA-256 of a file of any size, in hexadecimal digits."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5(file: BufferedIOBase) -> str:
    """The MD5 of an open file, hexadecimal: what authors publish beside their archives."""
    return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def fingerprint(*parts: Any) -> str:
    """Twelve hexadecimal digits that follow from JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def read_npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, Fortran order and dtype from the header of a `.npy` stream; the numbers follow it.

    Raises:
        ValueError: if it is not such a header. For damaged headers NumPy also passes on the errors of tokenize and ast.
    """
    headers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    headers[3, 0] = headers[2, 0]  # 3.0 is 2.0 with field names in UTF-8
    if (version := npy.read_magic(stream)) not in headers:
        raise ValueError(f"version {version} of the format .npy; expected 1.0 to 3.0")
    return headers[version](stream)


def read_npz(
    path: Path, keys: Iterable[str], check: Callable[[list[str]], None] = lambda found: None
) -> dict[str, np.ndarray]:
    """Those of the arrays that an .npz archive has. Every byte of them is compared with the archive's checksums.

    Args:
        path: of the archive.
        keys: names of the arrays.
        check: is called with all names in the archive before an array is read.

    Raises:
        InputError: if it is missing, damaged or no such archive.
    """
    arrays, key = {}, ""
    try:
        with open_file(path) as stream, zipfile.ZipFile(stream) as archive:
            found, size = [name.removesuffix(".npy") for name in archive.namelist()], os.fstat(stream.fileno()).st_size
            check(found)
            for key in keys:
                if key in found:
                    arrays[key] = _read_array(archive, archive.getinfo(f"{key}.npy"), size)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except Exception as error:  # damaged bytes make zipfile and NumPy raise whatever their parsers meet
        where = f"{path}: {key}" if key else f"{path}"
        raise InputError(
            f"{where}: cannot be read ({reason(error)}); expected an .npz archive, as of np.savez"
        ) from error
    return arrays


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, size: int) -> np.ndarray:
    """One array of an .npz archive, in a file of that size.

    Allocates nothing before the header and the archive agree, and compares every byte with the checksum.

    Raises:
        Exception: of many kinds, if it is damaged.
    """
    with archive.open(member) as stream:
        shape, _, dtype = read_npy_header(stream)
        if dtype.hasobject:
            raise ValueError(
                "it has Python objects, which are never loaded: save images of one size, np.stack(…), labels as "
                "integers, .astype(int), and names as strings, .astype(str)"
            )
        if not dtype.itemsize:
            raise ValueError(f"its elements, {dtype}, have no bytes")
        declared, held = int(np.prod(shape, dtype=object)) * dtype.itemsize, member.file_size - stream.tell()
        if declared != held or member.file_size > DEFLATE * size:
            raise ValueError(f"its header declares {declared} bytes, the archive {held}, in a file of {size}")
    with archive.open(member) as stream:
        array = npy.read_array(stream, allow_pickle=False)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON. The file is complete or absent."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(value, indent=1, allow_nan=False, default=str) + "\n")


@contextmanager
def locked(directory: Path, *, wait: bool) -> Iterator[None]:
    """Creates `directory` and locks it for this process. The lock ends with the process, even if it is killed.

    Raises:
        InputError: if the directory is not writable, its `.lock` is a symbolic link, or another process holds the
            lock and `wait` is False.
    """
    path = directory / ".lock"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        refuse_link(path)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        raise InputError(f"{directory}: cannot be written to: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise InputError(f"{directory}: another process is writing to it; choose another directory") from error
        yield
    finally:
        os.close(lock)
