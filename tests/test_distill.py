"""The programs as a user runs them: whole runs on the digits, their files, and how they resume, stop and refuse."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from sealkd_jax import programs
from sealkd_jax.data import load
from sealkd_jax.errors import InputError
from sealkd_jax.files import locked, write_json
from sealkd_jax.programs import cli, presets
from sealkd_jax.programs.command_line import parse
from sealkd_jax.programs.commands import distill, evaluate, precompute, teacher
from sealkd_jax.programs.logits import own_logits
from sealkd_jax.programs.options import DistillOptions
from sealkd_jax.programs.results import results_table
from sealkd_jax.programs.runs import check_out
from sealkd_jax.programs.teachers import named_teacher
from sealkd_jax.training import feed, params_digest
from tests.helpers.programs import contents, read, refusal

ROOT = Path(__file__).parents[1]
SMALL = ["--epochs", "2", "--student", "spiking-mlp", "--views", "2", "--devices", "1", "--timesteps", "3"]
NEW = ["--out", "new"]
KEYWORDS = {"epochs": 2, "student": "spiking-mlp", "views": 2, "devices": 1, "timesteps": 3}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A current directory in which the teacher of the preset digits is trained for two epochs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("distill"))
        preset = presets.PRESETS["digits"]
        hurried = replace(preset.teacher, epochs=2, warmup_epochs=0)
        patch.setitem(presets.PRESETS, "digits", preset._replace(teacher=hurried))
        yield Path.cwd()


@pytest.fixture(scope="module")
def run(workplace, figures):
    """A finished run."""
    with figures():
        distill.main([*SMALL, "--out", "run"])
    return workplace / "run"


@pytest.fixture(scope="module")
def own(workplace):
    """A run from the user's own logits by the function, with what it printed."""
    write_own_logits(4)
    with redirect_stdout(io.StringIO()) as printed:
        returned = programs.distill("digits", teacher_logits="own.npz", out="own", **KEYWORDS | {"epochs": 1})
    return SimpleNamespace(**vars(returned), printed=printed.getvalue())


def write_own_logits(scale):
    """Logits that are always right."""
    np.savez("own.npz", logits=scale * np.eye(10, dtype=np.float32)[load("digits").train.labels])


def digest(out):
    return read(out / "summary.json")["params_digest"]


def test_the_run_directory_holds_what_is_promised(run):
    config, summary = read(run / "config.json"), read(run / "summary.json")
    assert config["options"] | {"epochs": 2, "method": "seal", "timesteps": 3} == config["options"]
    assert {"python", "jax", "flax", "optax"} <= config["versions"].keys()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2] and {"ce", "ela", "sta", "wrong"} <= lines[0]["terms"].keys()
    plots = list((run / "plots").iterdir())
    assert plots and all(plot.read_bytes().startswith(b"\x89PNG") for plot in plots)
    assert (run / "report.html").read_text().count("<svg") == len(plots)
    promised = (
        "preset dataset method seed timesteps epochs_done test_accuracy accuracy_by_timestep accuracy_of_timestep "
        "teacher_accuracy train_seconds examples_per_second params_digest"
    )
    assert set(promised.split()) <= summary.keys()
    assert summary["best_epoch"] == max(lines, key=lambda line: (line["val_accuracy"], line["epoch"]))["epoch"]
    assert summary["train_seconds"] == pytest.approx(sum(line["seconds"] for line in lines))


def test_the_summary_follows_from_the_predictions(run):
    summary, labels = read(run / "summary.json"), load("digits").test.labels
    with np.load(run / "predictions.npz") as predictions:
        logits, said = predictions["logits"], predictions["teacher_logits"]
        np.testing.assert_array_equal(predictions["labels"], labels)
    accumulated = (np.cumsum(logits, 0).argmax(-1) == labels).mean(1)
    np.testing.assert_allclose(summary["accuracy_by_timestep"], accumulated, rtol=1e-6)
    np.testing.assert_allclose(summary["accuracy_of_timestep"], (logits.argmax(-1) == labels).mean(1), rtol=1e-6)
    assert summary["test_accuracy"] == summary["accuracy_by_timestep"][-1]
    assert summary["teacher_accuracy"] == pytest.approx((said.argmax(-1) == labels).mean())
    assert all(len(rates) == 3 and 0 < min(rates) <= max(rates) < 1 for rates in summary["firing_rates"].values())
    layers = list(summary["firing_rates"].values())  # both layers of the MLP are equally wide
    assert summary["firing_rate"] == pytest.approx(np.mean(layers), rel=1e-5)
    assert summary["test_accuracy"] > 0.5 and summary["teacher_accuracy"] > 0.8  # two epochs: far beyond chance


