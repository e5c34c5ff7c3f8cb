"""JSON of a file as typed values: what is read, and that anything else is one line."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import pytest

from sealkd_jax.errors import InputError
from sealkd_jax.files import write_json
from sealkd_jax.typed import SHARE, as_type, at_least, read_json


@dataclass
class Inner:
    path: Path | None
    many: tuple[str, ...] = ()


class Record(TypedDict):
    count: Annotated[int, at_least(1, 9)]
    shares: Annotated[list[float], SHARE]
    inner: Inner
    names: dict[str, bool]
    kind: Literal["a", "b"]
    rest: Any


GOOD = {
    "count": 3,
    "shares": [0, 0.5],
    "inner": {"path": "runs/a", "many": ["x"]},
    "names": {"on": True},
    "kind": "b",
    "rest": [1, None, {"x": "y"}],
}


def test_a_record_is_read_back_and_unknown_entries_are_dropped(tmp_path):
    write_json(tmp_path / "a.json", GOOD | {"other": 1})
    found = read_json(tmp_path / "a.json", Record)
    assert found == GOOD | {"inner": Inner(Path("runs/a"), ("x",))} and type(found["shares"][0]) is float
    write_json(tmp_path / "a.json", GOOD | {"inner": {"path": None}})
    assert read_json(tmp_path / "a.json", Record)["inner"] == Inner(None)


def test_texts_come_out_without_what_a_terminal_would_obey():
    assert as_type(dict[str, str], {"a\x1b[2J": "b\ud800\n"}) == {"a�[2J": "b��"}
    assert as_type(Any, {"\x07": ["\u202e"]}) == {"�": ["�"]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"count": 0}, "count: expected at least 1, at most 9, got 0"),
        ({"count": 10**12}, "count: expected at least 1"),
        ({"count": 10**400}, "count: expected a whole number"),
        ({"count": True}, "count: expected a whole number, got True"),
        ({"count": 1.0}, "count: expected a whole number, got 1.0"),
        ({"count": "3"}, "count: expected a whole number, got '3'"),
        ({"count": None}, "count: expected a whole number"),
        ({"count": []}, "count: expected a whole number, got a list"),
        ({"shares": [1.5]}, "shares: expected a number from 0 to 1, got a list"),
        ({"shares": ["x"]}, "shares[0]: expected a finite number, got 'x'"),
        ({"shares": 0.5}, "shares: expected a list, got 0.5"),
        ({"shares": [10**400]}, "shares[0]: expected a finite number"),
        ({"inner": {}}, "inner.path: missing"),
        ({"inner": {"path": 1}}, "inner.path: expected a path"),
        ({"inner": {"path": None, "odd": 1}}, "inner.odd: unknown"),
        ({"inner": []}, "inner: expected an object, got a list"),
        ({"names": {"on": 1}}, "names.on: expected true or false"),
        ({"names": {"[/x]\n": 1}}, "names.[/x]�: expected true or false"),
        ({"kind": "c"}, "kind: expected one of a, b"),
        ({"kind": []}, "kind: expected one of a, b"),
    ],
)
def test_what_does_not_fit_is_named(change, words):
    with pytest.raises(ValueError) as raised:
        as_type(Record, GOOD | change)
    assert words in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff",
        b"[" * 100_000,
        b'{"rest":' * 100_000,
        json.dumps(GOOD).replace("3", "NaN").encode(),
        json.dumps(GOOD).replace("0.5", "Infinity").encode(),
        json.dumps(GOOD).replace("0.5", "1e999").encode(),
        json.dumps(GOOD).replace("3", "9" * 5000).encode(),
        json.dumps(GOOD | {"rest": 1}).replace('"rest": 1', '"rest": ' + "[" * 900 + "]" * 900).encode()[:-1],
    ],
    ids=lambda text: text[:20],
)
def test_a_damaged_file_is_one_line(tmp_path, text):
    (tmp_path / "a.json").write_bytes(text)
    with pytest.raises(InputError, match=r"a\.json: damaged: ") as raised:
        read_json(tmp_path / "a.json", Record)
    assert "\n" not in str(raised.value)


def test_what_cannot_be_read_is_not_called_damaged(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, words in {"none": "No such file", "pipe": "not a regular file", ".": "not a regular file"}.items():
        with pytest.raises(InputError, match=f"cannot be read: {words}"):
            read_json(tmp_path / name, Record)
