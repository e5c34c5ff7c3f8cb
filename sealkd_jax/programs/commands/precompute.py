"""Precomputes a teacher's logits for K views: `python -m train.precompute [PRESET] [--option value …]`.

They are kept beside the teacher, in a file named by all that decides what they are, and shared by all runs.
"""

import jax

from sealkd_jax.errors import InputError
from sealkd_jax.parallel.sharding import Parallel, pick_devices
from sealkd_jax.programs.cluster import join
from sealkd_jax.programs.command_line import parse
from sealkd_jax.programs.data import load_dataset, of_the_student
from sealkd_jax.programs.options import DistillProgramOptions
from sealkd_jax.programs.progress import say
from sealkd_jax.programs.teachers import obtain_logits, pick_teacher


def main(argv: list[str] | None = None) -> None:
    """Prints where the logits are and how accurate."""
    told = "Precomputes what a teacher says to a student: the options are those of the student's train.distill."
    _, preset = parse("distill", told, argv, program="precompute", kind=DistillProgramOptions)
    options = preset.distill
    if options.teacher_logits is not None:
        raise InputError(f"--teacher-logits {options.teacher_logits}: these are logits already; give a --teacher")
    join(options)
    with jax.enable_x64(options.precision == "float64"):
        parallel = Parallel(options.parallel, pick_devices(options.devices, options.batch_size))
        whole = load_dataset(options)
        dataset = of_the_student(whole, options)
        logits = obtain_logits(options, pick_teacher(preset, whole, parallel), dataset, parallel)
    accuracy = logits.accuracy(dataset.train.labels)
    found = {"path": str(logits.path), "views": logits.views, "train_accuracy": accuracy}
    words = f"{logits.path}: {logits.views} views, accuracy {accuracy:.2%} on the training labels"
    say(options, "result", found, words)
