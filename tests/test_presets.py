"""The presets: each is well formed, and the pipelines of images and of events run from raw data to the report."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from sealkd_jax.data import Dataset, Split, augment, load
from sealkd_jax.models import STUDENTS, TEACHERS, create_teacher
from sealkd_jax.parallel.sharding import Parallel
from sealkd_jax.programs import cli
from sealkd_jax.programs.command_line import check
from sealkd_jax.programs.commands import distill, teacher
from sealkd_jax.programs.data import completed, pick_augmentation
from sealkd_jax.programs.presets import PRESETS
from sealkd_jax.programs.runs import check_out
from sealkd_jax.programs.teachers import load_teacher
from sealkd_jax.training import params_digest
from sealkd_jax.training.teacher_logits import TeacherLogits
from sealkd_jax.weights.torch_names import export_torch
from tests.helpers.devices import first_devices
from tests.helpers.programs import refusal
from train.benchmark.__main__ import main as benchmark

SHAPES = {
    "digits": (8, 8, 1),
    "fashion-mnist": (28, 28, 1),
    "imagenet": (224, 224, 3),
    "folder": (64, 64, 3),
    "tiny-imagenet": (64, 64, 3),
    "imagenet100": (224, 224, 3),
    "n-caltech101": (10, 48, 64, 2),
    "shd": (20, 1, 140, 2),
    "events": (8, 48, 64, 2),
    "nmnist": (5, 34, 34, 2),
    "dvs-gesture": (16, 64, 64, 2),
}


def blank(shape, name="blank", dtype=np.uint8) -> Dataset:
    split = Split(np.arange(np.prod((4, *shape))).reshape(4, *shape).astype(dtype), np.arange(4, dtype=np.int32) % 2)
    return Dataset(name, split, split, split, ("a", "b"))


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_names_what_there_is_and_its_augmentation_fits_its_data(name):
    preset = PRESETS[name]
    check(preset.distill)
    check(preset.teacher)
    assert preset.distill.student in STUDENTS and preset.distill.teacher in TEACHERS
    own = {"folder": "folder:pictures", "events": "events:recordings"}
    named = name.removesuffix("-fast").removesuffix("-cpu")
    assert preset.distill.dataset == preset.teacher.dataset == own.get(name, named)
    usual = (10, 48, 48, 2) if name == "cifar10-dvs" else (32, 32, 3)
    dataset = blank(SHAPES.get(name, usual))
    for options in (preset.distill, preset.teacher):
        augmentation = pick_augmentation(options, dataset)
        views = jax.eval_shape(
            lambda x, augmentation=augmentation: augment(augmentation, x, seed=0, view=1, index=jnp.arange(4)),
            dataset.train.images,
        )
        assert (views.shape, views.dtype) == (dataset.train.images.shape, np.uint8)


@pytest.mark.parametrize(("examples", "expected"), [(9, 8), (105, 8), (256, 16), (1000, 32), (5000, 128)])
def test_a_batch_size_of_0_follows_from_the_number_of_examples(examples, expected):
    split = Split(np.zeros((examples, 2, 2, 3), np.uint8), np.arange(examples, dtype=np.int32) % 2)
    dataset, preset = Dataset("own", split, split, split, ("a", "b")), PRESETS["folder"]
    assert completed(preset.distill, dataset).batch_size == expected
    assert completed(replace(preset.teacher, batch_size=5), dataset).batch_size == 5


@pytest.mark.slow
def test_pictures_in_folders_give_a_student_with_one_line(tmp_path, monkeypatch):
    """Mixed in size, kind and number, in folders by class and nothing else."""
    monkeypatch.chdir(tmp_path)
    rng, sizes = np.random.default_rng(0), ((90, 60), (60, 90), (200, 200))
    for number in range(60):
        kind, size = number % 3, sizes[number % 7 % 3]
        levels = rng.integers(0, 60, (*size[::-1], 3)) + 180 * np.eye(3, dtype=int)[kind]
        path = Path("pictures", "abc"[kind], f"{number}.{('png', 'jpg', 'webp')[number % 5 % 3]}")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(levels.astype(np.uint8)).save(path)
    quick = [
        "--epochs",
        "3",
        "--teacher-epochs",
        "3",
        "--image-size",
        "32",
        "--width",
        "0.25",
        "--teacher-width",
        "0.1",
    ]
    distill.main(["folder", "--dataset", "folder:pictures", "--devices", "1", *quick])
    summary = json.loads(Path("runs/folder-seal-s0/summary.json").read_text())
    assert summary["n_test"] == 12 and summary["test_accuracy"] == 1 and summary["classes"] == ["a", "b", "c"]
    config = json.loads(Path("runs/folder-seal-s0/config.json").read_text())["options"]
    assert config["batch_size"] == 8
    (teacher_file,) = Path("runs/teachers").glob("*/teacher.json")
    assert json.loads(teacher_file.read_text())["options"]["epochs"] == 3


@pytest.fixture
def own_images(tmp_path, monkeypatch):
    """The digits as colour images of 16x16, in a user's file."""
    monkeypatch.chdir(tmp_path)
    digits = load_digits()
    images = np.kron(digits.images[:300] * 15, np.ones((1, 2, 2))).astype(np.uint8)
    images = np.stack([images, 255 - images, images // 2], -1)
    np.savez(
        "own.npz", x_train=images[:200], y_train=digits.target[:200], x_test=images[200:], y_test=digits.target[200:300]
    )
    return tmp_path


def student_of_a_quick_teacher(arguments: list[str], teacher_arguments: list[str] = ()) -> dict:
    """Runs train.teacher for one epoch and train.distill with that teacher; returns the summary."""
    quick = ["--epochs", "1", "--devices", "1"]
    teacher.main([*arguments, *quick, "--teacher", "convnet", "--teacher-width", "0.25", *teacher_arguments])
    (made,) = Path("runs/teachers").iterdir()
    student = ["--student", "spiking-mlp", "--width", "0.25", "--views", "2", "--out", "run"]
    distill.main([*arguments, *quick, *student, "--teacher", str(made)])
    assert Path("run/report.html").exists()
    return json.loads(Path("run/summary.json").read_text())


@pytest.mark.slow
def test_the_cifar_preset_runs_on_ones_own_images(own_images):
    summary = student_of_a_quick_teacher(
        ["cifar10", "--dataset", "npz:own.npz", "--timesteps", "2", "--batch-size", "20"]
    )
    assert summary["dataset"] == "own" and summary["n_test"] == 100 and summary["timesteps"] == 2
    config = json.loads(Path("run/config.json").read_text())["options"]
    assert config["augment"] == "crop(4) | flip | autoaugment(cifar10) | cutout(16)"


@pytest.mark.slow
@pytest.mark.parametrize("sees", ["mean", "each"])
def test_nmnist_runs_from_recordings_to_the_report(sees, tmp_path, monkeypatch, real_data):
    monkeypatch.chdir(tmp_path)
    arguments = ["nmnist", "--data-dir", f"{real_data}/nmnist", "--frame-size", "17", "--timesteps", "3"]
    summary = student_of_a_quick_teacher(arguments, ["--teacher-sees", sees])
    assert summary["n_test"] == 100 and len(summary["accuracy_by_timestep"]) == 3
    with np.load("run/hardest.npz") as hardest:  # pictures of whole recordings
        assert hardest["images"].shape[1:] == (17, 17, 2) and (hardest["images"].max((1, 2, 3)) == 255).all()
    assert len(list(Path("runs/frames").glob("nmnist-*"))) == 1  # made by the teacher, read by the student
    (path,) = Path("runs/teachers").glob("nmnist-*/logits-*.safetensors")
    logits = TeacherLogits(path, examples=810, classes=10, timesteps=3, views=2)
    assert logits.view(1).shape == ((810, 10) if sees == "mean" else (810, 3, 10))


@pytest.mark.slow
def test_dvs_gesture_runs_on_six_clips(tmp_path, monkeypatch, real_data):
    monkeypatch.chdir(tmp_path)
    with np.load(real_data / "dvs_gesture_6.npz") as clips:
        events = np.stack([clips[name] for name in "xypt"], 1)
        ends, labels = clips["offsets"], clips["label"]
    events[:, 3] //= 1000  # the official files count in milliseconds
    parts = ["ibmGestureTrain/user01_led", "ibmGestureTrain/user02_led", "ibmGestureTest/user24_led"]
    for k, label in enumerate(labels):
        folder = Path("data/DVSGesture") / parts[k // 2]
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{label}.npy", events[ends[k] : ends[k + 1]].astype(np.float64))
    arguments = ["dvs-gesture", "--data-dir", "data", "--frame-size", "16", "--timesteps", "2", "--batch-size", "2"]
    summary = student_of_a_quick_teacher(arguments)
    assert summary["n_test"] == 2 and len(summary["classes"]) == 11


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cifar10", "--data-dir", "nowhere"], "no cifar10 there; get it"),
        (["nmnist", "--data-dir", "nowhere", "--devices", "1"], "sealkd prepare nmnist --data-dir nowhere"),
        (["cifar10", "--dataset", "npz:nowhere.npz"], "nowhere.npz: no such file"),
        (["digits", "--augment", "roll(1)"], "--augment roll(1): for events; the data are images"),
        (["digits", "--augment", "cutout(-1)"], "--augment cutout(-1): expected a whole number of pixels"),
        (["nmnist", "--frame-size", "0"], "--frame-size 0: expected at least 1"),
    ],
)
def test_missing_data_and_wrong_options_are_one_line(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        cli.run(lambda: distill.main(arguments))
    error = capsys.readouterr().err.strip()
    assert exit_.value.code == 2 and words in error and "\n" not in error
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.slow
def test_the_benchmark_of_the_data_measures_each_part(own_images, capsys):
    arguments = ["data", "cifar10", "--dataset", "npz:own.npz", "--student", "spiking-mlp"]
    benchmark([*arguments, "--timesteps", "1", "--batch-size", "20", "--repeats", "2", "--out", "data.json"])
    measured = json.loads(Path("data.json").read_text())
    assert {"first start", "later start", "streaming", "augmentation", "training step"} == measured["timings"].keys()
    assert 0 < measured["share_of_step"] < 1
    assert (
        measured["timings"]["augmentation"]["handled"] == 20 and len(measured["timings"]["training step"]["wall"]) == 2
    )
    assert "of a core" in capsys.readouterr().out


@pytest.mark.slow
def test_a_student_can_be_the_teacher(own_images, capsys):
    """It then has logits at each of its timesteps, and its test accuracy is that of its own run."""
    arguments = ["cifar10", "--dataset", "npz:own.npz", "--timesteps", "2", "--batch-size", "20", "--devices", "1"]
    arguments += ["--epochs", "1", "--student", "spiking-mlp", "--width", "0.1", "--views", "2"]
    arguments += ["--augment", "crop(4) | flip | cutout(16)"]
    distill.main([*arguments, "--method", "none", "--out", "first"])
    distill.main([*arguments, "--teacher", "first", "--out", "second"])
    first, second = (json.loads(Path(run, "summary.json").read_text()) for run in ("first", "second"))
    assert second["teacher_accuracy"] == pytest.approx(first["test_accuracy"])
    (path,) = Path("first").glob("logits-*.safetensors")
    assert TeacherLogits(path, examples=180, classes=10, timesteps=2, views=2).view(1).shape == (180, 2, 10)
    said = refusal([*arguments, "--timesteps", "3", "--teacher", "first", "--out", "third"], capsys)
    assert said.startswith("error: --timesteps 3: the teacher first has 2 timesteps")
    assert list(Path("first").glob("logits-*.safetensors")) == [path]
    check_out(Path("third"), resume=False)  # is free


@pytest.mark.slow
def test_an_imported_teacher_sees_images_normalised_as_it_was_trained(own_images, capsys):
    """The same weights, exported and imported: the accuracy is that of the network on images so normalised."""
    dataset = load("npz:own.npz")
    network = create_teacher("convnet", 10, width=0.1)
    variables = network.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    export_torch(Path("weights.safetensors"), network, variables)
    arguments = ["cifar10", "--dataset", "npz:own.npz", "--import", "weights.safetensors", "--arch", "convnet"]
    arguments += ["--teacher-width", "0.1", "--devices", "1"]
    pixels = dataset.test.images / 255
    scales = {
        "imagenet": (np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])),
        "dataset": (dataset.mean, dataset.std),
    }
    accuracy = {}
    for scale, (mean, std) in scales.items():
        logits = network.predict(variables, jnp.asarray((pixels - mean) / std, jnp.float32), timesteps=1)[0]
        accuracy[scale] = (np.asarray(logits).argmax(-1) == dataset.test.labels).mean()
        teacher.main([*arguments, "--scale", scale, "--evaluate"])
        assert f"test accuracy {accuracy[scale]:.2%} (n = 100)" in capsys.readouterr().out
        assert not Path("runs/teachers").exists()
    teacher.main(arguments)
    (directory,) = Path("runs/teachers").iterdir()
    again = load_teacher(directory, dataset, Parallel("jit", first_devices(1)))
    assert again.test_accuracy == pytest.approx(accuracy["imagenet"])
    made = json.loads((directory / "teacher.json").read_text())
    assert (made["scale"], made["params_digest"]) == ("imagenet", params_digest(variables))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--evaluate"], "--evaluate: expected --import FILE"),
        (["--import", "nowhere.pth", "--arch", "resnet20"], "nowhere.pth"),
        (["--import", "own.npz", "--arch", "resnet20"], "own.npz: the file belongs to another network"),
        (["--import", "own.npz", "--arch", "resnet21"], "resnet21"),
    ],
)
def test_what_cannot_be_imported_is_one_line(arguments, words, own_images, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.run(lambda: teacher.main(["cifar10", "--dataset", "npz:own.npz", "--devices", "1", *arguments]))
    error = capsys.readouterr().err.strip()
    assert exit_.value.code == 2 and words in error and "\n" not in error
    assert not Path("runs").exists()
