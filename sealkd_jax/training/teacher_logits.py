"""Teacher logits on disk: computed once for K views, read one view at a time.

A file is safetensors or npz with the key `logits`: `[K, N, C]`, `[K, N, T, C]` for a teacher that has logits at every
timestep, or `[N, C]` for one view. The key `features`, `[K, N, F]` or `[N, F]`, may stand beside it. The header of our
own files has fingerprints of the teacher, the data and the augmentation, so that no other run uses them, and a SHA-256
of each array. Users' files have none; their shape and dtype are checked, and that all logits are finite and no
probabilities. Whether they are of these views cannot be checked.

Axis legend: K views, N training examples, T timesteps, C classes, F penultimate features.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from safetensors import SafetensorError, safe_open

from sealkd_jax.data import Dataset
from sealkd_jax.data.augmentation import canonical_augmentation, random_key
from sealkd_jax.errors import InputError
from sealkd_jax.files import fingerprint, open_file, read_npz, replacing
from sealkd_jax.parallel.processes import is_main_process

DTYPES = {"float16": "F16", "float32": "F32"}
DIGESTS = {"logits": "sha256", "features": "sha256 of features"}
"""The keys of the header under which the SHA-256 of each array stands."""


class Outputs(NamedTuple):
    """What a teacher says of one view: logits `[N, C]` or `[N, T, C]`, and penultimate features `[N, F]` or None."""

    logits: np.ndarray
    features: np.ndarray | None = None


def view_fingerprints(dataset: Dataset, augment: str, view_seed: int) -> dict[str, str]:
    """What views follow from: the data, their augmentation, the seed, and JAX's random generator as it is set.

    Args:
        dataset: whose training split is shown.
        augment: the steps, as `parse_augmentation` takes them.
        view_seed: the seed of all views.
    """
    return {
        "data": dataset.fingerprint,
        "augmentation": fingerprint(canonical_augmentation(augment)),
        "view seed": str(view_seed),
        "random generator": fingerprint(jax.random.bits(random_key(0), (4,), "uint32").tolist()),
    }


def write_teacher_logits(
    path: Path,
    view: Callable[[int], Outputs | np.ndarray],
    views: int,
    fingerprints: dict[str, str],
    dtype: str = "float32",
) -> None:
    """Writes `view(k)`, for k < `views`: `Outputs`, or the logits alone. The file is complete or absent.

    Only one view is in memory at a time. All processes compute the views; the main process writes them. The format is
    safetensors (https://huggingface.co/docs/safetensors).
    """
    if not is_main_process():
        for k in range(views):
            view(k)
        return
    arrays, tensors, end = _arrays(view(0), dtype), {}, 0
    for name, array in arrays.items():
        start, end = end, end + views * array.nbytes
        tensors[name] = {"dtype": DTYPES[dtype], "shape": (views, *array.shape), "data_offsets": [start, end]}
    digests = {name: hashlib.sha256() for name in arrays}

    def header(digests: dict[str, str]) -> bytes:
        metadata = fingerprints | {DIGESTS[name]: digest for name, digest in digests.items()}
        text = json.dumps({"__metadata__": metadata} | tensors).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text

    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, partial.open("wb") as file:
        start = file.write(header(dict.fromkeys(arrays, "0" * 64)))  # of the same length as the final one
        for k in range(views):
            if k > 0:
                arrays = _arrays(view(k), dtype)
            for name, array in arrays.items():
                digests[name].update(array)
                file.seek(start + tensors[name]["data_offsets"][0] + k * array.nbytes)
                file.write(array)
            del arrays, array  # before the next view is computed
        file.seek(0)
        file.write(header({name: digest.hexdigest() for name, digest in digests.items()}))


def _arrays(outputs: Outputs | np.ndarray, dtype: str) -> dict[str, np.ndarray]:
    named = (outputs if isinstance(outputs, Outputs) else Outputs(outputs))._asdict()
    return {name: np.ascontiguousarray(array, dtype) for name, array in named.items() if array is not None}


class TeacherLogits:
    """An open file of teacher logits, memory-mapped if it is safetensors.

    Args:
        path: `.safetensors` or `.npz`.
        examples: N, of the training split.
        classes: C.
        timesteps: T, for logits per timestep.
        views: the number of views that the student sees. The file must have as many; a user's file may have one for
            all of them.
        fingerprints: what the header of our own files must say; None accepts any file by its shape.

    Attributes:
        views: K of the file.
        own: whether the file is a user's, without fingerprints.
        digest: dtype, shape and SHA-256 of the logits, in the main process, which checks them; None in the others.
        has_features: whether there are penultimate features beside the logits.

    Raises:
        InputError: if the file is missing, damaged, made for other data or another teacher, has the wrong shape or
            dtype, or holds NaN or infinity; if a user's file holds probabilities.
    """

    def __init__(
        self,
        path: Path,
        *,
        examples: int,
        classes: int,
        timesteps: int,
        views: int,
        fingerprints: dict[str, str] | None = None,
    ):
        self.path = path
        arrays, header = _open(path)
        self._logits, self._features = arrays["logits"], arrays.get("features")
        given = list(self._logits.shape)
        if self._logits.ndim == 2:
            self._logits = self._logits[None]
        shape, fingerprints = self._logits.shape, fingerprints or {}
        self.views, self.own = shape[0] if shape else 0, not header.keys() & fingerprints.keys()
        wanted = f"[{examples}, {classes}], [K, {examples}, {classes}] or [K, {examples}, {timesteps}, {classes}]"
        if shape[1:] not in ((examples, classes), (examples, timesteps, classes)):
            raise InputError(
                f"{path}: logits: expected {wanted} (N training examples, classes), got {given}; "
                "compute them for the training split of this data set, in its order"
            )
        if self.views != views and not (self.own and self.views == 1):
            expected = f"1 or {views}" if self.own else views
            raise InputError(
                f"{path}: logits: expected {expected} views, got {self.views}; give as many as the student sees"
            )
        for key, value in fingerprints.items():
            if not self.own and header.get(key) != value:
                raise InputError(
                    f"{path}: made for another {key} ({str(header.get(key))[:12]}, here {value[:12]}); "
                    "compute them for these data, views and teacher, or give the file that was made for them"
                )
        self.has_features = self._features is not None
        if self._features is not None:
            self._features = self._features[None] if self._features.ndim == 2 else self._features
            if self._features.ndim != 3 or self._features.shape[:2] != shape[:2]:
                raise InputError(
                    f"{path}: features: expected [{self.views}, {examples}, F], as many views as the logits have, got "
                    f"{list(arrays['features'].shape)}"
                )
        # One process checks for all: if it raises, the run ends.
        self.digest = self._check(header) if is_main_process() else None

    def _check(self, header: dict[str, str]) -> str:
        expected = "expected finite logits (before softmax); for a masked class give a low one, such as -30"
        digest = _digest(self.path, "logits", self._logits, expected)
        for k, logits in enumerate(self._logits if self.own else ()):
            if are_probabilities(logits):
                raise InputError(
                    f"{self.path}: logits: those of view {k} are probabilities: no example has one below 0, and each "
                    "has the sum 1; give the logits before the softmax, or the logarithm of the probabilities"
                )
        found = {"logits": digest}
        if self._features is not None:
            found["features"] = _digest(self.path, "features", self._features, "expected finite features")
        if not self.own and any(header.get(DIGESTS[name]) != digest for name, digest in found.items()):
            raise InputError(f"{self.path}: damaged (its SHA-256 differs); remove it, and it is computed again")
        return f"{self._logits.dtype} {list(self._logits.shape)} {digest}"

    def view(self, k: int) -> np.ndarray:
        """Logits of view k, or of the only view, `[N, C]` or `[N, T, C]`, in the file's dtype.

        From a safetensors file only the rows that are used are read.
        """
        return self._logits[k % self.views]

    def view_features(self, k: int) -> np.ndarray | None:
        """Penultimate features of view k, or of the only view, `[N, F]`, in the file's dtype; None if it has none."""
        return None if self._features is None else self._features[k % self.views]

    def accuracy(self, labels: np.ndarray) -> float:
        """Accuracy of view 0 on the training labels `[N]`, from the mean logits over timesteps."""
        logits = np.asarray(self.view(0), np.float32)
        if logits.ndim == 3:
            logits = logits.mean(1)
        return float((logits.argmax(-1) == labels).mean())


def _open(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The logits, and the features if there are any, memory-mapped if possible; and the header's fingerprints."""
    if path.suffix not in (".safetensors", ".npz"):
        raise InputError(f"{path}: expected a .safetensors or .npz file with the key logits")
    try:
        arrays, fingerprints = _read_npz(path) if path.suffix == ".npz" else _map_safetensors(path)
        arrays["logits"]  # must be there
        return arrays, fingerprints
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except KeyError as error:
        raise InputError(f"{path}: expected the key logits, which is not there") from error
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def _read_npz(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    arrays = read_npz(path, DIGESTS)
    for name, array in arrays.items():
        _check_dtype(path, name, str(array.dtype))
    return arrays, {}


def _map_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    arrays: dict[str, np.ndarray] = {}
    known = {code: name for name, code in DTYPES.items()}
    with open_file(path) as stream, safe_open(path, framework="numpy") as file:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        begin = stream.tell()
        for name in [name for name in DIGESTS if name in header]:
            tensor = file.get_slice(name)
            dtype = known.get(tensor.get_dtype(), tensor.get_dtype())
            _check_dtype(path, name, dtype)
            start = begin + header[name]["data_offsets"][0]
            arrays[name] = np.memmap(stream, dtype, "r", start, tuple(tensor.get_shape()))
        return arrays, file.metadata() or {}


def _digest(path: Path, name: str, views: np.ndarray, expected: str) -> str:
    """SHA-256 of an array `[K, N, ...]`, all of whose numbers are finite."""
    digest = hashlib.sha256()
    for k, view in enumerate(views):
        digest.update(np.ascontiguousarray(view))
        finite = np.isfinite(view).reshape(len(view), -1).all(1)
        if not finite.all():
            where = f"view {k}, example {int(np.argmin(finite))}"
            raise InputError(f"{path}: {name}: {where} is NaN or infinite; {expected}")
    return digest.hexdigest()


def are_probabilities(logits: np.ndarray) -> bool:
    """Whether all rows are probabilities: in [0, 1], with the sum 1 as exactly as float16 can say it."""
    return bool(logits.min() >= 0 and (abs(logits.sum(-1, dtype=np.float32) - 1) < 0.01).all())


def _check_dtype(path: Path, name: str, dtype: str) -> None:
    if dtype not in DTYPES:
        raise InputError(f"{path}: {name}: expected float16 or float32, got {dtype}")
