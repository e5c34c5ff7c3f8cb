"""What can be watched: lines and bars on stderr, JSON on stdout, and TensorBoard's scalars, read by TensorBoard."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sealkd_jax.programs import presets
from sealkd_jax.programs.commands import distill, precompute, teacher
from sealkd_jax.programs.options import WatchOptions
from sealkd_jax.programs.progress import progress
from tests.helpers.programs import read, refusal, scalars

SMALL = ["--epochs", "2", "--student", "spiking-mlp", "--width", "0.25", "--views", "2", "--devices", "1"]
SMALL += ["--timesteps", "2", "--teacher-width", "0.25"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A current directory with a run of `--log json --tensorboard`, and the lines that it wrote to stdout."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("watching"))
        digits = presets.PRESETS["digits"]
        hurried = digits._replace(teacher=replace(digits.teacher, epochs=2, warmup_epochs=0))
        patch.setitem(presets.PRESETS, "digits", hurried)
        said = SimpleNamespace(lines=[], write=lambda text: said.lines.append(text), flush=lambda: None)
        patch.setattr(sys, "stdout", said)
        distill.main([*SMALL, "--out", "run", "--log", "json", "--tensorboard"])
        patch.setattr(sys, "stdout", sys.__stdout__)
        yield "".join(said.lines).splitlines()


def lines_of(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


@pytest.mark.slow
def test_json_on_stdout_is_every_record_and_the_result(run):
    said = [json.loads(line) for line in run]
    assert [line.pop("stage") for line in said] == [*["teacher"] * 2, *["views"] * 2, *["student"] * 2, "result"]
    (made,) = Path("runs/teachers").iterdir()
    assert said[:2] == lines_of(made / "metrics.jsonl") and said[4:6] == lines_of("run/metrics.jsonl")
    assert [line["epoch"] for line in said[2:4]] == [1, 2] and all(x["examples_per_second"] > 0 for x in said[2:4])
    assert said[6] == read(Path("run/summary.json")) | {"report": "run/report.html"}


@pytest.mark.slow
@pytest.mark.parametrize("of", ["run", "runs/teachers/*"])
def test_tensorboard_shows_the_records(run, of):
    (directory,) = Path.cwd().glob(of)
    records = lines_of(directory / "metrics.jsonl")
    expected = {
        "loss/total": "loss",
        "accuracy/validation": "val_accuracy",
        "accuracy/training": "train_accuracy",
        "optimisation/learning_rate": "learning_rate",
        "optimisation/grad_norm": "grad_norm",
        "speed/examples_per_second": "examples_per_second",
    }
    series = {name: [record[key] for record in records] for name, key in expected.items()}
    for section, key in (("loss", "terms"), ("firing_rate", "firing_rates")):
        series |= {f"{section}/{part}": [record[key][part] for record in records] for part in records[0][key]}
    found = scalars(directory / "tensorboard")
    assert found.keys() == series.keys() and {"loss/ce", "loss/wrong"} <= found.keys()
    assert ("firing_rate/block_1/neuron" in found and "loss/sta" in found) == (of == "run")
    for name, values in series.items():
        assert found[name] == [(k + 1, pytest.approx(value, rel=1e-6)) for k, value in enumerate(values)]


@pytest.mark.slow
def test_firing_rates_of_a_record_are_shares_of_what_can_fire(run):
    rates = [record["firing_rates"] for record in lines_of("run/metrics.jsonl")]
    assert all(0 < rate < 1 for epoch in rates for rate in epoch.values())
    reported = read(Path("run/summary.json"))["firing_rates"]  # by timestep, on the test split
    for name, by_timestep in reported.items():  # of like images
        assert rates[-1][name] == pytest.approx(sum(by_timestep) / len(by_timestep), rel=0.1)


@pytest.mark.slow
def test_how_a_run_is_watched_changes_nothing_of_it(run, capsys):
    """Another way is accepted by --resume, with the same teacher; a run that was finished before gets its scalars."""
    summary, found = read(Path("run/summary.json")), scalars("run/tensorboard")
    shutil.rmtree("run/tensorboard")
    distill.main([*SMALL, "--out", "run", "--resume", "--log", "quiet", "--tensorboard"])
    words = capsys.readouterr()
    assert "student (SNN)" in words.out and words.err == ""
    assert read(Path("run/summary.json")) == summary and len(list(Path("runs/teachers").iterdir())) == 1
    assert scalars("run/tensorboard") == found
    for main, arguments in ((teacher.main, ["--teacher-width", "0.25", "--devices", "1"]), (precompute.main, SMALL)):
        main([*arguments, "--log", "json"])
        (line,) = capsys.readouterr().out.splitlines()
        assert json.loads(line)["stage"] == "result" and Path(json.loads(line)["path"]).exists()


def test_without_tensorboardx_the_command_that_installs_it_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    words = refusal([*SMALL, "--tensorboard"], capsys)
    assert words == 'error: --tensorboard: needs tensorboardX: pip install "sealkd-jax[tensorboard]"'
    assert list(tmp_path.iterdir()) == []


def record(epoch, **facts):
    plain = {"loss": 1.5, "terms": {"ce": 1.25, "wrong": 0.5}, "train_accuracy": 0.5, "val_accuracy": 0.75}
    return {"epoch": epoch, **plain, "learning_rate": 0.1, "grad_norm": 2.0, "seconds": 3.0, **facts}


def test_a_step_is_never_there_twice(tmp_path):
    """A start that was killed between the line of an epoch and its checkpoint, and the one that goes on."""
    metrics, options = tmp_path / "metrics.jsonl", WatchOptions(log="quiet", tensorboard=True)

    def epochs(kept, new):
        metrics.write_text("".join(json.dumps(record) + "\n" for record in kept))  # as `train` begins
        with progress("student", 4, options, tmp_path) as show:
            for one in new:
                with metrics.open("a") as file:
                    file.write(json.dumps(one) + "\n")
                show(one)

    speeds = [record(k, examples_per_second=10.0 * k) for k in (1, 2, 3, 4)]
    epochs([], [speeds[0], speeds[1], record(3, examples_per_second=99.0)])
    epochs(speeds[:2], speeds[2:])
    assert scalars(tmp_path / "tensorboard")["speed/examples_per_second"] == [(1, 10), (2, 20), (3, 30), (4, 40)]
    times = [event.wall_time for event in EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("loss/ce")]
    assert np.diff(times) == pytest.approx([3.0] * 3)  # as if it had been trained in one go


STAGE = {"stage": "student"}


@pytest.fixture
def clock(monkeypatch):
    """The time by which progress goes, in seconds."""
    now = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr("sealkd_jax.programs.progress.time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


def watched(clock, arrivals, total, capsys):
    """What is said of records `{epoch: seconds}`."""
    with progress("student", total, WatchOptions()) as show:
        for epoch, seconds in arrivals.items():
            clock.seconds = 1000.0 + seconds
            show(record(epoch, examples_per_second=12345.6))
    return capsys.readouterr()


def test_a_log_has_a_line_an_epoch_but_no_more_than_one_in_ten_seconds(clock, capsys):
    words = watched(clock, {1: 60, 2: 64, 3: 70, 4: 72, 5: 75, 6: 79, 7: 79.5}, 7, capsys)
    assert words.out == ""
    first, third, last = words.err.splitlines()
    assert first == "student 1/7: loss 1.500 (ce 1.250 wrong 0.500), validation 75.0%, 12,346 examples/s"
    assert third == first.replace("1/7", "3/7") + ", 0:00:20 left"  # four times the median of 4 and 6
    assert last == first.replace("1/7", "7/7")


def test_json_lines_are_the_records(capsys):
    with progress("student", 2, WatchOptions(log="json")) as show:
        for epoch in (1, 2):
            show(record(epoch))
    said = capsys.readouterr()
    assert [json.loads(line) for line in said.out.splitlines()] == [record(1) | STAGE, record(2) | STAGE]
    assert said.err == ""


def test_epochs_of_an_earlier_start_do_not_count_for_the_time_left(clock, capsys):
    words = watched(clock, {90: 60, 91: 90}, 100, capsys)
    assert words.err.splitlines()[1].endswith("0:04:30 left")


def test_a_terminal_gets_a_bar(clock, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    words = watched(clock, {1: 60, 2: 64}, 7, capsys)
    assert words.out == "" and "━" in words.err
    assert "2/7" in words.err and "validation 75.0%, 12,346 examples/s, 0:00:20 left" in words.err
