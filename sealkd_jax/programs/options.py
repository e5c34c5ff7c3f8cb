"""The options of the programs, as dataclasses. Each field has its type, its range and, below it, its help.

`GROUPS` says where an option stands in `--help`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from sealkd_jax.data.augmentation import STEPS, canonical_augmentation
from sealkd_jax.data.events.cifar10_dvs import SPLITS
from sealkd_jax.data.loading import DATASETS
from sealkd_jax.data.scales import SCALE_NAMES
from sealkd_jax.losses import METHODS
from sealkd_jax.models import FRAME_MODES, NEURONS, PRECISIONS, PUBLISHED, REMAT, STUDENTS, TEACHERS
from sealkd_jax.parallel.sharding import PARALLEL
from sealkd_jax.programs.networks import NIR_PREFIXES
from sealkd_jax.programs.option import HIDDEN, INNER_FRACTION, POSITIONAL, SEED, Names, Spelling
from sealkd_jax.training.optimizer import OPTIMIZERS
from sealkd_jax.typed import NOT_NEGATIVE, POSITIVE, Range, at_least

WIDTH = Range("a positive number, at most 1000", lambda value: 0 < value <= 1000)


@dataclass(frozen=True, kw_only=True)
class WatchOptions:
    """What a program shows of its work. Nothing that it computes depends on it."""

    log: Literal["auto", "quiet", "json"] = "auto"
    """auto: a progress bar on stderr, or lines if that is no terminal. quiet: only the result. json: every record as a
    line on stdout."""
    tensorboard: bool = False
    """Write losses, accuracies and firing rates of each epoch for TensorBoard into the run's directory."""


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The data set, and how recordings of events become frames."""

    dataset: Annotated[str, Names(DATASETS, open=True)]
    """Data set; npz:FILE for your own x_train, y_train, x_test, y_test; folder:DIR for your own pictures, events:DIR
    for your own recordings of events."""
    data_dir: Annotated[Path | None, Spelling(metavar="DIR")] = None
    """Directory of the data sets; ~/tensorflow_datasets if not given."""
    stream: bool = False
    """Read images when they are needed: for a data set larger than the device's memory."""
    image_size: Annotated[int, at_least(1, 2**14)] = 224
    """Height and width of pictures from folders, in pixels."""
    timesteps: Annotated[int, at_least(1, 10_000)] = 4
    """Number of frames that a recording of events becomes."""
    frame_by: Literal["time", "count"] = "time"
    """Frames of equal duration, or of equally many events."""
    frame_size: Annotated[int | None, at_least(1, 2**14)] = None
    """Height and width of frames, in pixels, the longer if they differ; the data set's usual size if not given."""
    sensor_size: Annotated[tuple[int, ...], at_least(1, 2**14), Spelling(metavar="PIXELS")] = ()
    """Width and height of the sensor of your own recordings, such as 346 260; found from the events if not given."""
    split: Annotated[str, Names(SPLITS)] = "ours"
    """Split of cifar10-dvs: ours, or those of the code of SeAl-KD's or TET's authors."""
    on_bad_recording: Literal["fail", "skip"] = "fail"
    """Stop at a damaged recording, or leave it out."""


