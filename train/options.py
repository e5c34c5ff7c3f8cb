"""The options of the programs: typed dataclasses that become command lines."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import tyro

from sealkd_jax.errors import InputError
from sealkd_jax.losses import METHODS, Method, hyperparameters


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The data set, and how recordings of events become frames."""

    dataset: str
    """Name of the data set, or npz:FILE with your own x_train, y_train, x_test, y_test, or folder:DIR of pictures."""
    data_dir: Path | None = None
    """Where data sets are, and where train.prepare puts them; ~/tensorflow_datasets where not given."""
    stream: bool = False
    """Read images when they are needed, for a data set too large for the device's memory."""
    image_size: int = 224
    """Height and width of pictures from folders, in pixels."""
    timesteps: int = 4
    """T, in training and evaluation. A recording of events becomes as many frames."""
    frame_by: Literal["time", "count"] = "time"
    """Frames of equal duration, or of equally many events."""
    frame_size: int | None = None
    """Height and width of frames, in pixels; the data set's usual where not given."""
    on_bad_recording: Literal["fail", "skip"] = "fail"
    """Stop at a recording that is damaged, or leave it out."""


@dataclass(frozen=True, kw_only=True)
class AugmentationOptions:
    """How a view of a training example is made; 0, none and no switch each off."""

    crop: int = 0
    """Zero pixels padded to every side before cropping back."""
    resized_crop: float = 0.0
    """A random part of the image, at least this share of its area, is scaled to the whole of it."""
    flip: bool = False
    """Half of the images, or recordings, are mirrored."""
    auto_augment: Literal["none", "cifar10", "imagenet"] = "none"
    """AutoAugment's policy for one of these data sets; RGB images alone."""
    cutout: int = 0
    """Side of a square that is blanked, in pixels."""
    roll: int = 0
    """Recordings: furthest shift along either axis, in pixels; what leaves comes in again at the other side."""
    nda: int = 0
    """Recordings: rolled, turned by 15 degrees or a square of 8 pixels emptied, each times this strength."""
    time_shift: int = 0
    """Recordings: furthest shift in time, in frames."""
    event_drop: float = 0.0
    """Recordings: at most this share of the events is left out."""


@dataclass(frozen=True, kw_only=True)
class WatchOptions:
    """What a program shows of its work. Nothing that it computes depends on it."""

    log: Literal["auto", "quiet", "json"] = "auto"
    """On stderr a bar, or lines where that is no terminal; only the result; or all as JSON lines on stdout."""
    tensorboard: bool = False
    """Scalars of each epoch for TensorBoard, in the run's directory."""


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(WatchOptions, DataOptions, AugmentationOptions):
    """What training a teacher and training a student have in common."""

    seed: int = 0
    """Of the initial parameters and the order of the examples."""
    epochs: int
    """Passes over the training split."""
    batch_size: int
    """Examples a step, over all devices."""
    optimizer: Literal["sgd", "adamw"]
    """SGD with momentum 0.9, or AdamW."""
    learning_rate: float
    """At its peak, after the warm-up; falls to 0 along a cosine."""
    weight_decay: float
    """On kernels only."""
    warmup_epochs: int = 0
    """Epochs over which the learning rate rises from 0; fewer where --epochs leaves no room."""
    precision: Literal["float32", "bfloat16", "float64"] = "float32"
    """Of activations. Parameters, membranes and losses are at least float32."""
    parallel: Literal["jit", "pmap"] = "jit"
    """How a step is spread over devices."""
    devices: int | None = None
    """How many devices, over all processes; all of this machine, or of every process's, where not given."""


@dataclass(frozen=True, kw_only=True)
class TeacherOptions(TrainingOptions):
    """An ANN teacher and how it is trained."""

    teacher: str
    """Name of the network."""
    teacher_width: float = 1.0
    """Factor on the features of its layers."""
    teacher_sees: Literal["mean", "each"] = "mean"
    """Of a recording: the mean of its frames, or each of them, and then it has logits at every timestep."""


