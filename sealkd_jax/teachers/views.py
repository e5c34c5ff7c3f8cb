"""Views of a split in batches, a function's logits for them, and a file of these.

Axis legend: K views, N examples, B batch, T timesteps, C classes, F features.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import jax
import numpy as np

from sealkd_jax.data import Augmentation, Dataset, Split, augment, parse_augmentation, stream
from sealkd_jax.errors import InputError
from sealkd_jax.files import fingerprint
from sealkd_jax.parallel.processes import is_main_process
from sealkd_jax.teachers.function import Function, FunctionTeacher
from sealkd_jax.training.teacher_logits import Outputs, TeacherLogits, view_fingerprints, write_teacher_logits

NOTHING = Outputs(np.zeros((0, 0), np.float32))


def view_batches(
    split: Split, augmentation: Augmentation, *, seed: int, batch_size: int
) -> Callable[[int], Iterator[np.ndarray]]:
    """Returns a function that yields view k of all examples, in order, as the student will see them.

    Each batch has `batch_size` images, uint8 or uint16 as in `Split`; the last is filled up with its last image, so
    that a function compiles once. Images that are read on demand are read ahead.
    """
    make = jax.jit(partial(augment, augmentation, seed=seed))

    def batches(view: int) -> Iterator[np.ndarray]:
        first = 0
        for images in _blocks(split, batch_size):
            index = np.arange(first, first + batch_size)  # numbers beyond the split belong to the padding below
            first += len(images)
            if len(images) < batch_size:
                images = np.concatenate([images, np.repeat(images[-1:], batch_size - len(images), 0)])
            yield images if view == 0 else np.asarray(make(images, view=np.int32(view), index=index.astype(np.int32)))

    return batches


def _blocks(split: Split, size: int) -> Iterator[np.ndarray]:
    examples = len(split.labels)
    if isinstance(split.images, np.ndarray):
        yield from (split.images[start : start + size] for start in range(0, examples, size))
    else:
        yield from (block.images for block in stream(split, np.arange(examples), size))


def function_views(
    teacher: FunctionTeacher,
    split: Split,
    augmentation: Augmentation,
    *,
    seed: int,
    batch_size: int,
    on_batch: Callable[[], None] = lambda: None,
) -> Callable[[int], Outputs]:
    """Returns a function that gives the teacher's `Outputs` for view k of a split.

    The teacher is called batch by batch, so no more than one batch of a view is ever held. It is tried out first, see
    `FunctionTeacher.try_out`. Of several processes, only the main one calls it; the others get nothing.

    Args:
        teacher: see there.
        split: whose examples are shown, in memory or on demand.
        augmentation: makes a view of one example.
        seed: the seed of all views.
        batch_size: the images of a call.
        on_batch: called after each batch, in every process.
    """
    batches = view_batches(split, augmentation, seed=seed, batch_size=batch_size)
    examples, tried = len(split.labels), False

    def view(k: int) -> Outputs:
        nonlocal tried
        if not is_main_process():
            for _ in range(-(-examples // batch_size)):
                on_batch()  # it may wait for the other processes
            return NOTHING
        found: dict[str, np.ndarray] = {}
        for number, images in enumerate(batches(k)):
            if not tried:
                teacher.try_out(images)
                tried = True
            _fill(found, teacher, teacher(images), number * batch_size, examples)
            on_batch()
        return Outputs(**found)

    return view


def _fill(arrays: dict[str, np.ndarray], teacher: FunctionTeacher, found: Outputs, start: int, examples: int) -> None:
    """Puts the outputs of a batch into the arrays of all examples, which the first batch makes, from `start` on."""
    named = {name: array for name, array in found._asdict().items() if array is not None}
    if not arrays:
        arrays |= {name: np.empty((examples, *array.shape[1:]), np.float32) for name, array in named.items()}
    first, now = ({name: array.shape[1:] for name, array in each.items()} for each in (arrays, named))
    if first != now:
        raise InputError(f"{teacher.name}: returned {now} for a batch, and {first} for the first; expected the same")
    for name, array in named.items():
        arrays[name][start : start + len(array)] = array[: examples - start]


def write_logits(
    path: str | Path,
    function: Function,
    dataset: Dataset,
    *,
    augment: str = "none",
    views: int = 1,
    view_seed: int = 0,
    timesteps: int | None = None,
    batch_size: int = 128,
    dtype: str = "float32",
    teacher: str = "function",
) -> TeacherLogits:
    """Calls a function on K views of the training split, and writes its logits with fingerprints.

    A student that sees the same views of the same data takes the file as verified (`distill(teacher_logits=path)`); for
    any other it is refused. Features that the function returns beside the logits are written, too.

    Args:
        path: of the file, `.safetensors`.
        function: see `Function`.
        dataset: as `load` returns it, in memory or on demand.
        augment: the steps that make a view, as `parse_augmentation` takes them. View 0 is not augmented.
        views: K.
        view_seed: the seed of all views.
        timesteps: T that logits `[B, T, C]` must have; None: the number of frames, or 1 for images.
        batch_size: the images of a call.
        dtype: of the file, float32 or float16.
        teacher: a name or a version of the function, which the file keeps.

    Returns:
        the open file.

    Raises:
        InputError: if the function raises, or returns another shape, NaN, probabilities, or other logits at a second
            call.

    Example:
        >>> from sealkd_jax.data import load
        >>> digits = load("digits")
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     brightness = lambda images: np.tile(images.mean((1, 2)), (1, 10))
        ...     file = write_logits(f"{folder}/logits.safetensors", brightness, digits, augment="crop(1)", views=2)
        ...     file.view(1).shape, file.own
        ((1257, 10), False)
    """
    path, timesteps = Path(path), timesteps or dataset.frames or 1
    made = FunctionTeacher(teacher, function, "", len(dataset.classes), timesteps=timesteps)
    augmentation = parse_augmentation(augment, dataset.train.images.shape[1:])
    view = function_views(made, dataset.train, augmentation, seed=view_seed, batch_size=batch_size)
    fingerprints = view_fingerprints(dataset, augment, view_seed) | {"teacher": fingerprint(teacher)}
    write_teacher_logits(path, view, views, fingerprints, dtype)
    return TeacherLogits(
        path,
        examples=len(dataset.train.labels),
        classes=len(dataset.classes),
        timesteps=timesteps,
        views=views,
        fingerprints=fingerprints,
    )
