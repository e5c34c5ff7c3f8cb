"""Teachers from any library: a function in a Python file, or a network in an ONNX file."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np

from sealkd_jax.data import Dataset, Split
from sealkd_jax.data.datasets import directory_name
from sealkd_jax.diagnostics import accuracy_by_timestep
from sealkd_jax.errors import InputError
from sealkd_jax.files import fingerprint
from sealkd_jax.parallel.processes import is_main_process, lock_across_processes, max_across_processes
from sealkd_jax.parallel.sharding import Parallel
from sealkd_jax.programs.options import DistillOptions, TeacherProgramOptions
from sealkd_jax.programs.progress import progress
from sealkd_jax.programs.ready_teacher import TEACHERS_DIR, Teacher, check_test_logits
from sealkd_jax.teachers import FunctionTeacher, Outputs, function_views, load_function, load_onnx
from sealkd_jax.teachers.onnx import PREFIX
from sealkd_jax.teachers.own_file import parse_place
from sealkd_jax.training import EpochSpec
from sealkd_jax.training.teacher_logits import TeacherLogits, write_teacher_logits

Options = DistillOptions | TeacherProgramOptions
FORMS = f"FILE.py:FUNCTION, {PREFIX}FILE"
RECORDS = 50  # of progress, for a view


def outside_teacher(options: Options, dataset: Dataset) -> Teacher | None:
    """The function or the ONNX file that `teacher` names, with its logits for the test split; None for another name.

    Raises:
        InputError: if it cannot be loaded, or does not return what it should.
    """
    if (teacher := _load(options, dataset)) is None:
        return None
    named = directory_name(Path(teacher.name).stem)
    directory = TEACHERS_DIR / f"{dataset.name}-{named}-{fingerprint(teacher.digest, dataset.fingerprint)}"
    logits = _test_logits(directory, teacher, options, dataset)
    check_test_logits(directory, logits)
    return Teacher(
        directory,
        teacher.digest,
        len(logits),
        logits.mean(0),
        float(accuracy_by_timestep(logits, dataset.test.labels)[-1]),
        partial(_viewer, teacher),
        ours=False,
    )


def _load(options: Options, dataset: Dataset) -> FunctionTeacher | None:
    name, timesteps = options.teacher, options.timesteps
    if name.startswith(PREFIX):
        path = Path(name.removeprefix(PREFIX))
        sees = options.teacher_sees
        return load_onnx(path, dataset, scale=options.scale, frame_mode=sees, timesteps=timesteps)
    if (place := parse_place(name)) is None:
        return None
    if options.scale is not None:
        raise InputError(f"--scale {options.scale}: {name} gets the pixels as they are, and scales them itself")
    return load_function(place, dataset, timesteps=timesteps)


def _test_logits(directory: Path, teacher: FunctionTeacher, options: Options, dataset: Dataset) -> np.ndarray:
    """Logits `[T, N, C]` for the test split: found where an earlier run left them, or computed now."""
    made_of = {"data": dataset.splits_fingerprint, "teacher": teacher.digest}
    path = directory / f"test-{fingerprint(made_of, teacher.timesteps)}.safetensors"
    with lock_across_processes(directory, wait=True):
        if max_across_processes(is_main_process() and not path.exists()):
            with _views(teacher, options, dataset.test, lambda _, image: image, 0, 1) as view:
                write_teacher_logits(path, view, 1, made_of)
    examples, classes = len(dataset.test.labels), len(dataset.classes)
    found = TeacherLogits(
        path, examples=examples, classes=classes, timesteps=teacher.timesteps, views=1, fingerprints=made_of
    )
    logits = np.asarray(found.view(0), np.float32)
    return logits[None] if logits.ndim == 2 else np.swapaxes(logits, 0, 1)


@contextmanager
def _viewer(
    teacher: FunctionTeacher, options: DistillOptions, dataset: Dataset, spec: EpochSpec, _: Parallel
) -> Iterator[Callable[[int], Outputs]]:
    """See `Viewer`."""
    with _views(teacher, options, dataset.train, spec.augmentation, spec.view_seed, spec.views) as view:
        yield view


@contextmanager
def _views(
    teacher: FunctionTeacher, options: Options, split: Split, augmentation: Callable, seed: int, views: int
) -> Iterator[Callable[[int], Outputs]]:
    """Opens `function_views` of a split, with progress and the time left. It can be stopped after each batch."""
    batches = -(-len(split.labels) // options.batch_size)
    every = -(-batches // RECORDS)  # batches for a record
    records, done, start = -(-batches // every), 0, perf_counter()
    with progress("logits", records * views, options) as show:

        def on_batch() -> None:
            nonlocal done, start
            done += 1
            view, batch = divmod(done - 1, batches)
            if (batch + 1) % every and batch + 1 < batches:
                show()
                return
            now = perf_counter()
            speed = (batch % every + 1) * options.batch_size / (now - start)
            start, record = now, view * records + batch // every + 1
            show({"epoch": record, "what": f"view {view + 1} of {views}", "examples_per_second": speed})

        size = options.batch_size
        yield function_views(teacher, split, augmentation, seed=seed, batch_size=size, on_batch=on_batch)
