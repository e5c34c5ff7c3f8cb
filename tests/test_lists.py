"""`presets`, `methods` and `students` list all that there is, in 80 columns and as JSON; a new preset is one file."""

import json
import re
from pathlib import Path

import pytest

from sealkd_jax.errors import InputError
from sealkd_jax.losses import METHODS, hyperparameters, needs_teacher
from sealkd_jax.models import STUDENTS, TEACHERS
from sealkd_jax.programs import presets as room
from sealkd_jax.programs.command_line import choose, parse
from sealkd_jax.programs.commands import methods, presets, programs, students
from sealkd_jax.programs.options import DistillOptions
from sealkd_jax.programs.presets import PRESETS


def printed(main, arguments, capsys):
    capsys.readouterr()
    main(arguments)
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("main", "names"),
    [(presets.main, PRESETS), (methods.main, METHODS), (students.main, {**STUDENTS, **TEACHERS})],
    ids=["presets", "methods", "students"],
)
def test_a_list_names_everything_in_80_columns(main, names, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    lines = printed(main, [], capsys).splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines if not line.startswith(" ") and line not in ("students", "teachers")] == [
        *names
    ]


def test_lists_are_json_too(capsys):
    found = {each["name"]: each for each in json.loads(printed(methods.main, ["--json"], capsys))}
    assert found.keys() == METHODS.keys()
    for name, facts in found.items():
        assert facts["needs_teacher"] == needs_teacher(name) and facts["hyperparameters"] == hyperparameters(name)
    (one,) = json.loads(printed(presets.main, ["cifar10-fast", "--json"], capsys))
    assert {name: one[name] for name in ("dataset", "student", "teacher", "timesteps", "epochs")} == {
        "dataset": "cifar10",
        "student": "spiking-resnet18",
        "teacher": "resnet18",
        "timesteps": 4,
        "epochs": 40,
    }
    networks = json.loads(printed(students.main, ["--json"], capsys))
    assert {kind: [each["name"] for each in found] for kind, found in networks.items()} == {
        "students": [*STUDENTS],
        "teachers": [*TEACHERS],
    }


def test_one_method_and_one_preset_say_all_that_there_is_on_them(capsys):
    words = printed(methods.main, ["twkd"], capsys)
    assert words.startswith(METHODS["twkd"].__doc__.strip().partition("\n")[0])
    assert "Needs a teacher." in words and "Source: arXiv 2501.15925; " in words
    assert re.search(r"^temperature=3 +τ\. The authors use 3, and 1 for ImageNet\.", words, re.MULTILINE)
    assert printed(presets.main, ["digits"], capsys).strip() == room.digits.__doc__.strip()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_says_what_its_hyper_parameters_mean_and_where_its_formula_is_from(name):
    found = methods.facts(name)
    assert found["meaning"].keys() == hyperparameters(name).keys()
    assert found["source"] or name in ("none", "mean_ce")


def test_a_name_that_does_not_exist_is_refused_with_the_nearest():
    for main, slip, meant in ((methods.main, "saal", "seal"), (presets.main, "cifr10", "cifar10")):
        with pytest.raises(InputError, match=f"{slip}: unknown; expected one of .*; did you mean {meant}?"):
            main([slip])


def test_every_program_starts_from_a_checkout_too():
    scripts = {path.stem for path in (Path(__file__).parents[1] / "train").glob("[!_]*.py")}
    assert scripts == {*programs()}


NEW = '''"""Digits of my own: for a test."""

from dataclasses import replace

from sealkd_jax.programs.presets import digits

PRESET = digits.PRESET._replace(distill=replace(digits.PRESET.distill, epochs=3))
'''


def test_a_preset_is_one_file(tmp_path, monkeypatch, capsys):
    """In a folder beside the package's own: it is then in the list and the help, and can be chosen."""
    (tmp_path / "my_digits.py").write_text(NEW)
    monkeypatch.setattr(room, "__path__", [*room.__path__, str(tmp_path)])
    found = room.discover()
    assert [*found] == ["digits", *sorted({*PRESETS, "my-digits"} - {"digits"})]
    monkeypatch.setitem(PRESETS, "my-digits", found["my-digits"])
    assert parse(DistillOptions, "", ["my-digits"], "distill")[1] == choose(DistillOptions, "my-digits", {})
    assert choose(DistillOptions, "my-digits", {}).epochs == 3
    assert "Digits of my own: for a test." in printed(presets.main, [], capsys)
    with pytest.raises(SystemExit):
        parse(DistillOptions, "", ["--help"], "distill")
    assert "my-digits" in capsys.readouterr().out
