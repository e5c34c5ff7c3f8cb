"""Files with state dicts of PyTorch, safetensors or NumPy, read without PyTorch. Content decides, not the file's name.

Opening a file reads names, shapes and dtypes alone; each array is read on demand. A file of `torch.save` holds a
pickle, a program that could do anything. The reader here lets it make dicts, lists, numbers, strings and descriptions
of tensors; in place of any other object it makes an empty one.
"""

import io
import os
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import ml_dtypes
import numpy as np
from safetensors import safe_open

from sealkd_jax.errors import InputError, reason
from sealkd_jax.files import open_file, read_npy_header

_MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2)  # what torch.save wrote first before PyTorch 1.6


class Stored(NamedTuple):
    """An array in a file."""

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


@contextmanager
def open_state_dict(path: Path) -> Iterator[Mapping[str, Stored]]:
    """The arrays of a file by name; a context manager that keeps the file open.

    From a checkpoint that holds more than a state dict, it takes the state dict, whatever its key.

    Raises:
        InputError: if the file is of no known format or damaged, on opening or when an array is read.
    """
    try:
        with _format(path)(path) as arrays:
            yield arrays
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except Exception as error:  # a damaged or malicious file can make its reader raise anything
        raise InputError(f"{path}: cannot be read as weights: {reason(error)}") from error


def _format(path: Path) -> Callable[[Path], Any]:
    """The reader for what the file begins with."""
    with open_file(path) as file:
        start = file.read(len(_MAGIC))
    if start == _MAGIC:
        return _open_legacy
    if start[8:9] == b"{":  # after the length of its header
        return _open_safetensors
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path}: unknown format; expected a file of torch.save, safetensors or numpy.savez")
    with zipfile.ZipFile(path) as archive:
        return _open_pth if any(name.endswith("/data.pkl") for name in archive.namelist()) else _open_npz


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
    with zipfile.ZipFile(path) as archive:
        (pickled,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        root = pickled.removesuffix("data.pkl")
        if f"{root}byteorder" in archive.namelist() and _stored_bytes(archive, f"{root}byteorder") != b"little":
            raise InputError(f"{path}: written on a big-endian machine; save it as .safetensors there")

        def read(storage: _Storage) -> bytes:
            return _stored_bytes(archive, f"{root}data/{storage.key}", storage.nbytes)

        yield _state_dict(path, _unpickle(path, io.BytesIO(_stored_bytes(archive, pickled)), read))


@contextmanager
def _open_legacy(path: Path) -> Iterator[Mapping[str, Stored]]:
    """A file from before PyTorch 1.6: pickles of a magic number, a version, the machine and what was saved.

    A pickled list of keys and the storages in that order follow, each after the number of its elements.
    """
    with open_file(path) as file:
        storages: dict[str, _Storage] = {}
        places: dict[str, int] = {}

        def read(storage: _Storage) -> bytes:
            file.seek(places[storage.key])
            return file.read(storage.nbytes)

        _, _, machine = (_unpickle(path, file) for _ in range(3))
        if not machine["little_endian"]:
            raise InputError(f"{path}: written on a big-endian machine; save it as .safetensors there")
        saved = _unpickle(path, file, read, storages)
        for key in _unpickle(path, file):
            if int.from_bytes(file.read(8), "little") != storages[key].size:
                raise InputError(f"{path}: damaged at its storage {key}")
            places[key] = file.tell()
            file.seek(storages[key].nbytes, os.SEEK_CUR)
        if file.tell() != path.stat().st_size:
            raise InputError(f"{path}: expected {file.tell()} bytes, got {path.stat().st_size}")
        yield _state_dict(path, saved)


def _stored_bytes(archive: zipfile.ZipFile, name: str, size: int | None = None) -> bytes:
    """A member that is not compressed and has this size. It cannot take more memory than the file is large."""
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED:
        raise InputError(f"{archive.filename}: {name}: compressed, unlike the files that PyTorch writes; save it again")
    if size is not None and info.file_size != size:
        raise InputError(f"{archive.filename}: {name}: expected {size} bytes, got {info.file_size}")
    return archive.read(name)


def _state_dict(path: Path, saved: Any) -> Mapping[str, Stored]:
    candidates = {"": saved, **saved} if isinstance(saved, dict) else {}
    found = {key: value for key, value in candidates.items() if _is_state_dict(value)}
    if len(found) != 1:
        names = f" ({', '.join(map(str, found))})" if found else ""
        raise InputError(
            f"{path}: expected one state dict, alone or as an entry of a dict, found {len(found)}{names}; "
            "save model.state_dict() alone"
        )
    return next(iter(found.values()))


def _is_state_dict(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(name, str) and isinstance(array, Stored) for name, array in value.items())
    )