@dataclass(frozen=True, kw_only=True)
class ProcessOptions:
    """One of several processes of one run. Under SLURM and on Cloud TPU they find one another without these."""

    coordinator: Annotated[str | None, Spelling(metavar="HOST:PORT")] = None
    """Address of the first process; the same for all."""
    num_processes: Annotated[int | None, at_least(1)] = None
    """Number of processes. 1 alone: this process is a run by itself, also under SLURM or on Cloud TPU."""
    process_id: Annotated[int | None, at_least(0)] = None
    """Number of this process, from 0."""


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(WatchOptions, DataOptions):
    """What training a teacher and training a student have in common."""

    teacher: Annotated[str, Names(TEACHERS, open=True)]
    """Network of the teacher; the directory of a trained teacher or a finished student; FILE.py:FUNCTION or onnx:FILE
    for a network of any library."""
    teacher_width: Annotated[float, WIDTH] = 1.0
    """Factor on the number of features of every layer; a directory's teacher keeps its own."""
    teacher_sees: Annotated[str, Names(FRAME_MODES)] = "mean"
    """mean: the teacher sees the mean frame of a recording. each: it sees every frame and gives logits per timestep."""
    seed: Annotated[int, SEED] = 0
    """Seed of the initial parameters and of the order of the examples."""
    augment: Annotated[str, Names(STEPS, open=True), Spelling(metavar="STEPS")] = "none"
    """Steps in the order in which they are applied, such as "crop(4) | flip | cutout(16)"; none leaves images as they
    are."""
    epochs: Annotated[int, at_least(1)]
    """Passes over the training split."""
    batch_size: Annotated[int, at_least(0, 2**20)]
    """Examples per step, over all devices. 0: a sixteenth of the training examples, as a power of two from 8 to 128."""
    optimizer: Annotated[str, Names(OPTIMIZERS)]
    """sgd has momentum 0.9."""
    learning_rate: Annotated[float, POSITIVE]
    """Learning rate after the warm-up; it falls to 0 along a cosine."""
    weight_decay: Annotated[float, NOT_NEGATIVE]
    """Weight decay of the kernels."""
    decay_all: bool = False
    """Weight decay of all parameters, biases and BatchNorm too, as the SeAl-KD authors' teachers have it."""
    clip_norm: Annotated[float | None, POSITIVE] = None
    """Highest norm of the gradient; a larger one is scaled down to it."""
    ema: Annotated[float | None, INNER_FRACTION] = None
    """Decay of an exponential moving average of the weights, such as 0.999. The average is evaluated and exported."""
    label_smoothing: Annotated[float, Range("0 to below 1", lambda value: 0 <= value < 1)] = 0.0
    """Share of the label that is spread over all classes, in the cross-entropy."""
    mixup: Annotated[float, NOT_NEGATIVE] = 0.0
    """A of Beta(A, A), from which the share of the first of two mixed images is drawn, one for each batch; 0: none."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: the cross-entropy of an example is multiplied by N/(C n), for a class with n of the N examples."""
    warmup_epochs: Annotated[int, at_least(0)] = 0
    """Epochs over which the learning rate rises from 0; fewer if --epochs leaves no room."""
    devices: int | None = None
    """Number of devices, over all processes; all if not given."""
    precision: Annotated[str, Names(PRECISIONS)] = "float32"
    """Type of the activations; parameters, membranes and losses are at least float32."""
    parallel: Annotated[str, Names(PARALLEL)] = "jit"
    """How a step is spread over the devices: jit with a sharded batch, or pmap."""

    def __post_init__(self) -> None:
        # One spelling, so that spaces change no fingerprint and a run can be resumed.
        object.__setattr__(self, "augment", canonical_augmentation(self.augment))


@dataclass(frozen=True, kw_only=True)
class TeacherOptions(TrainingOptions):
    """An ANN teacher and how it is trained."""


@dataclass(frozen=True, kw_only=True)
class DistillOptions(TrainingOptions):
    """A spiking student and how it is distilled."""

    out: Annotated[Path | None, Spelling(metavar="DIR")] = None
    """Directory of the run; runs/PRESET-METHOD-sSEED if not given."""
    resume: bool = False
    """Continue the run in --out, or start it if nothing is there."""
    method: Annotated[str, Names(METHODS)] = "seal"
    """Loss of the student."""
    hyper: Annotated[tuple[str, ...], Spelling(metavar="NAME=VALUE")] = ()
    """Hyper-parameters of the method, such as alpha=0.6 temperature=3; `sealkd methods NAME` lists them."""
    student: Annotated[str, Names(STUDENTS, prefixes=NIR_PREFIXES)]
    """Spiking network; nir:FILE for a graph of NIR with its weights, nir-soft:FILE if its neurons reset softly."""
    timesteps: Annotated[int, at_least(1, 10_000)] = 4
    """T, the number of timesteps. A recording of events becomes T frames."""
    neuron: Annotated[str, Names(NEURONS)] = "lif"
    """lif: leaky integrate-and-fire. iaf: without the leak. plif: with a learned leak."""
    decay: Annotated[float, INNER_FRACTION] = 0.5
    """Fraction of the membrane that a timestep keeps."""
    width: Annotated[float, WIDTH] = 1.0
    """Factor on the number of features of every layer."""
    teacher_logits: Annotated[Path | None, Spelling(metavar="FILE")] = None
    """Your own logits in place of a teacher: .safetensors or .npz with the key logits, [N,C], [K,N,C] or [K,N,T,C]."""
    scale: Annotated[str | None, Names(SCALE_NAMES)] = None
    """How the images of an onnx:FILE are normalised: by ImageNet's mean and deviation, as if not given; unit: to 0 … 1;
    symmetric: to -1 … 1; pixels: not at all; dataset: by the data set's own."""
    views: Annotated[int, at_least(1)]
    """K, the number of augmented views of the training split. Epoch e shows view e mod K; view 0 is not augmented."""
    view_seed: Annotated[int, SEED] = 0
    """Seed of the views. Runs that differ in --seed share the views and so the teacher's logits."""
    epochs: Annotated[int, at_least(1)]
    """Passes over the training split."""
    teacher_epochs: Annotated[int | None, at_least(1)] = None
    """Epochs of a teacher that is trained for the student; the preset's own number if not given."""
    train_examples: Annotated[int | None, at_least(1)] = None
    """Number of training examples that the student learns from, a fixed subset; all if not given."""
    accumulate: Annotated[int, at_least(1)] = 1
    """Number of microbatches per step, to save memory; BatchNorm sees the microbatches."""
    spike_rate: Annotated[str | None, Spelling(metavar="TARGET=WEIGHT")] = None
    """Penalty WEIGHT times (firing rate - TARGET)², mean over layers, such as 0.1=10; fewer spikes cost less energy."""
    remat: Annotated[str, Names(REMAT)] = "none"
    """What the backward pass recomputes to save memory: nothing, all but the spikes, or whole blocks."""


