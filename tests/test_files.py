"""Files that are complete or absent, and what is in them."""

import os
from pathlib import Path

import pytest

from sealkd_jax.files import read_json, replacing, write_json


def test_json_is_read_back_and_anything_else_is_refused(tmp_path):
    path = tmp_path / "config.json"
    write_json(path, {"options": {"epochs": 3, "out": Path("runs/a"), "decay": 0.5}, "source": None})
    assert read_json(path) == {"options": {"epochs": 3, "out": "runs/a", "decay": 0.5}, "source": None}
    for damaged in (path.read_bytes()[:-3], b"", b"[]", b'"config"', b"\xff"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError):
            read_json(path)


def test_what_fails_half_way_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as partial:
        partial.write_text("half of the n")
        raise RuntimeError("power cut")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_the_error_of_a_full_disk_names_the_file(tmp_path):
    with pytest.raises(OSError) as raised, replacing(tmp_path / "file"), open("/dev/full", "wb", 0) as full:
        full.write(b"x")
    assert raised.value.filename == str(tmp_path / "file") and raised.value.strerror == os.strerror(28)