# What pickles of protocols 2 to 4 need for dicts, tensors, numbers and strings, and to pass over other objects.
# fmt: off
_OPCODES = frozenset((
    "ADDITEMS", "APPEND", "APPENDS", "BINBYTES", "BINFLOAT", "BINGET", "BININT", "BININT1", "BININT2", "BINPERSID",
    "BINPUT", "BINUNICODE", "BUILD", "EMPTY_DICT", "EMPTY_LIST", "EMPTY_SET", "EMPTY_TUPLE", "FRAME", "GLOBAL",
    "LONG1", "LONG_BINGET", "LONG_BINPUT", "MARK", "MEMOIZE", "NEWFALSE", "NEWOBJ", "NEWTRUE", "NONE", "PROTO",
    "REDUCE", "SETITEM", "SETITEMS", "SHORT_BINBYTES", "SHORT_BINUNICODE", "STACK_GLOBAL", "STOP", "TUPLE",
    "TUPLE1", "TUPLE2", "TUPLE3",
))
# fmt: on


def _unpickle(
    path: Path,
    file: IO[bytes],
    read: Callable[["_Storage"], bytes] | None = None,
    storages: dict[str, "_Storage"] | None = None,
) -> Any:
    """The object of the next pickle, whose opcodes are checked first. Notes its storages by their keys."""
    start = file.tell()
    for opcode, argument, position in pickletools.genops(file):
        if opcode.name not in _OPCODES:
            raise InputError(f"{path}: not a plain state dict (opcode {opcode.name}); save it as .safetensors")
        if opcode.name == "LONG_BINPUT" and (argument or 0) > (position or 0):  # makes a list this long
            raise InputError(f"{path}: damaged at byte {position} of its pickle")
    end = file.tell()
    file.seek(start)
    return _Unpickler(file.read(end - start), read, {} if storages is None else storages).load()


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype
    size: int

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize


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
    """Finds only what makes a state dict; its stand-ins for PyTorch's functions have no state."""

    def __init__(self, program: bytes, read: Callable[[_Storage], bytes] | None, storages: dict[str, _Storage]):
        super().__init__(io.BytesIO(program))
        self._storages = storages
        self._found = {
            "collections.OrderedDict": OrderedDict,
            "torch._utils._rebuild_tensor": _Tensor(read),
            "torch._utils._rebuild_tensor_v2": _Tensor(read),
            "torch._utils._rebuild_parameter": _Parameter(),
            **{f"torch.{name}": name for name in _DTYPES},
        }

    def find_class(self, module: str, name: str) -> Any:
        return self._found.get(f"{module}.{name}", _Ignored)

    def persistent_load(self, pid: Any) -> _Storage:
        _, kind, key, _, size, *view = pid
        if view not in ([], [None]):
            raise ValueError(f"storage {key} is a view of another; save it with a newer PyTorch")
        self._storages[key] = _Storage(key, np.dtype(_DTYPES[kind]), size)
        return self._storages[key]


class _Ignored:
    """Stands for an object that is not built, such as the options in a checkpoint. It takes whatever it is given."""

    __slots__ = ()

    def __new__(cls, *_: Any) -> "_Ignored":
        return super().__new__(cls)

    def __setstate__(self, _: Any) -> None:
        pass

    def __setitem__(self, _: Any, __: Any) -> None:
        pass

    def append(self, _: Any) -> None:
        pass


class _Tensor(tuple):
    """`torch._utils._rebuild_tensor_v2`: a tuple of the function that reads, because a pickle cannot change a tuple."""

    __slots__ = ()

    def __new__(cls, read: Callable[[_Storage], bytes] | None) -> "_Tensor":
        return super().__new__(cls, (read,))

    def __call__(self, storage: _Storage, offset: int, shape: tuple, strides: tuple, *_: Any) -> Stored:
        def array() -> np.ndarray:
            steps = [stride * storage.dtype.itemsize for stride in strides]
            start = offset * storage.dtype.itemsize
            return np.ndarray(shape, storage.dtype, self[0](storage), start, steps)  # checks the bounds

        return Stored(tuple(shape), array)


class _Parameter(tuple):
    """`torch._utils._rebuild_parameter`: a tensor, with arguments for training that are ignored."""

    __slots__ = ()

    def __call__(self, tensor: Stored, *_: Any) -> Stored:
        return tensor
