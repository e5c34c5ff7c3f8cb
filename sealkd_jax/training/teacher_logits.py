"""Teacher logits on disk: computed once for K views, read one view at a time.

A file is safetensors or npz with the key `logits`: `[K, N, C]`, `[K, N, T, C]` for a teacher that has logits at every
timestep, or `[N, C]` for one view. The header of our own files has fingerprints of the teacher, the data and the
augmentation, so that no other run uses them, and a SHA-256 of the logits. Users' files have none; their shape and dtype
are checked, and that all logits are finite and no probabilities. Whether they are of these views cannot be checked.

Axis legend: K views, N training examples, T timesteps, C classes.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from sealkd_jax.errors import InputError
from sealkd_jax.files import open_file, read_npz, replacing
from sealkd_jax.parallel.processes import is_main_process

DTYPES = {"float16": "F16", "float32": "F32"}
DIGEST = "sha256"


def write_teacher_logits(
    path: Path,
    view: Callable[[int], np.ndarray],
    views: int,
    fingerprints: dict[str, str],
    dtype: str = "float32",
) -> None:
    """Writes `view(k)`, `[N, C]` or `[N, T, C]`, for k < `views`. The file is complete or absent.

    Only one view is in memory at a time. All processes compute the views; the main process writes them. The format is
    safetensors with one tensor (https://huggingface.co/docs/safetensors).
    """
    if not is_main_process():
        for k in range(views):
            view(k)
        return
    logits = np.ascontiguousarray(view(0), dtype)
    shape = (views, *logits.shape)
    size = views * logits.nbytes
    tensor = {"dtype": DTYPES[dtype], "shape": shape, "data_offsets": [0, size]}

    def header(digest: str) -> bytes:
        text = json.dumps({"__metadata__": fingerprints | {DIGEST: digest}, "logits": tensor}).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text

    digest = hashlib.sha256()
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, partial.open("wb") as file:
        file.write(header("0" * 64))  # of the same length as the final one
        for k in range(views):
            if k > 0:
                logits = np.ascontiguousarray(view(k), dtype)
            digest.update(logits)
            file.write(logits)
            del logits  # before the next view is computed
        file.seek(0)
        file.write(header(digest.hexdigest()))


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
        self._logits, header = _open(path)
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
        # One process checks for all: if it raises, the run ends.
        self.digest = self._check(header.get(DIGEST)) if is_main_process() else None

    def _check(self, expected: str | None) -> str:
        digest = hashlib.sha256()
        for k, logits in enumerate(self._logits):
            digest.update(np.ascontiguousarray(logits))
            finite = np.isfinite(logits).reshape(len(logits), -1).all(1)
            if not finite.all():
                raise InputError(
                    f"{self.path}: logits: view {k}, example {int(np.argmin(finite))} is NaN or infinite; "
                    "expected finite logits (before softmax); for a masked class give a low one, such as -30"
                )
            if self.own and _are_probabilities(logits):
                raise InputError(
                    f"{self.path}: logits: those of view {k} are probabilities: no example has one below 0, and each "
                    "has the sum 1; give the logits before the softmax, or the logarithm of the probabilities"
                )
        if not self.own and expected != digest.hexdigest():
            raise InputError(f"{self.path}: damaged (its SHA-256 differs); remove it, and it is computed again")
        return f"{self._logits.dtype} {list(self._logits.shape)} {digest.hexdigest()}"

    def view(self, k: int) -> np.ndarray:
        """Logits of view k, or of the only view, `[N, C]` or `[N, T, C]`, in the file's dtype.

        From a safetensors file only the rows that are used are read.
        """
        return self._logits[k % self.views]

    def accuracy(self, labels: np.ndarray) -> float:
        """Accuracy of view 0 on the training labels `[N]`, from the mean logits over timesteps."""
        logits = np.asarray(self.view(0), np.float32)
        if logits.ndim == 3:
            logits = logits.mean(1)
        return float((logits.argmax(-1) == labels).mean())


def _open(path: Path) -> tuple[np.ndarray, dict[str, str]]:
    """The logits, memory-mapped if possible, and the header's fingerprints."""
    if path.suffix not in (".safetensors", ".npz"):
        raise InputError(f"{path}: expected a .safetensors or .npz file with the key logits")
    try:
        if path.suffix == ".npz":
            logits = read_npz(path, ["logits"])["logits"]
            _check_dtype(path, str(logits.dtype))
            return logits, {}
        with open_file(path) as stream, safe_open(path, framework="numpy") as file:
            tensor, fingerprints = file.get_slice("logits"), file.metadata() or {}
            code = tensor.get_dtype()
            dtype = {code: name for name, code in DTYPES.items()}.get(code, code)
            _check_dtype(path, dtype)
            header = stream.read(int.from_bytes(stream.read(8), "little"))
            start = stream.tell() + json.loads(header)["logits"]["data_offsets"][0]
            return np.memmap(stream, dtype, "r", start, tuple(tensor.get_shape())), fingerprints
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except KeyError as error:
        raise InputError(f"{path}: expected the key logits, which is not there") from error
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def _are_probabilities(logits: np.ndarray) -> bool:
    """Whether all rows are probabilities: in [0, 1], with the sum 1 as exactly as float16 can say it."""
    return bool(logits.min() >= 0 and (abs(logits.sum(-1, dtype=np.float32) - 1) < 0.01).all())


def _check_dtype(path: Path, dtype: str) -> None:
    if dtype not in DTYPES:
        raise InputError(f"{path}: logits: expected float16 or float32, got {dtype}")
