"""A network in an ONNX file as a teacher, computed by ONNX Runtime; needs the extra `[onnx]`.

Layout, image size and type are those of the graph's input (https://onnx.ai/onnx/repo-docs/IR.html).

Axis legend: B batch, T timesteps, H height, W width, C channels (images) or classes (logits).
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sealkd_jax.data import Dataset, normalise
from sealkd_jax.data.scales import mean_and_std
from sealkd_jax.errors import InputError, reason
from sealkd_jax.files import fingerprint, open_file, sha256
from sealkd_jax.teachers.function import FunctionTeacher

PREFIX = "onnx:"
DTYPES = {f"tensor({name})": dtype for name, dtype in {"float": "float32", "float16": "float16"}.items()}
DTYPES |= {"tensor(double)": "float64", "tensor(uint8)": "uint8"}
_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


class GraphInput(NamedTuple):
    """What a graph takes.

    Attributes:
        dtype: of the images.
        channels_first: whether they are `[B, C, H, W]`, otherwise `[B, H, W, C]`.
        channels: C.
        size: H and W.
        batch: B of a graph that takes no other; None for any.
    """

    dtype: str
    channels_first: bool
    channels: int
    size: tuple[int, int]
    batch: int | None


def load_onnx(
    path: Path, dataset: Dataset, *, scale: str | None = None, frame_mode: str = "mean", timesteps: int = 1
) -> FunctionTeacher:
    """The network of an ONNX file as a teacher of these data.

    Images are resized to the graph's (bilinear, with antialiasing), a grey one is repeated for a graph of RGB images,
    and normalised by `scale`. A graph of uint8 images gets the pixels.

    Args:
        path: of the file; files of weights beside it are found by ONNX Runtime.
        dataset: whose images it sees, and whose classes it must have, in their order.
        scale: a name of `sealkd_jax.data.scales.SCALE_NAMES`; None: ImageNet's.
        frame_mode: for recordings of events: `mean`, or `each` frame, which gives logits per timestep.
        timesteps: the number of frames.

    Raises:
        InputError: if the file is no ONNX network, or takes other images or has other classes.
    """
    session = _open(path)
    shape, classes = dataset.train.images.shape[1:], len(dataset.classes)
    (given, *others) = session.get_inputs()
    if others:
        names = ", ".join(each.name for each in (given, *others))
        raise InputError(f"{path}: takes {len(others) + 1} inputs ({names}); expected one, the images")
    takes = read_input(path, given.type, given.shape, shape)
    if takes.dtype == "uint8" and scale not in (None, "pixels"):
        raise InputError(f"scale {scale}: {path} takes uint8 images, which are not scaled; leave it out")
    scale = scale or ("pixels" if takes.dtype == "uint8" else "imagenet")
    mean, std = mean_and_std(dataset, scale, takes.channels)
    prepare, output = make_prepare(takes, mean, std, frame_mode), _output(path, session, classes)

    def function(images: np.ndarray) -> np.ndarray:
        seen = prepare(images)
        size = takes.batch or len(seen)
        filled = np.concatenate([seen, np.repeat(seen[-1:], -len(seen) % size, 0)])
        parts = [session.run([output], {given.name: part})[0] for part in np.split(filled, len(filled) // size)]
        logits = np.concatenate(parts)[: len(seen)]
        return logits if len(seen) == len(images) else logits.reshape(len(images), -1, logits.shape[-1])

    digest = fingerprint("onnx", _digests(path), scale, mean.tolist(), std.tolist(), frame_mode)
    return FunctionTeacher(str(path), function, digest, classes, timesteps=timesteps)


def _open(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(f'{PREFIX}{path}: needs {error.name}: pip install "sealkd-jax[onnx]"') from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    providers = [name for name in _PROVIDERS if name in onnxruntime.get_available_providers()]
    try:
        open_file(path).close()
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except Exception as error:  # the runtime has exceptions of its own for each status
        raise InputError(f"{path}: ONNX Runtime cannot read it ({reason(error)}); expected an ONNX network") from error


def read_input(path: Path, kind: str, shape: list[Any], image_shape: tuple[int, ...]) -> GraphInput:
    """What a graph takes, by the type and the shape of its input; axes of any size are names or None.

    Args:
        path: for messages.
        kind: as `tensor(float)`.
        shape: `[B, C, H, W]` or `[B, H, W, C]`.
        image_shape: of the data, `[H, W, C]` or `[T, H, W, 2]`.

    Raises:
        InputError: if that is no input of such images.
    """
    if kind not in DTYPES:
        raise InputError(f"{path}: its input is a {kind}; expected one of {', '.join(DTYPES)}")
    height, width, channels = image_shape[-3:]
    sizes = [size if isinstance(size, int) and size > 0 else None for size in shape]
    fitting = (channels, 3) if channels == 1 else (channels,)
    first = len(sizes) == 4 and (sizes[1] in fitting or (sizes[1] is None and sizes[3] not in fitting))
    if len(sizes) != 4 or not (first or sizes[3] in fitting):
        raise InputError(
            f"{path}: its input is {shape}; expected [B, {channels}, H, W] or [B, H, W, {channels}] for images of "
            f"{channels} channels"
        )
    batch, own, *size = (sizes[0], sizes[1], *sizes[2:]) if first else (sizes[0], sizes[3], *sizes[1:3])
    return GraphInput(DTYPES[kind], first, own or channels, (size[0] or height, size[1] or width), batch)


def make_prepare(
    takes: GraphInput, mean: np.ndarray, std: np.ndarray, frame_mode: str
) -> Callable[[np.ndarray], np.ndarray]:
    """Compiles images uint8 `[B, H, W, C]`, or frames `[B, T, H, W, 2]`, to what the graph takes.

    With the mode `each` the result has B · T images.
    """

    @jax.jit
    def prepare(images: jax.Array) -> jax.Array:
        x = images.astype(jnp.float32)
        if x.ndim == 5:
            x = x.mean(1) if frame_mode == "mean" else x.reshape(-1, *x.shape[2:])
        if x.shape[-1] < takes.channels:
            x = jnp.repeat(x, takes.channels, -1)
        if x.shape[1:3] != takes.size:
            x = jax.image.resize(x, (len(x), *takes.size, takes.channels), "bilinear")
        if takes.dtype == "uint8":
            x = jnp.clip(jnp.round(x), 0, 255)
        else:
            x = normalise(x, jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32))
        return jnp.moveaxis(x, -1, 1) if takes.channels_first else x

    return lambda images: np.asarray(prepare(images)).astype(takes.dtype)


def _output(path: Path, session: Any, classes: int) -> str:
    """The name of the graph's output that has the logits: the first of this many classes, or of any number."""
    shapes = {output.name: output.shape for output in session.get_outputs()}
    for wanted in (lambda size: size == classes, lambda size: not isinstance(size, int)):
        for name, shape in shapes.items():
            if len(shape) == 2 and wanted(shape[1]):
                return name
    found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    raise InputError(
        f"{path}: its outputs are {found}; expected logits [B, {classes}], for the data's {classes} classes"
    )


def _digests(path: Path) -> list[str]:
    """SHA-256 of the file, and of the files of weights beside it that it names."""
    with open_file(path) as stream:
        content = stream.read()
    # StringStringEntryProto with the key "location": https://onnx.ai/onnx/repo-docs/ExternalData.html
    places = re.finditer(rb"\n\x08location\x12([\x01-\x7f])", content)
    names = {content[place.end() : place.end() + place[1][0]].decode(errors="replace") for place in places}
    inside = [Path(name) for name in sorted(names) if ".." not in Path(name).parts and not Path(name).is_absolute()]
    return [sha256(path), *(sha256(path.parent / name) for name in inside if (path.parent / name).is_file())]
