"""Trains an ANN teacher, or finds it: `python -m train.teacher [PRESET] [--option value …]`.

A teacher is made once and kept under `runs/teachers/`, in a directory named by all that decides what it is.
`--import FILE` makes one of the weights of a network that was trained elsewhere, with PyTorch.
"""

from pathlib import Path

import jax

from sealkd_jax.errors import InputError
from sealkd_jax.parallel.sharding import Parallel, pick_devices
from sealkd_jax.programs.cluster import join
from sealkd_jax.programs.command_line import as_kind, parse
from sealkd_jax.programs.data import load_dataset
from sealkd_jax.programs.options import TeacherOptions, TeacherProgramOptions
from sealkd_jax.programs.plans import plan_teacher
from sealkd_jax.programs.progress import say
from sealkd_jax.programs.teachers import import_teacher, obtain_teacher


def main(argv: list[str] | None = None) -> Path:
    """Prints where the teacher is and how accurate; gives its directory."""
    _, preset = parse("teacher", "Trains an ANN teacher, finds it, or imports it.", argv, kind=TeacherProgramOptions)
    options = preset.teacher
    join(options)
    if options.evaluate and options.weights is None:
        raise InputError("--evaluate: expected --import FILE beside it; a teacher of one's own is always evaluated")
    if options.scale is not None and options.weights is None:
        raise InputError(f"--scale {options.scale}: expected --import FILE beside it; others have the data set's own")
    with jax.enable_x64(options.precision == "float64"):
        parallel = Parallel(options.parallel, pick_devices(options.devices, options.batch_size))
        dataset = load_dataset(options)
        if options.weights is not None:
            teacher = import_teacher(options, dataset, parallel)
        else:
            plain = as_kind(TeacherOptions, options)
            teacher = obtain_teacher(plain, plan_teacher(plain, dataset), dataset, parallel)
    where = options.weights if options.evaluate else teacher.directory
    n_test, accuracy = len(teacher.test_logits), teacher.test_accuracy
    found = {"path": str(where), "test_accuracy": accuracy, "n_test": n_test}
    say(options, "result", found, f"{where}: test accuracy {accuracy:.2%} (n = {n_test})")
    return teacher.directory