def test_layers_energy_and_hardest_examples_are_those_of_the_run(run, capsys):
    """An MLP of 64 pixels, 256 and 256 neurons, 10 classes: the first layer's MACs once, then a layer's spikes."""
    summary, rates = read(run / "summary.json"), read(run / "summary.json")["firing_rates"]
    assert rates.keys() == summary["dead_share"].keys() == summary["saturated_share"].keys()
    assert summary["energy"]["macs"] == dict(zip(summary["energy"]["layers"], (64 * 256, 256 * 256, 2560), strict=True))
    spikes = sum(256 * width * sum(rate) for width, rate in zip((256, 10), rates.values(), strict=True))
    assert summary["energy"]["snn_picojoule"] == pytest.approx(64 * 256 * 4.6 + 0.9 * spikes, rel=1e-5)
    with np.load(run / "predictions.npz") as file, np.load(run / "hardest.npz") as hardest:
        wrong = (file["logits"].argmax(-1) != file["labels"]).sum(0)
        index = hardest["index"]
        np.testing.assert_array_equal(hardest["images"], load("digits").test.images[index])
    assert len(set(index)) == 12 and sorted(wrong[index]) == sorted(wrong)[-12:]
    evaluate.main([str(run), "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert printed["accuracy_by_timestep"][-1] == pytest.approx(summary["test_accuracy"])
    assert printed == programs.evaluate(str(run)).diagnostics


def test_a_finished_run_is_refused_without_resume_and_is_the_same_with_it(run, capsys):
    before = contents(run)
    assert refusal(["--out", "run", *SMALL], capsys) == (
        "error: --out run: not empty; add --resume to continue it, or choose another --out"
    )
    assert contents(run) == before
    distill.main([*SMALL, "--out", "run", "--resume"])
    words = capsys.readouterr()
    assert "│ teacher  " in words.out and "student (SNN)" in words.out and "run/report.html" in words.out
    assert "layers of the student" in words.err and "85,514" in words.err  # its parameters
    assert read(run / "summary.json") == json.loads(before[run / "summary.json"])
    assert (run / "weights.safetensors").read_bytes() == before[run / "weights.safetensors"]


def test_resume_with_other_options_is_refused(run, capsys):
    before = contents(run)
    words = refusal([*SMALL, "--out", "run", "--resume", "--decay", "0.7"], capsys)
    assert "--decay 0.7: run was started with 0.5; resume with the same options" in words
    assert contents(run) == before


@pytest.mark.slow
def test_another_seed_gives_another_student_of_the_same_teacher(run, workplace):
    distill.main([*SMALL, "--seed", "1"])
    assert digest(workplace / "runs/digits-seal-s1") != digest(run)
    (teacher,) = (workplace / "runs/teachers").iterdir()
    assert len(list(teacher.glob("logits-*.safetensors"))) == 1


def test_teacher_and_precompute_say_where_and_how_good(run, workplace, capsys):
    before = contents(workplace / "runs/teachers")
    teacher.main(["--devices", "1"])
    precompute.main(SMALL)
    said = capsys.readouterr().out.splitlines()
    made, logits = programs.teacher(devices=1), programs.precompute("digits", **KEYWORDS)
    assert said[0] == f"{made.directory}: test accuracy {made.test_accuracy:.2%} (n = 360)"
    assert said[1] == f"{logits.path}: 2 views, accuracy {logits.accuracy:.2%} on the training labels"
    assert contents(workplace / "runs/teachers") == before
    words = refusal([*SMALL, "--teacher-logits", str(logits.path), "--augment", "crop(2)", "--out", "new"], capsys)
    assert "made for another augmentation" in words and not (workplace / "new").exists()


@pytest.mark.slow
def test_a_teacher_or_its_logits_named_for_another_run_give_the_same_student(run, workplace):
    made, logits = programs.teacher(devices=1), programs.precompute("digits", **KEYWORDS)
    distill.main([*SMALL, "--teacher", str(made.directory), "--out", "by-directory", "--resume"])  # starts it
    distill.main([*SMALL, "--teacher-logits", str(logits.path), "--out", "by-file"])
    assert digest(workplace / "by-directory") == digest(workplace / "by-file") == digest(run)
    assert read(workplace / "by-file" / "summary.json")["teacher_accuracy"] is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ["--method", "none", "--neuron", "plif", "--parallel", "pmap", "--devices", "2"],
        ["--method", "card", "--precision", "float64", "--neuron", "iaf", "--remat", "full", "--timesteps", "1"],
        ["--method", "uniform_kd", "--hyper", "alpha=1", "--precision", "bfloat16", "--remat", "spikes"],
    ],
)
def test_options_that_every_preset_understands(workplace, options):
    out = "-".join(options[1:2])
    distill.main([*SMALL, *options, "--epochs", "1", "--warmup-epochs", "0", "--optimizer", "sgd", "--out", out])
    summary = read(workplace / out / "summary.json")
    assert summary["epochs_done"] == 1 and len(summary["accuracy_by_timestep"]) == summary["timesteps"]
    assert (summary["teacher_accuracy"] is None) == (options[1] == "none")


