"""Files with state dicts of PyTorch: `.safetensors`, `.npz`, and `.pth` or `.pt`, read without PyTorch.

Opening a file reads names, shapes and dtypes alone; each array is read on demand. A `.pth` holds a pickle, a program
that could do anything. The reader here lets it make dicts, lists, numbers, strings and descriptions of tensors.
"""

import io
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from safetensors import safe_open

from sealkd_jax.errors import InputError
from sealkd_jax.files import read_npy_header


class Stored(NamedTuple):
    """An array in a file."""

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


@contextmanager
def open_state_dict(path: Path) -> Iterator[Mapping[str, Stored]]:
    """The arrays of a file by name; a context manager that keeps the file open.

    From a checkpoint that holds more than a state dict, it takes the state dict, whatever its key.

    Raises:
        InputError: if the file is not of the format in its name, on opening or when an array is read.
    """
    opened = _FORMATS.get(path.suffix)
    if opened is None:
        raise InputError(f"{path}: unknown format; expected a name that ends with one of {', '.join(_FORMATS)}")
    if not path.exists():
        raise InputError(f"{path}: no such file")
    try:
        with opened(path) as arrays:
            yield arrays
    except InputError:
        raise
    except Exception as error:  # a damaged or malicious file can make its reader raise anything
        reason = str(error) or type(error).__name__
        raise InputError(f"{path}: cannot be read as {path.suffix}: {' '.join(reason.split())}") from error


@contextmanager
def _open_safetensors(path: Path) -> Iterator[Mapping[str, Stored]]:
    with safe_open(path, framework="numpy") as file:
        names = list(file.keys())
        yield {name: Stored(tuple(file.get_slice(name).get_shape()), partial(file.get_tensor, name)) for name in names}


@contextmanager
def _open_npz(path: Path) -> Iterator[Mapping[str, Stored]]:
    with zipfile.ZipFile(path) as archive:
        members = [name for name in archive.namelist() if name.endswith(".npy")]
        yield {name.removesuffix(".npy"): _npy(archive, name) for name in members}


def _npy(archive: zipfile.ZipFile, name: str) -> Stored:
    with archive.open(name) as file:
        shape, _, dtype = read_npy_header(file)
    if dtype.kind not in "biuf":
        raise ValueError(f"{name}: expected numbers, got {dtype}")

    def read() -> np.ndarray:
        with archive.open(name) as file:
            return np.lib.format.read_array(file, allow_pickle=False)

    return Stored(shape, read)


@contextmanager
def _open_pth(path: Path) -> Iterator[Mapping[str, Stored]]:
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path}: damaged, or written before PyTorch 1.6; save it again with a newer PyTorch")
    with zipfile.ZipFile(path) as archive:
        (pickled,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        root = pickled.removesuffix("data.pkl")
        if f"{root}byteorder" in archive.namelist() and _stored_bytes(archive, f"{root}byteorder") != b"little":
            raise InputError(f"{path}: written on a big-endian machine; save it as .safetensors there")
        program = _stored_bytes(archive, pickled)
        _check_opcodes(path, program)
        yield _state_dict(path, _Unpickler(program, partial(_stored_bytes, archive), root).load())


def _stored_bytes(archive: zipfile.ZipFile, name: str, size: int | None = None) -> bytes:
    """A member that is not compressed and has this size. It cannot take more memory than the file is large."""
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED:
        raise InputError(f"{archive.filename}: {name}: compressed, unlike the files that PyTorch writes; save it again")
    if size is not None and info.file_size != size:
        raise InputError(f"{archive.filename}: {name}: expected {size} bytes, got {info.file_size}")
    return archive.read(name)


def _state_dict(path: Path, saved: Any) -> Mapping[str, Stored]:
    candidates = [saved, *saved.values()] if isinstance(saved, dict) else []
    found = [
        value
        for value in candidates
        if isinstance(value, dict) and value and all(isinstance(entry, Stored) for entry in value.values())
    ]
    if len(found) != 1:
        raise InputError(
            f"{path}: expected one state dict, alone or as an entry of a dict, found {len(found)}; save that alone"
        )
    return found[0]


# PyTorch writes dicts of tensors, numbers and strings with these alone.
# fmt: off
_OPCODES = frozenset((
    "APPEND", "APPENDS", "BINFLOAT", "BINGET", "BININT", "BININT1", "BININT2", "BINPERSID", "BINPUT", "BINUNICODE",
    "BUILD", "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "GLOBAL", "LONG1", "LONG_BINGET", "LONG_BINPUT", "MARK",
    "NEWFALSE", "NEWTRUE", "NONE", "PROTO", "REDUCE", "SETITEM", "SETITEMS", "STOP", "TUPLE", "TUPLE1", "TUPLE2",
    "TUPLE3",
))
# fmt: on


def _check_opcodes(path: Path, program: bytes) -> None:
    for opcode, argument, position in pickletools.genops(program):
        if opcode.name not in _OPCODES:
            raise InputError(f"{path}: not a plain state dict (opcode {opcode.name}); save it as .safetensors")
        if opcode.name == "LONG_BINPUT" and (argument or 0) > (position or 0):  # makes a list this long
            raise InputError(f"{path}: damaged at byte {position} of its pickle")


class _Storage(NamedTuple):
    name: str
    dtype: np.dtype
    size: int


_DTYPES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


class _Unpickler(pickle.Unpickler):
    """Finds only the functions and classes that make a state dict; its stand-ins for PyTorch's have no state."""

    def __init__(self, program: bytes, read: Callable[[str, int], bytes], root: str):
        super().__init__(io.BytesIO(program))
        self._root = root
        self._found = {
            "collections.OrderedDict": OrderedDict,
            "torch._utils._rebuild_tensor_v2": _Tensor(read),
            "torch._utils._rebuild_parameter": _Parameter(),
            **{f"torch.{name}": name for name in _DTYPES},
        }

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in self._found:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no state dict needs")
        return self._found[f"{module}.{name}"]

    def persistent_load(self, pid: Any) -> _Storage:
        _, kind, key, _, size = pid
        return _Storage(f"{self._root}data/{key}", np.dtype(_DTYPES[kind]), size)


class _Tensor(tuple):
    """`torch._utils._rebuild_tensor_v2`: a tuple of the function that reads, because a pickle cannot change a tuple."""

    __slots__ = ()

    def __new__(cls, read: Callable[[str, int], bytes]) -> "_Tensor":
        return super().__new__(cls, (read,))

    def __call__(self, storage: _Storage, offset: int, shape: tuple, strides: tuple, *_: Any) -> Stored:
        name, dtype, size = storage

        def array() -> np.ndarray:
            data = self[0](name, size * dtype.itemsize)
            steps = [stride * dtype.itemsize for stride in strides]
            return np.ndarray(shape, dtype, data, offset * dtype.itemsize, steps)  # checks the bounds

        return Stored(tuple(shape), array)


class _Parameter(tuple):
    """`torch._utils._rebuild_parameter`: a tensor, with arguments for training that are ignored."""

    __slots__ = ()

    def __call__(self, tensor: Stored, *_: Any) -> Stored:
        return tensor


_FORMATS = {".safetensors": _open_safetensors, ".npz": _open_npz, ".pth": _open_pth, ".pt": _open_pth}