@dataclass(frozen=True, kw_only=True)
class PrecomputeOptions(DistillOptions, ProcessOptions):
    """A student whose teacher's logits are computed, and the process that does it."""


@dataclass(frozen=True, kw_only=True)
class DistillProgramOptions(PrecomputeOptions):
    """A student, and the process that trains it."""

    profile: Annotated[Path | None, Spelling(metavar="DIR")] = None
    """Write a trace of a few training steps, which TensorBoard or Perfetto opens, before training."""


@dataclass(frozen=True, kw_only=True)
class TeacherProgramOptions(TeacherOptions, ProcessOptions):
    """A teacher to train, or to import."""

    teacher: Annotated[str, Names(TEACHERS, open=True)]
    """Network of the teacher; to --evaluate one that is there, as for distill."""
    arch: Annotated[str | None, Names([*TEACHERS, *PUBLISHED])] = None
    """Network of the imported weights; the one that their names and shapes tell if not given."""
    weights: Annotated[Path | None, Spelling(flags=("--import",), metavar="FILE")] = None
    """A PyTorch state dict, in place of training a network: a file of torch.save, safetensors or .npz."""
    scale: Annotated[str | None, Names(SCALE_NAMES)] = None
    """How the images of an imported network are normalised: by ImageNet's mean and deviation, as if not given; unit: to
    0 … 1; symmetric: to -1 … 1; pixels: not at all; dataset: by the data set's own."""
    evaluate: bool = False
    """Only evaluate: the imported network, of which nothing is kept, or a teacher that is there."""


@dataclass(frozen=True, kw_only=True)
class CompareOptions(DistillOptions):
    """What is compared, and how each student is distilled."""

    methods: str = "none,uniform_kd,ela,sta,seal"
    """Methods to compare, separated by commas; `sealkd methods` lists them."""
    seeds: Annotated[int, at_least(1, 10_000)] = 5
    """Number of seeds per method: --seed and those that follow it."""
    sweep: Annotated[tuple[str, ...], Spelling(metavar="NAME=VALUE,VALUE")] = ()
    """Options and hyper-parameters to vary, such as temperature=2,3,4; every combination is run."""
    seeds_at_once: Annotated[int | None, at_least(1)] = None
    """Number of seeds that are trained side by side; if not given, 1 on a CPU and all on an accelerator."""
    method: Annotated[str, HIDDEN] = "none"
    stream: Annotated[bool, HIDDEN] = False
    seed: Annotated[int, SEED] = 0
    """The first seed."""
    hyper: Annotated[tuple[str, ...], Spelling(metavar="NAME=VALUE")] = ()
    """Hyper-parameters for every method that has them."""
    out: Annotated[Path | None, Spelling(metavar="DIR")] = None
    """Directory of the comparison; runs/PRESET-compare if not given."""
    resume: bool = False
    """Continue the comparison in --out; finished cells are not run again."""


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """A data set to download."""

    name: Annotated[str, POSITIONAL]
    """Name of the data set."""
    data_dir: Annotated[Path | None, Spelling(metavar="DIR")] = None
    """Directory of the data sets; ~/tensorflow_datasets if not given."""
    manual_dir: Annotated[Path | None, Spelling(metavar="DIR")] = None
    """For images: a directory with the official archives, under their own names, in place of a download by TFDS."""
    archive: Annotated[Path | None, Spelling(flags=("--from",), metavar="FILE")] = None
    """The official archive, or a directory with its files: read at once, without TensorFlow and without a download."""


GROUPS = {
    "the run": "methods seeds sweep epochs seed out resume seeds_at_once log tensorboard profile",
    "the method": "method hyper",
    "the student": "student timesteps neuron decay width",
    "the teacher": "teacher weights arch scale evaluate teacher_epochs teacher_width teacher_sees teacher_logits views "
    "view_seed",
    "data": "dataset data_dir train_examples stream image_size frame_by frame_size sensor_size split on_bad_recording",
    "augmentation": "augment",
    "training": "batch_size optimizer learning_rate weight_decay decay_all warmup_epochs clip_norm ema label_smoothing "
    "mixup class_weights spike_rate accumulate remat",
    "devices and processes": "devices precision parallel coordinator num_processes process_id",
}
"""The options of each group of `--help`, the most used first."""


class Preset(NamedTuple):
    """A data set with a student and a teacher that suit it."""

    distill: DistillOptions
    teacher: TeacherOptions


def make_preset(*, for_student: dict[str, Any], for_teacher: dict[str, Any] | None = None, **both: Any) -> Preset:
    """A preset from the options of the student's run, those of the teacher's training, and those of both."""
    return Preset(DistillOptions(**both, **for_student), TeacherOptions(**both, **(for_teacher or {})))