@pytest.mark.slow
def test_own_logits_stand_in_for_a_teacher(own):
    """Nothing in their file says that they are of these images and views: "unverified" everywhere."""
    said = " ".join(own.printed.split())
    assert "own.npz: 1 views, 100.00% right on the training labels; unverified: no fingerprint says" in said
    assert "the teacher's logits: own.npz (unverified)" in results_table(own.summary).caption
    assert (own.summary["teacher"], own.summary["teacher_accuracy"]) == ("own.npz (unverified)", None)
    assert read(own.directory / "config.json")["source"].startswith("unverified float32 [1, ")
    assert "the logits of own.npz (unverified)" in (own.directory / "report.html").read_text()


@pytest.mark.slow
def test_a_function_returns_what_the_run_directory_holds(own):
    assert own.directory == Path("own") and own.summary == read(Path("own/summary.json"))
    assert params_digest(own.variables) == digest(own.directory)
    command = read(Path("own/config.json"))["command"]
    assert command.startswith("distill('digits', teacher_logits='own.npz', out='own', epochs=1,")


@pytest.mark.slow
def test_a_run_with_changed_logits_or_a_damaged_configuration_is_not_resumed(own, capsys):
    again = [*SMALL, "--teacher-logits", "own.npz", "--epochs", "1", "--out", "own", "--resume"]
    before = contents(Path("own"))
    write_own_logits(3)
    said = refusal(again, capsys, chatty=True)
    assert "started with another teacher under that name" in said and contents(Path("own")) == before
    write_own_logits(4)
    config = Path("own/config.json")
    for damage in ("{}", "not json"):
        config.write_text(damage)
        assert "config.json: damaged" in refusal(again, capsys, chatty=True)
    config.write_bytes(before[config])


