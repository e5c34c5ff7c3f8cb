"""Wrong input to every program and to public functions: one line that names it and what was expected, nothing written.

The losses have more of it in losses/test_inputs.py, files of recordings and of pictures beside the tests of those.
"""

import math
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sealkd_jax
from sealkd_jax import METHODS, diagnostics, iaf, lif, surrogates
from sealkd_jax.data import Framing, load
from sealkd_jax.losses import hyperparameters, needs_teacher
from sealkd_jax.models import create_student, create_teacher
from sealkd_jax.parallel.sharding import Parallel, check_batch, pick_devices
from sealkd_jax.programs.commands import compare, distill, evaluate, export, precompute, prepare, teacher
from sealkd_jax.training import create_optimizer
from sealkd_jax.training.teacher_logits import TeacherLogits
from tests.helpers.programs import contents, refusal
from train.benchmark import __main__ as benchmark

PROGRAMS = [
    (distill, ["--epoch", "3"], "--epoch: unknown option; did you mean --epochs?"),
    (distill, ["--lr", "0.1"], "--lr: unknown option; did you mean --learning-rate?"),
    (distill, ["--zzzzzz=1"], "--zzzzzz: unknown option; --help lists all"),
    (distill, ["--temperature", "3"], "--temperature: unknown option; did you mean --hyper temperature=3?"),
    (distill, ["--epochs", "3", "cifar10"], "cifar10: expected before the options"),
    (distill, ["digits", "digits"], "digits: expected before the options"),
    (distill, ["--epochs", "three"], "--epochs three: expected a whole number"),
    (distill, ["--learning-rate", "big"], "--learning-rate big: expected a number"),
    (distill, ["--neuron", "izhikevich"], "--neuron izhikevich: unknown; expected one of lif, iaf, plif"),
    (distill, ["--optimizer", "adam"], "--optimizer adam: unknown; expected one of sgd, adamw; did you mean adamw?"),
    (distill, ["--log", "loud"], "--log loud: unknown; expected one of auto, quiet, json"),
    (distill, ["--out"], "--out: expected one argument"),
    (compare, ["--method", "seal"], "--method: unknown option; did you mean --methods?"),
    (teacher, ["--views", "3"], "--views: unknown option"),
    (evaluate, [], "the following arguments are required: RUN"),
    (export, ["run"], "run: no finished run there (no summary.json)"),
    (distill, ["mnist"], "preset 'mnist': unknown; expected one of digits"),
    (distill, ["--method", "seel"], "--method seel: unknown; expected one of none, mean_ce"),
    (distill, ["--hyper", "gamma=1"], "--hyper gamma=1: expected NAME=VALUE; seal has alpha=0.6"),
    (distill, ["--hyper", "alpha"], "--hyper alpha: expected NAME=VALUE"),
    (distill, ["--hyper", "temprature=3"], "did you mean temperature?"),
    (
        distill,
        ["--method", "tks", "--hyper", "detach_target=yes"],
        "--hyper detach_target=yes: expected one of True, False, as in detach_target=False",
    ),
    (distill, ["--method", "saal"], "did you mean seal?"),
    (distill, ["--dataset", "cifr10"], "did you mean cifar10?"),
    (distill, ["--teacher", "resnt34"], "did you mean resnet34?"),
    (distill, ["cifr10"], "did you mean cifar10?"),
    (distill, ["--hyper", "alpha=much"], "--hyper alpha=much: expected a number, as in alpha=0.6"),
    (distill, ["--hyper", "top_k=1.5"], "--hyper top_k=1.5: expected a whole number, as in top_k=1"),
    (distill, ["--hyper", "temperature=-1"], "temperature"),
    (distill, ["--hyper", "task=final"], "task"),
    (distill, ["--hyper", "alpha=nan"], "expected a finite number, got nan"),
    (distill, ["--hyper", "temperature=inf"], "temperature: expected a finite number, got inf"),
    (distill, ["--epochs", "0"], "--epochs 0: expected at least 1"),
    (distill, ["--batch-size", "-1"], "--batch-size -1: expected at least 0"),
    (
        distill,
        ["--batch-size", "1258", "--devices", "1"],
        "--batch-size 1258: expected 1 to 1257, the training examples",
    ),
    (distill, ["--batch-size", "63", "--devices", "2"], "2 devices do not divide it; the nearest that fits is 64"),
    (distill, ["--devices", "99"], "devices 99: expected 1 to 8"),
    (distill, ["--coordinator", "here:1"], "--num-processes None, --process-id None: expected all three"),
    (distill, ["--num-processes", "0"], "--num-processes 0: expected at least 1"),
    (
        distill,
        ["--coordinator", "here", "--num-processes", "2", "--process-id", "0"],
        "--coordinator here: expected HOST:PORT of process 0",
    ),
    (
        teacher,
        ["--coordinator", "here:1", "--num-processes", "2", "--process-id", "2"],
        "--process-id 2: expected 0 to 1, one of --num-processes 2",
    ),
    (distill, ["--learning-rate", "0"], "--learning-rate 0.0: expected a positive number"),
    (distill, ["--learning-rate", "nan"], "--learning-rate nan: expected a positive number"),
    (distill, ["--weight-decay", "-1"], "--weight-decay -1.0: expected 0 or a positive number"),
    (distill, ["--warmup-epochs", "-1"], "--warmup-epochs -1: expected at least 0"),
    (distill, ["--timesteps", "0"], "--timesteps 0: expected at least 1"),
    (distill, ["--views", "0"], "--views 0: expected at least 1"),
    (distill, ["--augment", "crop(-1)"], "--augment crop(-1): expected a whole number of pixels"),
    (distill, ["--augment", "cutout(9)"], "--augment cutout(9): larger than the images, of 8 pixels"),
    (distill, ["--augment", "cropp(1)"], "; did you mean crop?"),
    (distill, ["--seed", "-1"], "--seed -1: expected 0 to"),
    (distill, ["--decay", "1"], "--decay 1.0: expected a number between 0 and 1"),
    (distill, ["--student", "resnet"], "--student resnet: unknown; expected one of spiking-conv, spiking-conv4"),
    (distill, ["--dataset", "mnist"], "dataset mnist: unknown; expected one of digits"),
    (distill, ["--teacher", "resnet"], "--teacher resnet: expected one of convnet, "),
    (distill, ["--teacher", "."], "no teacher there"),
    (distill, ["--train-examples", "0"], "--train-examples 0: expected at least 1"),
    (distill, ["--train-examples", "5000"], "--train-examples: 5000 of the 1257 training examples of digits"),
    (distill, ["--train-examples", "20"], "--batch-size 64: expected 1 to 20, the training examples"),
    (distill, ["--teacher-logits", "none.npz"], "none.npz: no such file"),
    (
        distill,
        ["--teacher-logits", "short.npz"],
        "short.npz: logits: expected [1257, 10], [K, 1257, 10] or [K, 1257, 4, 10]",
    ),
    (distill, ["--teacher-logits", "nan.npz"], "nan.npz: logits: view 0, example 7 is NaN or infinite"),
    (distill, ["--out", "file"], "--out file: cannot be used as a directory"),
    (distill, ["--out", "sweep[1]"], 'sweep[1]: checkpoints cannot be kept there: "[ ]" in the path'),
    (distill, ["--timesteps", "1000000000"], "--timesteps 1000000000: expected at least 1, at most 10000"),
    (distill, ["--width", "1e9"], "--width 1000000000.0: expected a positive number, at most 1000"),
    (distill, ["--out", "file/run"], "--out file/run: cannot be made"),
    (distill, ["--out", "other", "--resume"], "--out other: not empty, and no run to resume"),
    (distill, ["--accumulate", "0"], "--accumulate 0: expected at least 1"),
    (distill, ["--accumulate", "5", "--devices", "1"], "batch-size 64: accumulate 5 on 1 devices does not divide it"),
    (distill, ["--accumulate", "2", "--method", "card"], "--accumulate 2: expected 1 for card"),
    (distill, ["--accumulate", "2", "--method", "dist"], "--accumulate 2: expected 1 for dist"),
    (distill, ["--hyper", "last_weight=x", "--method", "esd"], "hyper last_weight=x: expected a number"),
    (distill, ["--mixup", "0.2"], "--mixup 0.2: the stored teacher logits are of single images"),
    (distill, ["--mixup", "-1"], "--mixup -1.0: expected 0 or a positive number"),
    (distill, ["--label-smoothing", "1"], "--label-smoothing 1.0: expected 0 to below 1"),
    (distill, ["--class-weights", "rare"], "--class-weights rare: unknown; expected one of none, balanced"),
    (distill, ["--clip-norm", "0"], "--clip-norm 0.0: expected a positive number"),
    (distill, ["--ema", "1"], "--ema 1.0: expected a number between 0 and 1"),
    (distill, ["--spike-rate", "2=1"], "--spike-rate 2=1: expected TARGET=WEIGHT, such as 0.1=10"),
    (distill, ["--width", "0"], "--width 0.0: expected a positive number"),
    (distill, ["--teacher-width", "-1"], "--teacher-width -1.0: expected a positive number"),
    (distill, ["--view-seed", "-1"], "--view-seed -1: expected 0 to"),
    (distill, ["--augment", "roll(2)"], "--augment roll(2): for events; the data are images"),
    (distill, ["--augment", "autoaugment(cifar10)"], "--augment autoaugment(cifar10): expected RGB images"),
    (distill, ["--stream", "--dataset", "npz:none.npz"], "none.npz: no such file"),
    (distill, ["--dataset", "folder:nowhere"], "nowhere"),
    (distill, ["cifar10", "--data-dir", "nowhere"], "nowhere: no cifar10 there; get it: "),
    (distill, ["cifar10", "--data-dir", "file"], "file"),
    (distill, ["--teacher-logits", "logits.pt"], "logits.pt: expected a .safetensors or .npz file"),
    (distill, ["--out", "run", "--resume"], "run/config.json: damaged"),
    (distill, ["--out", "run"], "--out run: not empty; add --resume to continue it, or choose another --out"),
    (compare, ["--methods", "seel"], "--methods seel: unknown; expected some of none,mean_ce"),
    (compare, ["--methods", "none,"], "--methods : unknown"),
    (compare, ["--seeds", "0"], "--seeds 0: expected at least 1"),
    (
        compare,
        ["--seeds", "2", "--seed", str(2**32 - 1)],
        "--seeds 2: from --seed 4294967295 on, the last would be above",
    ),
    (compare, ["--seeds-at-once", "0"], "--seeds-at-once 0: expected at least 1"),
    (compare, ["--sweep", "zeta=1"], "--sweep zeta=1: expected NAME=VALUE,VALUE"),
    (compare, ["--sweep", "temperature"], "--sweep temperature: expected NAME=VALUE,VALUE"),
    (compare, ["--sweep", "temperature=2,"], "--sweep temperature=2,: expected NAME=VALUE,VALUE"),
    (compare, ["--sweep", "alpha=1", "alpha=2"], "--sweep alpha=2: expected NAME=VALUE,VALUE, each NAME once"),
    (compare, ["--sweep", "dataset=digits"], "--sweep dataset=digits: expected NAME=VALUE,VALUE"),
    (compare, ["--sweep", "timesteps=2,x"], "--timesteps x: expected a whole number"),
    (compare, ["--sweep", "timesteps=0"], "--timesteps 0: expected at least 1"),
    (compare, ["--sweep", "neuron=izhikevich"], "--neuron izhikevich: unknown; expected one of lif, iaf, plif"),
    (compare, ["--sweep", "student=resnet"], "--student resnet: unknown"),
    (compare, ["--sweep", "temperature=-1"], "temperature"),
    (compare, ["--sweep", "temperature=hot"], "--hyper temperature=hot: expected a number"),
    (compare, ["--hyper", "zeta=1"], "--hyper zeta=1: expected NAME=VALUE; these methods have alpha"),
    (compare, ["--batch-size", "1258"], "--batch-size 1258: expected 1 to 1257"),
    (compare, ["--teacher-logits", "none.npz"], "none.npz: no such file"),
    (compare, ["--accumulate", "5"], "batch-size 64: accumulate 5 on 1 devices does not divide it"),
    (compare, ["--accumulate", "16", "--devices", "8"], "batch-size 64: accumulate 16 on 8 devices does not divide it"),
    (compare, ["--out", "other"], "--out other: not empty; add --resume"),
    (teacher, ["--epochs", "0"], "--epochs 0: expected at least 1"),
    (teacher, ["--teacher", "resnet"], "--teacher resnet: unknown; expected one of convnet"),
    (teacher, ["--batch-size", "2000"], "--batch-size 2000: expected 1 to 1257, the training examples"),
    (distill, ["--teacher", "resnet99"], "--teacher resnet99: expected one of convnet"),
    (distill, ["--teacher", "mine.py"], "write mine.py:FUNCTION"),
    (distill, ["--teacher", "net.onnx"], "write onnx:net.onnx"),
    (distill, ["--teacher", "none.py:logits"], "none.py: cannot be read: No such file"),
    (distill, ["--scale", "unit"], "--scale unit: for --teacher onnx:FILE; others have a scale of their own"),
    (distill, ["--scale", "byte"], "--scale byte: unknown; expected one of imagenet, unit"),
    (compare, ["--teacher", "none.py:logits", "--methods", "seal"], "none.py: cannot be read: No such file"),
    (precompute, ["--teacher", "none.py:logits"], "none.py: cannot be read: No such file"),
    (teacher, ["--teacher", "none.py:logits"], "--teacher none.py:logits: unknown; expected one of convnet"),
    (teacher, ["--evaluate", "--teacher", "none.py:logits"], "none.py: cannot be read: No such file"),
    (teacher, ["--evaluate"], "--evaluate: expected --import FILE beside it"),
    (teacher, ["--scale", "imagenet"], "--scale imagenet: expected --import FILE beside it"),
    (teacher, ["--import", "none.safetensors"], "none.safetensors: no such file"),
    (teacher, ["--import", "none.pth"], "none.pth: no such file"),
    (teacher, ["--import", "file"], "file"),
    (precompute, ["--views", "0"], "--views 0: expected at least 1"),
    (
        precompute,
        ["--teacher", "other"],
        "other: no teacher there (no teacher.json) and no fini",
    ),
    (precompute, ["--teacher-logits", "short.npz"], "--teacher-logits short.npz: these are logits already"),
    (precompute, ["--teacher", "run"], "run/teacher.json: damaged"),
    (evaluate, ["nowhere"], "nowhere: no run there (no summary.json)"),
    (evaluate, ["run"], "run: not finished; continue it with sealkd distill --resume --out run"),
    (prepare, ["digits"], "digits: nothing to prepare; expected one of cifar10"),
    (prepare, ["nmnist", "--manual-dir", "other"], "--manual-dir other: for images; put the archives of nmnist into"),
    (benchmark, [], "no subject: expected one of loss, lif, step, memory, data"),
    (benchmark, ["speed"], "speed: expected one of loss, lif"),
    (benchmark, ["los"], "did you mean loss?"),
    (benchmark, ["loss", "--repeats", "0"], "--repeats 0: expected at least 1"),
    (benchmark, ["loss", "--calls", "0"], "--calls 0: expected at least 1"),
    (benchmark, ["lif", "--shape", "4", "0"], "--shape 4 0: expected at least 1 each, time first"),
    (benchmark, ["lif", "--shape", "4"], "--shape 4: expected at least 1 each, time first"),
    (benchmark, ["step", "--width", "0"], "--width 0.0: expected a positive number"),
    (benchmark, ["memory", "--timesteps", "0"], "--timesteps 0: expected at least 1"),
    (benchmark, ["memory", "--size", "4"], "--size 4: expected at least 8"),
    (benchmark, ["data", "--repeats", "0"], "--repeats 0: expected at least 1"),
]
WITH_OUT = (distill, compare, benchmark)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A current directory with files that are not what the programs look for."""
    with pytest.MonkeyPatch.context() as patch:
        directory = tmp_path_factory.mktemp("bad-input")
        patch.chdir(directory)
        (directory / "file").write_text("mine")
        (directory / "other").mkdir()
        (directory / "other" / "mine").write_text("mine")
        (directory / "run").mkdir()
        (directory / "run" / ".lock").touch()
        (directory / "run" / "config.json").write_text('{"options": {}}')
        (directory / "run" / "teacher.json").write_text('{"options": {}}')
        logits = np.zeros((1257, 10), np.float32)
        np.savez(directory / "short.npz", logits=logits[:5])
        logits[7, 3] = np.nan
        np.savez(directory / "nan.npz", logits=logits)
        yield directory


def name_of(row):
    main, arguments, _ = row
    return " ".join([main.__name__.removeprefix("train."), *arguments])


@pytest.mark.parametrize(("main", "arguments", "words"), PROGRAMS, ids=map(name_of, PROGRAMS))
def test_a_program_names_wrong_input_and_writes_nothing(place, capsys, main, arguments, words):
    before = contents(place), sorted(place.rglob("*"))
    if main in WITH_OUT and "--out" not in arguments:
        arguments = [*arguments, "--out", "new"] if arguments != [] else []
    if main is compare and "--devices" not in arguments:
        arguments = [*arguments, "--devices", "1"]
    assert words in refusal(arguments, capsys, main=main.main)
    assert (contents(place), sorted(place.rglob("*"))) == before


S, LOGITS, LABELS = np.zeros((2, 3, 4), "f"), np.zeros((3, 4), "f"), np.zeros(3, "i")
X = jnp.zeros((2, 3))
FUNCTIONS = [
    (lambda: sealkd_jax.ela_loss(LOGITS, LOGITS, LABELS), "student_logits: expected shape [T, B, C]"),
    (lambda: sealkd_jax.ela_loss(S, LOGITS[:2], LABELS), "teacher_logits: expected shape [B, C] = [3, 4] or [T, B, C]"),
    (lambda: sealkd_jax.ela_loss(S, LOGITS, LABELS[:2]), "labels: expected class indices of shape [B] = [3]"),
    (lambda: sealkd_jax.ela_loss(S, LOGITS, LABELS + 4), "labels: expected class indices in [0, C) = [0, 4), got 4"),
    (lambda: sealkd_jax.ela_loss(S, LOGITS, LOGITS[:, 0]), "labels: expected an integer dtype, got float32"),
    (lambda: sealkd_jax.ela_loss(S, LOGITS, LABELS, top_k=0), "top_k: expected at least 1, got 0"),
    (lambda: sealkd_jax.seal_kd_loss(S, None, LABELS), "teacher_logits: expected logits of shape"),
    (lambda: sealkd_jax.seal_kd_loss(S.astype(int), LOGITS, LABELS), "student_logits: expected a floating dtype"),
    (
        lambda: sealkd_jax.seal_kd_loss(S, LOGITS, LABELS, temperature=0),
        "temperature: expected a number above 0, got 0",
    ),
    (lambda: sealkd_jax.seal_kd_loss(S, LOGITS, LABELS, task="last"), "task: expected one of 'timestep', 'mean'"),
    (lambda: sealkd_jax.seal_kd_loss(S, LOGITS, LABELS, alpha=np.ones(2)), "alpha: expected a scalar, got shape [2]"),
    (lambda: sealkd_jax.sta_loss(S[..., :1]), "student_logits: expected shape [T, B, C] with T >= 1"),
    (lambda: sealkd_jax.sta_weights(S, score_temperature=-1), "score_temperature: expected a number above 0, got -1"),
    (
        lambda: sealkd_jax.card_seal_kd_loss(S, LOGITS, LABELS[None]),
        "labels: expected class indices of shape [B] = [3]",
    ),
    (lambda: sealkd_jax.uniform_kd_loss(S, S[:1]), "teacher_logits: expected shape [B, C] = [3, 4]"),
    (lambda: METHODS["dkd"](S, LOGITS, LABELS, progress=2), "progress: expected a number in [0, 1], got 2"),
    (lambda: METHODS["seal"](S, LOGITS, LABELS, temprature=3), "temprature"),
    (lambda: needs_teacher("sael"), "method: expected one of 'none'"),
    (lambda: hyperparameters("sael"), "method: expected one of 'none'"),
    (lambda: lif(jnp.zeros((0, 3))), "currents: expected shape"),
    (lambda: lif(X, decay=1.5), "decay: expected a number in [0, 1], got 1.5"),
    (lambda: lif(X, threshold=0.0), "threshold: expected a finite number above 0 and v_reset"),
    (lambda: lif(X, jnp.zeros(1)), "v: expected the shape of one timestep of currents, (3,), got (1,)"),
    (lambda: iaf(X.astype(int)), "currents: expected a floating dtype, got int32"),
    (lambda: surrogates.sigmoid(0), "expected a positive finite number, got 0"),
    (lambda: surrogates.arctan(float("nan")), "expected a positive finite number, got nan"),
    (lambda: load("mnist"), "dataset mnist: unknown; expected one of digits"),
    (lambda: load("nmnist"), "framing None: nmnist needs one"),
    (lambda: Framing(4, "size"), "framing by: expected time or count, got 'size'"),
    (lambda: load("digits").with_fewer(5), "5 of the 1257 training examples of digits"),
    (lambda: create_student("resnet", 10), "student 'resnet': unknown; expected one of spiking-conv"),
    (lambda: create_student("spiking-mlp", 10, neuron="hh"), "neuron 'hh': unknown; expected one of lif"),
    (lambda: create_student("spiking-mlp", 10, precision="float8"), "precision 'float8': unknown; expected one of"),
    (
        lambda: create_student("spiking-mlp", 10, remat="all"),
        "remat 'all': unknown; expected one of none, spikes, full",
    ),
    (lambda: create_student("spiking-mlp", 10, width=-1), "width -1: expected a number above 0"),
    (lambda: create_teacher("resnet20", 10, width=math.nan), "width nan: expected a number above 0"),
    (lambda: create_teacher("resnet20", 10, frame_mode="all"), "frame_mode 'all': unknown; expected one of mean, each"),
    (lambda: create_student("spiking-mlp", 10, decay="0.5"), "decay '0.5': expected a number between 0 and 1"),
    (lambda: create_student("spiking-mlp", "10"), "classes '10': expected a whole number of at least 1"),
    (lambda: create_student("spiking-mlp", 10, threshold=0), "threshold 0: expected a number above 0 and v_reset"),
    (lambda: create_student("spiking-mlp", 10, v_reset=1.5), "threshold 1.0: expected a number above 0 and v_reset"),
    (lambda: create_student("spiking-mlp", 10, v_reset=math.nan), "v_reset nan: expected a number such as 0, or None"),
    (
        lambda: create_student("spiking-mlp", 10, neuron="plif", decay=1.0),
        "decay 1.0: expected a number between 0 and 1",
    ),
    (lambda: create_teacher("vit", 10), "teacher 'vit': unknown; expected one of convnet"),
    (lambda: create_optimizer("adam", lambda _: 0.1, weight_decay=0), "optimizer 'adam': unknown; expected one of sgd"),
    (lambda: Parallel("vmap", jax.devices()), "parallel 'vmap': unknown; expected one of jit, pmap"),
    (lambda: pick_devices(99, 99), "devices 99: expected 1 to 8"),
    (lambda: check_batch(10, 4), "batch_size 10: 4 devices do not divide it; the nearest that fits is 8"),
    (
        partial(TeacherLogits, Path("x.pt"), examples=3, classes=4, timesteps=2, views=1),
        "x.pt: expected a .safetensors",
    ),
    (lambda: diagnostics.accuracy_by_timestep(LOGITS, LABELS), "logits: expected shape [T, B, C]"),
    (
        lambda: diagnostics.accuracy_of_timestep(S, LABELS[:2]),
        "labels: expected class indices of shape [B] = [3], got [2]",
    ),
]


@pytest.mark.parametrize(("call", "words"), FUNCTIONS, ids=[words for _, words in FUNCTIONS])
def test_a_function_names_the_wrong_argument(place, call, words):
    before = contents(place)
    with pytest.raises((ValueError, TypeError)) as raised:
        call()
    assert words in str(raised.value) and "\n" not in str(raised.value)
    assert contents(place) == before
