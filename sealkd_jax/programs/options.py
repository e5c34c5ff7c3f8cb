"""The options of the programs: typed dataclasses that become command lines."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import tyro


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


@dataclass(frozen=True, kw_only=True)
class TeacherProgramOptions(TeacherOptions, ProcessOptions):
    """A teacher to train, or to import."""

    teacher: Annotated[str, tyro.conf.arg(aliases=["--arch"])]
    """Name of the network."""
    weights: Annotated[Path | None, tyro.conf.arg(name="import")] = None
    """A PyTorch state dict (.safetensors, .npz, .pth) of that network, in place of training it."""
    scale: Literal["imagenet", "dataset"] | None = None
    """What the imported network's images are normalised with: the mean and deviation of ImageNet, as they are where not
    given, or of the data set."""
    evaluate: bool = False
    """Only look at the imported network's accuracy; nothing is kept."""


class Preset(NamedTuple):
    """A data set with a student and a teacher that suit it."""

    distill: DistillOptions
    teacher: TeacherOptions