@pytest.mark.slow
def test_teacher_logits_do_not_depend_on_the_student_they_were_computed_for(run, workplace):
    """Nor does the teacher: another batch size and precision in a fresh place give the same bytes."""
    (made,) = (workplace / "runs" / "teachers").glob("*/weights.safetensors")
    (logits,) = made.parent.glob("logits-*.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        (workplace / "elsewhere").mkdir()
        patch.chdir(workplace / "elsewhere")
        precompute.main([*SMALL, "--batch-size", "9", "--precision", "float64"])
    for path in (made, logits):
        assert (workplace / "elsewhere" / path.relative_to(workplace)).read_bytes() == path.read_bytes()


def test_logits_belong_to_the_random_generator_of_jax(run, workplace):
    (path,) = (workplace / "runs" / "teachers").glob("*/logits-*.safetensors")
    options = parse(DistillOptions, "", SMALL, "distill")[1]
    assert own_logits(path, options, load("digits")).views == options.views
    with jax.threefry_partitionable(False), pytest.raises(InputError, match="made for another random generator"):
        own_logits(path, options, load("digits"))


def test_a_directory_with_the_name_of_a_network_is_not_that_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("convnet").mkdir()
    options = parse(DistillOptions, "", SMALL, "distill")[1]
    assert named_teacher(options, load("digits"), None) is None
    with pytest.raises(InputError, match="convnet: no teacher there"):
        named_teacher(replace(options, teacher="./convnet"), load("digits"), None)


@pytest.mark.slow
def test_a_student_of_fewer_examples_shares_the_teacher_of_all_examples(run, workplace, tmp_path, monkeypatch):
    (teacher,) = (workplace / "runs" / "teachers").iterdir()
    shutil.copytree(teacher, tmp_path / "runs" / "teachers" / teacher.name)
    monkeypatch.chdir(tmp_path)
    distill.main([*SMALL, "--train-examples", "100", "--epochs", "1", "--batch-size", "50", "--out", "few"])
    (found,) = Path("runs/teachers").iterdir()
    examples = {len(load_file(path)["logits"][0]) for path in found.glob("logits-*.safetensors")}
    assert found.name == teacher.name and examples == {100, 1257}
    few, all_of_them = (read(path / "summary.json") for path in (tmp_path / "few", run))
    assert few["teacher_accuracy"] == all_of_them["teacher_accuracy"]


def test_a_teacher_of_other_data_is_refused(run, workplace, capsys):
    (made,) = (workplace / "runs" / "teachers").glob("*/weights.safetensors")
    shutil.copytree(made.parent, workplace / "other-teacher")
    facts = read(workplace / "other-teacher" / "teacher.json")
    write_json(workplace / "other-teacher" / "teacher.json", facts | {"data": "other"})
    said = refusal([*SMALL, "--teacher", "other-teacher", *NEW], capsys)
    assert "other-teacher: a teacher of other data" in said and not (workplace / "new").exists()


def test_a_student_of_other_data_is_no_teacher_and_not_resumed(run, workplace, capsys):
    shutil.copytree(run, workplace / "other-student")
    config = read(workplace / "other-student" / "config.json")
    assert config["data"] == load("digits").fingerprint
    write_json(workplace / "other-student" / "config.json", config | {"data": "other"})
    said = refusal([*SMALL, "--teacher", "other-student", *NEW], capsys)
    assert "other-student: a student of other data" in said and not (workplace / "new").exists()
    said = refusal([*SMALL, "--out", "other-student", "--resume"], capsys)
    assert "other-student was started with other training data under that name" in said
    write_json(workplace / "other-student" / "config.json", config | {"splits": "other"})
    said = refusal([*SMALL, "--out", "other-student", "--resume"], capsys)
    assert "other-student was started with other validation or test data under that name" in said
    config["options"]["epochs"] = 0
    write_json(workplace / "other-student" / "config.json", config)
    said = refusal([*SMALL, "--teacher", "other-student", *NEW], capsys)
    assert "other-student/config.json: damaged: epochs: expected at least 1, at most 1000000000, got 0" in said


def test_a_teacher_that_does_not_fit_the_data_can_be_made_otherwise(workplace, capsys):
    digits = load("digits").with_fewer(60)
    splits = {"train": digits.train, "val": digits.validation, "test": digits.test}
    arrays = {f"x_{name}": split.images for name, split in splits.items()}
    np.savez(workplace / "few.npz", **arrays, **{f"y_{name}": split.labels for name, split in splits.items()})
    said = refusal([*SMALL, "--dataset", "npz:few.npz", "--batch-size", "20", *NEW], capsys)
    assert said == (
        "error: the teacher's --batch-size 64: expected 1 to 60, the training examples; make it with sealkd teacher "
        "and give its directory as --teacher"
    )
    frames = {name: np.repeat(array[:, None], 3, 1).repeat(2, -1) for name, array in arrays.items()}
    labels = {f"y_{name}": split.labels for name, split in splits.items()}
    np.savez(workplace / "frames.npz", **frames, **labels)
    said = refusal([*SMALL, "--dataset", "npz:frames.npz", "--batch-size", "20", "--augment", "none", *NEW], capsys)
    assert said.startswith(
        "error: the teacher's --augment crop(1): for images; the data are events; make it with sealkd teacher"
    )
    check_out(workplace / "new", resume=False)  # is free


def test_images_too_small_for_a_network_are_refused_and_leave_the_place_free(workplace, capsys):
    said = refusal([*SMALL, "--student", "spiking-vgg", "--method", "none", *NEW], capsys)
    assert said == "error: images: nothing left to pool at 1x1; larger ones are needed"
    check_out(workplace / "new", resume=False)  # is free


def test_a_run_that_goes_nan_ends_with_a_line(workplace, capsys):
    words = refusal([*SMALL, "--method", "none", "--learning-rate", "1e38", "--out", "nan"], capsys, chatty=True)
    assert re.search(r"epoch 1, step \d+: \w+ is (nan|inf); training stopped with no checkpoint", words)
    assert not (workplace / "nan" / "summary.json").exists()


@pytest.mark.slow
def test_a_signal_lets_the_epoch_end_and_be_saved(run, workplace, capsys, monkeypatch):
    out, trains = workplace / "stopped", distill.train

    def train_and_send(*args, on_epoch, **kwargs):
        def send(record):
            os.kill(os.getpid(), signal.SIGTERM)
            on_epoch(record)

        return trains(*args, on_epoch=send, **kwargs)

    monkeypatch.setattr(distill, "train", train_and_send)
    with pytest.raises(SystemExit) as exit:
        cli.run(lambda: distill.main([*SMALL, "--out", str(out)]))
    assert exit.value.code == 143
    words = capsys.readouterr().err
    assert "a second signal stops at once" in words and "interrupted; finished work is kept" in words
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 1 and not (out / "summary.json").exists()
    monkeypatch.undo()
    distill.main([*SMALL, "--out", str(out), "--resume"])
    assert digest(out) == digest(run)


@pytest.mark.slow
def test_a_signal_within_an_epoch_of_streamed_data_lets_the_chunk_be_saved(run, workplace, capsys, monkeypatch):
    trains = distill.train

    def train_and_send(*args, on_chunk, **kwargs):
        def send():
            os.kill(os.getpid(), signal.SIGTERM)
            on_chunk()

        return trains(*args, on_chunk=send, **kwargs)

    monkeypatch.setattr(distill, "train", train_and_send)
    monkeypatch.setattr(feed, "CHUNK_BYTES", 2**15)
    with pytest.raises(SystemExit) as exit:
        cli.run(lambda: distill.main([*SMALL, "--stream", "--out", "within"]))
    assert exit.value.code == 143 and "finished work is kept" in capsys.readouterr().err
    assert (workplace / "within" / "checkpoints" / "1").is_dir()
    assert (workplace / "within" / "metrics.jsonl").read_text() == ""


def test_two_runs_cannot_share_a_directory(workplace, capsys):
    holder = (
        "from sealkd_jax.files import locked; from pathlib import Path; import sys\n"
        "with locked(Path('held'), wait=False): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder], cwd=workplace, env={"PYTHONPATH": str(ROOT)}, stdin=-1, stdout=-1, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        words = refusal([*SMALL, "--method", "none", "--out", "held"], capsys)
        assert "held: another process is writing to it" in words
        process.communicate()
    with locked(workplace / "held", wait=False):  # the lock went with its process
        pass


@pytest.mark.slow
def test_a_profile_of_a_few_steps_leaves_the_run_as_it_is(run, workplace):
    distilled = programs.distill(**KEYWORDS, out="profiled", profile="profile")
    assert list((workplace / "profile").rglob("perfetto_trace.json.gz"))
    assert distilled.summary["params_digest"] == read(run / "summary.json")["params_digest"]