@dataclass(frozen=True, kw_only=True)
class DistillOptions(TrainingOptions):
    """A spiking student and how it is distilled."""

    method: str = "seal"
    """The loss: one of sealkd_jax.METHODS."""
    epochs: int
    """The student's passes over the training split. A teacher that is trained for it has those of train.teacher."""
    hyper: tuple[str, ...] = ()
    """Hyper-parameters of the method, NAME=VALUE each, such as alpha=0.6 temperature=3."""
    student: str
    """The spiking network: one of sealkd_jax.models.STUDENTS, such as spiking-conv and spiking-mlp."""
    width: float = 1.0
    """Factor on the features of its layers."""
    neuron: Literal["lif", "iaf", "plif"] = "lif"
    """Leaky integrate-and-fire, without the leak, or with a learned leak."""
    decay: float = 0.5
    """Share of the membrane that a timestep keeps, in (0, 1)."""
    teacher: str
    """Name of a teacher network, or the directory of a teacher that train.teacher made or of a finished student."""
    teacher_width: float = 1.0
    """Factor on the features of a network's layers; a directory's teacher has its own."""
    teacher_sees: Literal["mean", "each"] = "mean"
    """Of a recording: the mean of its frames, or each of them, and then it has logits at every timestep; likewise."""
    teacher_logits: Path | None = None
    """Your own logits in place of a teacher: .safetensors or .npz with the key logits, [K,N,C], [K,N,T,C] or [N,C]."""
    train_examples: int | None = None
    """The student learns from only so many of the training examples, always the same; all where not given."""
    views: int
    """K: how many augmented views of the training split the teacher and the student see; view 0 is un-augmented."""
    view_seed: int = 0
    """Of the views. Runs that differ in --seed share the views, and so the teacher's logits."""
    accumulate: int = 1
    """In how many parts a step takes its batch, to save memory; BatchNorm sees the parts."""
    remat: Literal["none", "spikes", "full"] = "none"
    """What the backward pass computes again to save memory: nothing, all but spikes, or whole blocks."""
    out: Path | None = None
    """Directory of the run; runs/<preset>-<method>-s<seed> where not given."""
    resume: bool = False
    """Go on with what is in --out; begin where nothing is there."""


@dataclass(frozen=True, kw_only=True)
class ProcessOptions:
    """One of several processes of one run. Under SLURM and on Cloud TPU they find one another without these."""

    coordinator: str | None = None
    """HOST:PORT at which the first process can be reached; the same for all."""
    num_processes: int | None = None
    """How many processes there are; 1 alone: this one is by itself, also under SLURM or on Cloud TPU."""
    process_id: int | None = None
    """Which of them this is, from 0."""


@dataclass(frozen=True, kw_only=True)
class DistillProgramOptions(DistillOptions, ProcessOptions):
    """A student, and the process that trains it."""


class Preset(NamedTuple):
    """A data set with a student and a teacher that suit it."""

    distill: DistillOptions
    teacher: TeacherOptions


def parse(
    options: Literal["distill", "teacher"],
    description: str,
    argv: list[str] | None,
    *,
    program: str | None = None,
    kind: type[TrainingOptions] | None = None,
) -> tuple[str, Preset]:
    """Reads `[PRESET] [--option value …]`: the preset's name, and the preset with those options changed.

    `program` is that of `options` where not given. `kind` adds options of its own, with defaults, to the preset's.
    """
    from train.presets import DEFAULT, PRESETS

    argv = list(sys.argv[1:] if argv is None else argv)
    name = argv.pop(0) if argv and not argv[0].startswith("-") else DEFAULT
    if name not in PRESETS:
        raise InputError(f"preset {name!r}: unknown; expected one of {', '.join(PRESETS)}")
    preset = PRESETS[name]
    default = getattr(preset, options)
    if kind is not None:
        default = as_kind(kind, default)
    usage = f"{description} A preset may come first: {', '.join(PRESETS)}; "
    chosen = tyro.cli(
        type(default),
        prog=f"python -m train.{program or options}",
        default=default,
        args=argv,
        description=f"{usage}the values below are those of {name}.",
    )
    check(chosen)
    return name, preset._replace(**{options: chosen})


def as_kind(kind: type[TrainingOptions], options: TrainingOptions) -> Any:
    """These options as another kind: what it does not know is dropped, what it adds has its default."""
    known = {field.name for field in fields(kind)} & {field.name for field in fields(options)}
    return kind(**{name: getattr(options, name) for name in known})


