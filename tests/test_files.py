"""Files that are complete or absent, and directories from other people."""

import os
from pathlib import Path

import pytest

from sealkd_jax.errors import InputError, printable
from sealkd_jax.files import locked, make_directory, open_file, replacing


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


@pytest.mark.parametrize("name", [".lock", "file.partial", "file"])
@pytest.mark.parametrize("target", ["elsewhere", "nothing", "loop"])
def test_a_link_makes_nobody_write_to_its_target(tmp_path, name, target):
    (tmp_path / "run").mkdir()
    (tmp_path / "elsewhere").write_text("precious")
    link = tmp_path / "run" / name
    link.symlink_to(link if target == "loop" else tmp_path / target)
    with replacing(tmp_path / "run" / "file") as partial:
        partial.write_text("new")
    if name == ".lock":
        with pytest.raises(InputError, match=r"run/\.lock: a symbolic link"), locked(tmp_path / "run", wait=False):
            pass
    assert (tmp_path / "elsewhere").read_text() == "precious" and not (tmp_path / "nothing").exists()
    assert (tmp_path / "run" / "file").read_text() == "new" and not (tmp_path / "run" / "file").is_symlink()


def test_a_lock_s_content_stays_and_one_that_is_no_file_is_refused(tmp_path):
    (tmp_path / ".lock").write_text("mine")
    with locked(tmp_path, wait=False):
        pass
    assert (tmp_path / ".lock").read_text() == "mine"
    (tmp_path / ".lock").unlink()
    (tmp_path / ".lock").mkdir()
    with pytest.raises(InputError, match="cannot be written to"), locked(tmp_path, wait=False):
        pass


def test_a_directory_within_a_run_that_is_a_link_is_refused(tmp_path):
    assert make_directory(tmp_path / "plots").is_dir() and make_directory(tmp_path / "plots").is_dir()
    (tmp_path / "export").symlink_to(tmp_path / "plots")
    with pytest.raises(InputError, match="export: a symbolic link"):
        make_directory(tmp_path / "export")


def test_pipes_and_devices_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe", tmp_path / "zero", tmp_path):
        with pytest.raises(OSError, match="not a regular file"):
            open_file(path)


def test_what_a_terminal_would_obey_is_marked():
    assert printable("\x1b[2J a\nb\x7f \u202e ü × \udc80\u2028\u200b") == "�[2J a�b� � ü × ���"
    assert str(InputError("a.json: \x1b[31mbad\n   at line 2")) == "a.json: �[31mbad at line 2"
