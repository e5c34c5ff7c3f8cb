"""Options from command lines and from keyword arguments: the same values, the same checks, a help that names all."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from sealkd_jax.data.loading import DATASETS
from sealkd_jax.errors import InputError
from sealkd_jax.losses import METHODS
from sealkd_jax.models import STUDENTS, TEACHERS
from sealkd_jax.programs.command_line import choose, parse
from sealkd_jax.programs.commands import distill
from sealkd_jax.programs.options import CompareOptions, DistillOptions, DistillProgramOptions, TeacherProgramOptions
from sealkd_jax.programs.presets import PRESETS

SPOKEN = [
    ("--epochs 3 --learning-rate 1e-3", {"epochs": 3, "learning_rate": 1e-3}),
    ("--batch_size=32 --stream --no-resume", {"batch_size": 32, "stream": True, "resume": False}),
    ("--out runs/x --data-dir None", {"out": "runs/x", "data_dir": None}),
    ("--hyper alpha=0.9 temperature=4", {"hyper": {"alpha": 0.9, "temperature": 4}}),
    ("--hyper alpha=0.9", {"hyper": ["alpha=0.9"]}),
    ("--neuron plif --frame-by count --width 2", {"neuron": "plif", "frame_by": "count", "width": 2}),
    ("--out=-x", {"out": Path("-x")}),
]


@pytest.mark.parametrize(("line", "keywords"), SPOKEN, ids=[line for line, _ in SPOKEN])
def test_a_command_line_and_keyword_arguments_give_the_same_options(line, keywords):
    preset, parsed = parse(DistillOptions, "", ["cifar10", *line.split()], "distill")
    assert preset == "cifar10" and parsed == choose(DistillOptions, "cifar10", keywords)
    for field in fields(DistillOptions):
        before, after = (getattr(options, field.name) for options in (PRESETS["cifar10"].distill, parsed))
        assert type(after) is type(before) or before is None or after is None, field.name
        assert after == before or field.name in keywords


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"lr": 0.1}, "lr: unknown option; did you mean learning_rate?"),
        ({"batchsize": 4}, "batchsize: unknown option; did you mean batch_size?"),
        ({"alpha": 0.1}, "alpha: unknown option; did you mean hyper={'alpha': 0.1}?"),
        ({"epochs": 0}, "epochs 0: expected at least 1"),
        ({"epochs": 2.5}, "epochs 2.5: expected a whole number"),
        ({"learning_rate": float("nan")}, "learning_rate nan: expected a positive number"),
        ({"epochs": None}, "epochs None: expected a whole number"),
        ({"resume": "yes"}, "resume yes: expected one of True, False"),
        ({"frame_by": "size"}, "frame_by size: unknown; expected one of time, count"),
        ({"method": "saal"}, "did you mean seal?"),
        ({"student": "spiking-cov"}, "did you mean spiking-conv?"),
        ({"coordinator": "here:1"}, "coordinator: unknown option"),
    ],
)
def test_keyword_arguments_are_checked_as_a_command_line_is(keywords, words):
    with pytest.raises(InputError, match=re.escape(words)):
        choose(DistillOptions, "digits", keywords)


def test_an_option_that_a_program_sets_itself_cannot_be_given():
    with pytest.raises(InputError, match="method: unknown option; did you mean methods"):
        choose(CompareOptions, "digits", {"method": "seal"})
    assert choose(CompareOptions, "digits", {"methods": ["none", "ela"]}).methods == "none,ela"


SLIPS = {
    "--bs": "--batch-size",
    "--wd": "--weight-decay",
    "--epoch": "--epochs",
    "--T": "--timesteps",
    "--ckpt": "--resume",
    "--gpus": "--devices",
    "--device": "--devices",
    "--tau": "--decay",
    "--top-k": "--hyper top_k=5",
    "--temperature": "--hyper temperature=5",
    "--cutout": "--augment, with cutout among its steps",
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_common_slip_is_suggested(slip):
    with pytest.raises(InputError, match=re.escape(f"{slip}: unknown option; did you mean {SLIPS[slip]}?")):
        parse(DistillOptions, "", [slip, "5"], "distill")


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("kind", [DistillProgramOptions, TeacherProgramOptions, CompareOptions])
def test_the_help_fits_the_terminal_and_names_every_option_and_name(kind, columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit) as end:
        parse(kind, "About.", ["--help"], "distill")
    text = capsys.readouterr().out
    assert end.value.code == 0 and max(map(len, text.splitlines())) <= columns
    words = set(re.split(r"[\s,.\[\]]+", text))
    hidden = {"method", "stream"} if kind is CompareOptions else set()
    named = {field.name: f"--{field.name.replace('_', '-')}" for field in fields(kind)} | {"weights": "--import"}
    assert {named[field.name] for field in fields(kind)} - words == {named[name] for name in hidden}
    assert {*PRESETS, *TEACHERS, *DATASETS} <= words
    if kind is DistillProgramOptions:
        assert {*METHODS, *STUDENTS} <= words
        titles = re.findall(r"^(\w.*):$", text, re.MULTILINE)
        assert titles[:4] == ["the run", "the method", "the student", "the teacher"]
        assert titles[4:] == ["data", "augmentation", "training", "devices and processes"]
        assert "--epochs" in text.partition("the method:")[0]  # among the most used


def test_every_option_has_a_help(monkeypatch):
    from sealkd_jax.programs.option import options_of

    for kind in (DistillProgramOptions, TeacherProgramOptions, CompareOptions):
        silent = [name for name, option in options_of(kind).items() if not option.help and not option.spelling.hidden]
        assert silent == []


def test_the_help_shows_the_presets_own_values(capsys):
    with pytest.raises(SystemExit):
        distill.main(["cifar10", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "after the warm-up; it falls to 0 along a cosine. [0.1]" in text and "spiking-vgg" in text
