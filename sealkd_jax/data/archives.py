"""CIFAR-10, CIFAR-100 and Fashion-MNIST from the archives of their authors, without TensorFlow.

Formats: https://www.cs.toronto.edu/~kriz/cifar.html (the versions for Python and for C) and
https://github.com/zalandoresearch/fashion-mnist. The checksums are those of these pages.

Axis legend: N examples, H height, W width, C channels.
"""

import gzip
import io
import pickle
import pickletools
import tarfile
import warnings
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sealkd_jax.errors import InputError, reason
from sealkd_jax.files import md5, naming, open_file, replacing

LARGEST = 2**28  # bytes of an archive, unpacked; the largest has 190 MB
SIDE = 32  # of CIFAR's images
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")

Examples = tuple[np.ndarray, np.ndarray]
Contents = Mapping[str, bytes]


class Format(NamedTuple):
    """One form in which a data set is published.

    Attributes:
        md5: name of each published file -> its MD5.
        members: names of the files that are read.
        parse: contents of the members -> the splits train and test, and the names of the classes.
    """

    md5: dict[str, str]
    members: tuple[str, ...]
    parse: Callable[[Contents], tuple[Examples, Examples, list[str]]]


def convert_archive(name: str, source: Path, data_dir: Path) -> Path:
    """Writes `data_dir/NAME.npz`, which `load` reads, from an official archive.

    Args:
        name: cifar10, cifar100 or fashion-mnist.
        source: the archive, or the folder with its unpacked files; for fashion-mnist a folder with its four files.
        data_dir: directory of the data sets.

    Warns if the archive is readable but has another checksum than the official one.

    Raises:
        InputError: if it is another archive, or damaged.
    """
    found, digests = (_in_folder if source.is_dir() else _in_tar)(source)
    form = next((form for form in FORMATS[name] if found.keys() >= set(form.members)), None)
    if form is None:
        missing = sorted(set(FORMATS[name][0].members) - found.keys())
        others = ", ".join(sorted(found)[:6]) or "none"
        raise InputError(
            f"{source}: not {name}: no {', '.join(missing[:3])} in it; expected {' or '.join(FORMATS[name][0].md5)}; "
            f"found the files {others}"
        )
    official = set(form.md5.values()) <= digests
    unofficial = f"not the published {', '.join(form.md5)}: MD5 {', '.join(form.md5.values())} expected"
    try:
        train, test, classes = form.parse(found)
        for labels in (train[1], test[1]):
            if not len(labels) or labels.max() >= len(classes):
                raise ValueError(f"expected labels from 0 to {len(classes) - 1}")
    except Exception as error:  # damaged bytes make the parsers raise errors of many kinds
        other = "" if official else f"; {unofficial}; download it again"
        raise InputError(f"{source}: damaged: {reason(error)}{other}") from error
    if not official:
        warnings.warn(f"{source}: readable, but {unofficial}", stacklevel=2)
    path = data_dir / f"{name}.npz"
    with naming(path):
        data_dir.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez(file, x_train=train[0], y_train=train[1], x_test=test[0], y_test=test[1], classes=classes)
    return path


def _in_tar(path: Path) -> tuple[dict[str, bytes], set[str]]:
    """The files in a `.tar.gz` by name without folders, and the archive's MD5. Extracts nothing to disk."""
    try:
        with open_file(path) as file:
            digests = {md5(file)}
            file.seek(0)
            data = _unpacked(file.read(LARGEST))
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:  # whatever a header declares, there is no more
            members = [(member.name, archive.extractfile(member)) for member in archive if not member.issparse()]
            return {Path(name).name: file.read() for name, file in members if file is not None}, digests
    except Exception as error:  # as above
        raise InputError(f"{path}: cannot be read as .tar.gz ({reason(error)})") from error


def _in_folder(path: Path) -> tuple[dict[str, bytes], set[str]]:
    """The files of a folder that belong to a data set, with `.gz` unpacked, and the MD5 of each."""
    known = {name for forms in FORMATS.values() for form in forms for name in form.members}
    found, digests = {}, set()
    for file in sorted(path.iterdir()):
        if (name := file.name.removesuffix(".gz")) in known:
            try:
                with open_file(file) as stream:
                    data = stream.read(LARGEST + 1)
                digests.add(md5(io.BytesIO(data)))
                found[name] = _unpacked(data) if file.suffix == ".gz" else data
            except (OSError, ValueError, EOFError, zlib.error) as error:
                raise InputError(f"{file}: cannot be read ({reason(error)})") from error
    return found, digests


def _unpacked(data: bytes) -> bytes:
    with gzip.open(io.BytesIO(data)) as file:
        unpacked = file.read(LARGEST + 1)
    if len(unpacked) > LARGEST:
        raise ValueError(f"more than {LARGEST >> 20} MiB, unpacked")
    return unpacked


# ---- CIFAR


def _of_pickles(train: tuple[str, ...], test: str, names: str, fine: str) -> Callable[..., Any]:
    """The parser of the version for Python. `fine`: prefix of the keys of labels and of their names."""

    def parse(found: Contents) -> tuple[Examples, Examples, list[str]]:
        def examples(name: str) -> Examples:
            batch = _unpickle(found[name])
            labels = np.array(batch[f"{fine}labels".encode()])
            if labels.dtype.kind != "i" or labels.ndim != 1 or labels.min() < 0:
                raise ValueError(f"{name}: expected whole numbers as labels")
            return _images(name, batch[b"data"].array, labels)

        classes = [label.decode() for label in _unpickle(found[names])[f"{fine}label_names".encode()]]
        return _join(map(examples, train)), examples(test), classes

    return parse


