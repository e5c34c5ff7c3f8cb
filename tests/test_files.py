"""Files that are whole or absent, and sealed facts."""

import os
from pathlib import Path

import pytest

from sealkd_jax.files import read_sealed, replacing, write_sealed

FACTS = {"options": {"epochs": 3, "out": Path("runs/a"), "decay": 0.5}, "source": None, "resumed": []}


def test_sealed_facts_are_read_back_and_any_change_is_found(tmp_path):
    path = tmp_path / "config.json"
    write_sealed(path, FACTS)
    good = path.read_bytes()
    as_json = FACTS | {"options": FACTS["options"] | {"out": "runs/a"}}
    assert read_sealed(path) == as_json
    write_sealed(path, read_sealed(path))
    assert path.read_bytes() == good
    for at in range(len(good)):
        for bit in range(8):
            path.write_bytes(good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :])
            try:
                facts = read_sealed(path)
            except ValueError:
                continue
            assert facts == as_json  # another white space
    for damaged in (*(good[:length] for length in range(len(good) - 1)), b"{}", b"[]", b'"sha256"'):
        path.write_bytes(damaged)
        with pytest.raises(ValueError):
            read_sealed(path)


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