def check(options: Any) -> None:
    """Ranges that the types of a program's options do not say.

    Raises:
        InputError: for a value outside.
    """
    ranges: dict[str, tuple[str, Callable[[Any], bool]]] = {
        "epochs": ("at least 1", lambda x: x >= 1),
        "batch_size": ("at least 1", lambda x: x >= 1),
        "learning_rate": ("a positive number", lambda x: 0 < x < float("inf")),
        "weight_decay": ("0 or a positive number", lambda x: 0 <= x < float("inf")),
        "warmup_epochs": ("at least 0", lambda x: x >= 0),
        "crop": ("at least 0", lambda x: x >= 0),
        "resized_crop": ("a number from 0 to 1", lambda x: 0 <= x <= 1),
        "cutout": ("at least 0", lambda x: x >= 0),
        "roll": ("at least 0", lambda x: x >= 0),
        "nda": ("at least 0", lambda x: x >= 0),
        "time_shift": ("at least 0", lambda x: x >= 0),
        "event_drop": ("a number from 0 to 1", lambda x: 0 <= x <= 1),
        "frame_size": ("at least 1", lambda x: x is None or x >= 1),
        "image_size": ("at least 1", lambda x: x >= 1),
        "seed": ("0 to 2**32 - 1", lambda x: 0 <= x < 2**32),
        "view_seed": ("0 to 2**32 - 1", lambda x: 0 <= x < 2**32),
        "timesteps": ("at least 1", lambda x: np.min(x) >= 1),
        "num_processes": ("at least 1", lambda x: x is None or x >= 1),
        "process_id": ("at least 0", lambda x: x is None or x >= 0),
        "calls": ("at least 1", lambda x: x >= 1),
        "size": ("at least 8", lambda x: x >= 8),
        "shares": ("at least 1", lambda x: np.min(x) >= 1),
        "accumulate": ("at least 1", lambda x: x >= 1),
        "views": ("at least 1", lambda x: x >= 1),
        "train_examples": ("at least 1", lambda x: x is None or x >= 1),
        "decay": ("a number between 0 and 1", lambda x: 0 < x < 1),
        "repeats": ("at least 1", lambda x: x >= 1),
        "width": ("a positive number", lambda x: 0 < x < float("inf")),
        "teacher_width": ("a positive number", lambda x: 0 < x < float("inf")),
        "seeds": ("at least 1", lambda x: x >= 1),
        "seeds_at_once": ("at least 1", lambda x: x is None or x >= 1),
    }
    for field in fields(options):
        value = getattr(options, field.name)
        expected, holds = ranges.get(field.name, ("", lambda _: True))
        if not holds(value):
            given = " ".join(map(str, value)) if isinstance(value, tuple) else value
            raise InputError(f"--{field.name.replace('_', '-')} {given}: expected {expected}")
    if getattr(options, "tensorboard", False) and find_spec("tensorboardX") is None:
        raise InputError('--tensorboard: needs tensorboardX: pip install -e ".[tensorboard]"')


def bind_method(name: str, hyper: tuple[str, ...]) -> Method:
    """The method of that name with hyper-parameters `NAME=VALUE`, read as the type of the parameter's default.

    Raises:
        InputError: for a method or a hyper-parameter that does not exist, or a value that is none.
    """
    if name not in METHODS:
        raise InputError(f"--method {name}: unknown; expected one of {', '.join(METHODS)}")
    parameters = hyperparameters(name)
    bound = {}
    for item in hyper:
        key, equals, text = item.partition("=")
        if not equals or key not in parameters:
            known = ", ".join(f"{k}={v}" for k, v in parameters.items()) or "none"
            raise InputError(f"--hyper {item}: expected NAME=VALUE; {name} has {known}")
        default = parameters[key]
        try:
            bound[key] = {"True": True, "False": False}[text] if isinstance(default, bool) else type(default)(text)
        except (ValueError, KeyError) as error:
            raise InputError(f"--hyper {item}: expected a {type(default).__name__}, as in {key}={default}") from error
    return partial(METHODS[name], **bound)