def _of_records(train: tuple[str, ...], test: str, names: str, labels: int) -> Callable[..., Any]:
    """The parser of the version for C. A record has `labels` bytes, of which the last counts, and the pixels."""

    def parse(found: Contents) -> tuple[Examples, Examples, list[str]]:
        def examples(name: str) -> Examples:
            rows = np.frombuffer(found[name], np.uint8).reshape(-1, labels + 3 * SIDE**2)
            return _images(name, rows[:, labels:], rows[:, labels - 1])

        return _join(map(examples, train)), examples(test), found[names].decode().split()

    return parse


def _images(name: str, pixels: np.ndarray, labels: np.ndarray) -> Examples:
    """Images `[N, H, W, C]` from rows of pixels, channel by channel."""
    if pixels.shape != (len(labels), 3 * SIDE**2):
        raise ValueError(f"{name}: {len(labels)} labels, pixels {list(pixels.shape)}; expected {3 * SIDE**2} a label")
    return pixels.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1), labels.astype(np.int32)


def _join(parts: Any) -> Examples:
    images, labels = zip(*parts, strict=True)
    return np.concatenate(images), np.concatenate(labels)


# What Python 2 wrote for dicts, lists, numbers, strings and arrays; Python 3 adds the bytes.
# fmt: off
_OPCODES = frozenset((
    "APPEND", "APPENDS", "BINBYTES", "BINGET", "BININT", "BININT1", "BININT2", "BINPUT", "BINSTRING", "BINUNICODE",
    "BUILD", "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "FRAME", "GLOBAL", "LONG_BINGET", "LONG_BINPUT", "MARK",
    "MEMOIZE", "NEWFALSE", "NEWTRUE", "NONE", "PROTO", "REDUCE", "SETITEM", "SETITEMS", "SHORT_BINBYTES",
    "SHORT_BINSTRING", "SHORT_BINUNICODE", "STACK_GLOBAL", "STOP", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3",
))
# fmt: on


def _unpickle(data: bytes) -> Any:
    """The value of a pickle, which may only make dicts, lists, numbers, strings, and arrays as objects with `array`.

    A pickle is a program. What it calls are stand-ins made for this pickle alone, never NumPy's functions.
    """

    class Array:
        array: np.ndarray

        def __setstate__(self, state: Any) -> None:
            _, shape, dtype, column_first, content = state
            if dtype.name != b"u1" or column_first:
                raise ValueError("expected arrays of bytes, row by row")
            self.array = np.frombuffer(content, np.uint8).reshape(shape)

    class Dtype:
        def __init__(self, name: Any, *_: Any):
            self.name = name.encode() if isinstance(name, str) else name

        def __setstate__(self, _: Any) -> None:
            pass

    found: dict[str, Any] = {"numpy.ndarray": None, "numpy.dtype": Dtype}
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        found[f"{module}._reconstruct"] = lambda *_: Array()

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if f"{module}.{name}" not in found:
                raise ValueError(f"a pickle that calls {module}.{name}")
            return found[f"{module}.{name}"]

    for opcode, argument, position in pickletools.genops(io.BytesIO(data)):
        # The unpickler makes a list as long as the number of LONG_BINPUT.
        if opcode.name not in _OPCODES or (opcode.name == "LONG_BINPUT" and (argument or 0) > (position or 0)):
            raise ValueError(f"a pickle with {opcode.name} at byte {position}")
    return Unpickler(io.BytesIO(data), encoding="bytes").load()


# ---- Fashion-MNIST


def _fashion(found: Contents) -> tuple[Examples, Examples, list[str]]:
    def examples(part: str) -> Examples:
        images, labels = _idx(found[f"{part}-images-idx3-ubyte"], 3), _idx(found[f"{part}-labels-idx1-ubyte"], 1)
        if len(images) != len(labels):
            raise ValueError(f"{part}: {len(images)} images, {len(labels)} labels")
        return images[..., None], labels.astype(np.int32)

    return examples("train"), examples("t10k"), list(FASHION)


def _idx(data: bytes, axes: int) -> np.ndarray:
    """An array of bytes in the format IDX: 0, 0, 8, the number of axes, each length in four bytes, and the numbers."""
    if data[:4] != bytes([0, 0, 8, axes]):
        raise ValueError(f"not IDX with {axes} axes of bytes")
    shape = np.frombuffer(data, ">u4", axes, 4).tolist()
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)


_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
_BINARY = tuple(f"{name}.bin" for name in _BATCHES)
_IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_IDX_MD5 = (
    "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "25c81989df183df01b3e8a0aad5dffbe",
    "bef4ecab320f06d8554ea6380940ec79",
    "bb300cfdad3c16e7a12a480ee83cd310",
)
FORMATS = {
    "cifar10": (
        Format(
            {"cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a"},
            (*_BATCHES, "test_batch", "batches.meta"),
            _of_pickles(_BATCHES, "test_batch", "batches.meta", ""),
        ),
        Format(
            {"cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530"},
            (*_BINARY, "test_batch.bin", "batches.meta.txt"),
            _of_records(_BINARY, "test_batch.bin", "batches.meta.txt", 1),
        ),
    ),
    "cifar100": (
        Format(
            {"cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85"},
            ("train", "test", "meta"),
            _of_pickles(("train",), "test", "meta", "fine_"),
        ),
        Format(
            {"cifar-100-binary.tar.gz": "03b5dce01913d631647c71ecec9e9cb8"},
            ("train.bin", "test.bin", "fine_label_names.txt"),
            _of_records(("train.bin",), "test.bin", "fine_label_names.txt", 2),
        ),
    ),
    "fashion-mnist": (Format({f"{n}.gz": md5 for n, md5 in zip(_IDX, _IDX_MD5, strict=True)}, _IDX, _fashion),),
}
