"""From options to the plan of a training: network, method, batches and views."""

import math
from dataclasses import replace
from functools import partial

import jax
import numpy as np

from sealkd_jax.data import Dataset
from sealkd_jax.errors import InputError, did_you_mean
from sealkd_jax.losses import METHODS, Method, couples_examples, hyperparameters, needs_teacher
from sealkd_jax.models import Network, Variables, create_teacher
from sealkd_jax.parallel.sharding import check_batch
from sealkd_jax.programs.data import pick_augmentation
from sealkd_jax.programs.networks import named_student
from sealkd_jax.programs.option import read_as
from sealkd_jax.programs.options import DistillOptions, TeacherOptions, TrainingOptions
from sealkd_jax.training import EpochSpec, Plan, SpikeRate, Targets, balanced_weights, steps_per_epoch


def make_plan(options: DistillOptions, dataset: Dataset) -> Plan:
    """The plan of a student's training.

    Raises:
        InputError: for options that do not fit one another or the data, which would fail only when traced.
    """
    method = bind_method(options.method, options.hyper)
    spec = student_spec(options, dataset)
    plan = replace(
        _plan(options, student_network(options, dataset), method, spec, options.timesteps, dataset),
        accumulate=options.accumulate,
        spike_rate=read_spike_rate(options.spike_rate),
    )
    check_batch(options.batch_size, 1, options.accumulate)
    if options.accumulate > 1 and couples_examples(options.method):
        raise InputError(
            f"--accumulate {options.accumulate}: expected 1 for {options.method}, whose loss couples the whole batch"
        )
    if options.mixup and needs_teacher(options.method):
        raise InputError(
            f"--mixup {options.mixup}: the stored teacher logits are of single images; expected 0 for "
            f"{options.method}, or a method without a teacher"
        )
    steps_per_epoch(plan.spec, dataset)
    if dataset.frames not in (None, options.timesteps):
        raise InputError(f"--timesteps {options.timesteps}: {dataset.name} was read as {dataset.frames} frames")
    abstract_variables(plan.network, dataset)
    logits = jax.ShapeDtypeStruct((options.batch_size, len(dataset.classes)), np.float32)
    student = jax.ShapeDtypeStruct((options.timesteps, *logits.shape), np.float32)
    try:
        jax.eval_shape(plan.method, student, logits, jax.ShapeDtypeStruct(logits.shape[:1], np.int32))
    except ValueError as error:
        raise InputError(f"hyper: {error}") from error
    return plan


def student_spec(options: DistillOptions, dataset: Dataset) -> EpochSpec:
    """The batches, views and epochs of a student."""
    return make_spec(options, dataset, options.view_seed, options.views)


def make_spec(options: TrainingOptions, dataset: Dataset, view_seed: int, views: int) -> EpochSpec:
    """The batches and epochs of these options, with these views."""
    augmentation = pick_augmentation(options, dataset)
    return EpochSpec(augmentation, view_seed, views, options.batch_size, options.epochs, dataset.mean, dataset.std)


def read_spike_rate(text: str | None) -> SpikeRate | None:
    """The penalty that `TARGET=WEIGHT` stands for.

    Raises:
        InputError: for another text, a target that is no share, or a weight that is not positive.
    """
    if text is None:
        return None
    try:
        target, weight = map(float, text.split("="))
    except ValueError:
        target = weight = -1.0
    if not (0 <= target <= 1 and 0 < weight < math.inf):
        raise InputError(f"--spike-rate {text}: expected TARGET=WEIGHT, such as 0.1=10: a share, and a positive number")
    return SpikeRate(target, weight)


def _targets(options: TrainingOptions, dataset: Dataset) -> Targets | None:
    """What the labels become; None where they stay."""
    classes, balanced = len(dataset.classes), options.class_weights == "balanced"
    if not (options.label_smoothing or options.mixup or balanced):
        return None
    weights = balanced_weights(dataset.train.labels, classes) if balanced else None
    return Targets(classes, options.label_smoothing, options.mixup, weights)


def _plan(
    options: TrainingOptions, network: Network, method: Method, spec: EpochSpec, timesteps: int, dataset: Dataset
) -> Plan:
    return Plan(
        network,
        method,
        spec,
        timesteps,
        options.seed,
        options.optimizer,
        options.learning_rate,
        options.weight_decay,
        options.warmup_epochs,
        clip_norm=options.clip_norm,
        decay_all=options.decay_all,
        ema=options.ema,
        targets=_targets(options, dataset),
    )


def student_network(options: DistillOptions, dataset: Dataset) -> Network:
    """An untrained student."""
    return named_student(
        options.student,
        len(dataset.classes),
        dataset.train.images.shape[-3:],
        mean=dataset.mean.tolist(),
        std=dataset.std.tolist(),
        frames=dataset.frames,
        width=options.width,
        neuron=options.neuron,
        decay=options.decay,
        precision=options.precision,
        remat=options.remat,
    )


def bind_method(name: str, hyper: tuple[str, ...]) -> partial[tuple[jax.Array, dict[str, jax.Array]]]:
    """The method of that name with hyper-parameters `NAME=VALUE`, each read as the type of its default.

    Raises:
        InputError: for a method or a hyper-parameter that does not exist, or a value of another type.
    """
    if name not in METHODS:
        raise InputError(f"method {name}: unknown; expected one of {', '.join(METHODS)}{did_you_mean(name, METHODS)}")
    parameters, bound = hyperparameters(name), {}
    for item in hyper:
        key, equals, text = item.partition("=")
        if not equals or key not in parameters:
            known = ", ".join(f"{parameter}={default}" for parameter, default in parameters.items()) or "none"
            nearest = did_you_mean(key, parameters)
            raise InputError(f"hyper {item}: expected NAME=VALUE; {name} has {known}{nearest}")
        try:
            # A hyper-parameter that is None if not given is a number.
            bound[key] = read_as(float if parameters[key] is None else type(parameters[key]), text)
        except ValueError as error:
            raise InputError(f"hyper {item}: expected {error}, as in {key}={parameters[key]}") from error
    return partial(METHODS[name], **bound)


def plan_teacher(options: TeacherOptions, dataset: Dataset) -> Plan:
    """The plan of a teacher's training, checked.

    Raises:
        InputError: for options that do not fit the data, which would fail only in training.
    """
    plan = teacher_plan(options, dataset)
    steps_per_epoch(plan.spec, dataset)
    with jax.enable_x64(options.precision == "float64"):
        abstract_variables(plan.network, dataset)
    return plan


def teacher_plan(options: TeacherOptions, dataset: Dataset) -> Plan:
    """The plan of a teacher's training: plain cross-entropy, a new view every epoch."""
    network = create_teacher(
        options.teacher,
        len(dataset.classes),
        width=options.teacher_width,
        precision=options.precision,
        frame_mode=options.teacher_sees,
    )
    spec = make_spec(options, dataset, options.seed, options.epochs)
    return _plan(options, network, METHODS["none"], spec, 1, dataset)


def abstract_variables(network: Network, dataset: Dataset) -> Variables:
    """Shapes and dtypes of the variables that the network has for these images."""
    shape = dataset.train.images.shape
    image = jax.ShapeDtypeStruct((*shape[1:-3], 1, *shape[-3:]), np.float32)
    return jax.eval_shape(network.init, jax.random.key(0), image)
