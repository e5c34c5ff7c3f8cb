"""What is refused of a recording, of a folder of them, and of splits."""

import os

import numpy as np
import pytest

from sealkd_jax.data.events.cifar10_dvs import CLASSES, SPLITS
from sealkd_jax.data.events.recordings import (
    LONGEST,
    BadRecording,
    Events,
    Recording,
    checked,
    find,
    list_files,
    read_bytes,
)
from sealkd_jax.data.events.splits import draw, last_users, published, tenth
from sealkd_jax.errors import InputError
from tests.helpers.event_files import some_events

GOOD = some_events(10, 8)


def changed(name, value, at=4):
    column = getattr(GOOD, name).copy()
    column[at] = value
    return GOOD._replace(**{name: column})


def place(event):
    return f"byte {5 * event}"


def test_good_events_come_through_as_they_are():
    assert checked("a.bin", GOOD, 8, place) is GOOD


@pytest.mark.parametrize(
    ("events", "words"),
    [
        (Events(*np.empty((4, 0), int)), "^a.bin: no events"),
        (changed("x", 8), "^a.bin: byte 20: event 4 has x 8; expected 0 to 7"),
        (changed("y", -1), "^a.bin: byte 20: event 4 has y -1; expected 0 to 7"),
        (changed("p", 2), "^a.bin: byte 20: event 4 has polarity 2; expected 0 to 1"),
        (changed("t", 0), "^a.bin: byte 20: event 4 at 0 µs comes after one at"),
        (changed("t", -5, at=0), "^a.bin: byte 45: times from -5"),
        (changed("t", GOOD.t[0] + LONGEST + 1, at=9), "^a.bin: byte 45: times from .* at most an hour"),
    ],
)
def test_bad_events_are_named_with_their_place(events, words):
    with pytest.raises(BadRecording, match=words):
        checked("a.bin", events, 8, place)


def test_what_is_no_readable_file_of_a_sane_size_is_named(tmp_path):
    (tmp_path / "directory.bin").mkdir()
    (tmp_path / "dead.bin").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.bin")  # opening it would wait for ever
    for name in ("directory.bin", "dead.bin", "pipe.bin", "missing.bin"):
        with pytest.raises(BadRecording, match=f"{name}: expected a file"):
            read_bytes(tmp_path / name, 10)
    (tmp_path / "large.bin").write_bytes(bytes(11))
    with pytest.raises(BadRecording, match=r"large.bin: byte 10: too large; expected a recording of at most 10 bytes"):
        read_bytes(tmp_path / "large.bin", 10)
    assert read_bytes(tmp_path / "large.bin", 11) == bytes(11)


def test_an_unreadable_file_is_named(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "a.bin"
    path.write_bytes(b"x")
    monkeypatch.setattr("sealkd_jax.data.events.recordings.open_file", refuse)
    with pytest.raises(BadRecording, match=r"a.bin: cannot be read: Permission denied"):
        read_bytes(path, 10)


def test_a_folder_is_listed_by_name_with_what_tells_files_apart(tmp_path):
    root = tmp_path / "Train"
    for name in ("b/2.bin", "a/3.bin", "b/1.bin", "b/readme.txt", "b/._1.bin"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    (root / "a/dead.bin").symlink_to("nowhere")
    (root / "stray.bin").write_bytes(b"")
    (root / ".ipynb_checkpoints").mkdir()
    (root / "a/Thumbs.db").touch()
    with pytest.warns(UserWarning) as caught:
        files = list_files(root, ".bin")
    assert str(caught[0].message).replace(f"{root}/", "") == (
        f"{root}: left out: hidden files or folders: 2, such as .ipynb_checkpoints; "
        "files of other kinds: 1, such as b/readme.txt"
    )
    assert [file.name for file in files] == ["Train/a/3.bin", "Train/a/dead.bin", "Train/b/1.bin", "Train/b/2.bin"]
    assert files[0].size == 7 and files[0].stamp == (root / "a/3.bin").stat().st_mtime_ns


def test_a_folder_that_is_none_or_empty_is_named(tmp_path):
    (tmp_path / "Train").write_bytes(b"")
    with pytest.raises(InputError, match="Train: cannot be read: Not a directory"):
        list_files(tmp_path / "Train", ".bin")
    with pytest.raises(InputError, match=r"expected files FOLDER/NAME.bin, found Train; download"):
        list_files(tmp_path, ".bin")


def test_missing_data_are_told_how_to_get(tmp_path):
    command = rf"sealkd prepare nmnist --data-dir {tmp_path}"
    with pytest.raises(
        InputError, match=rf"{tmp_path}: expected Train.zip or Train of nmnist, found none; get it: {command}"
    ):
        find("nmnist", tmp_path, "Train.zip", "Train")


def recordings(labels):
    return [Recording(f"{index:03}", 0, 0, None, label) for index, label in enumerate(labels)]


def test_a_tenth_of_each_class_is_held_out():
    everything = recordings([0] * 40 + [1] * 61)
    train, validation = tenth("nmnist", everything)
    assert sorted(train + validation) == everything
    assert np.bincount([r.label for r in validation]).tolist() == [4, 6]


@pytest.mark.parametrize("labels", [[], [0, 1] * 5 + [2], list(range(10)) * 9, [0] * 20 + [1]])
def test_too_few_for_a_tenth_are_refused(labels):
    with pytest.raises(InputError, match=f"nmnist: {len(labels)} training recordings"):
        tenth("nmnist", recordings(labels))


def test_validation_users_are_nobody_who_is_trained_on():
    users = [user for user in range(1, 24) for _ in range(3)]
    everything = recordings(range(len(users)))
    train, validation = last_users("dvs-gesture", everything, users)
    assert sorted(train + validation) == everything
    assert {users[int(r.name)] for r in validation} == {22, 23}
    assert {users[int(r.name)] for r in train} == set(range(1, 22))


def test_of_few_users_one_is_held_out_and_of_one_none_can_be():
    train, validation = last_users("dvs-gesture", recordings([0, 1, 2]), [9, 10, 9])
    assert [r.label for r in train] == [0, 2] and [r.label for r in validation] == [1]
    with pytest.raises(InputError, match="recordings of 1 users; expected two"):
        last_users("dvs-gesture", recordings([0, 1]), [9, 9])


def test_the_published_split_is_whole_disjoint_stratified_and_as_drawn():
    split = published(SPLITS["ours"])
    assert tuple(split) == CLASSES
    for parts in split.values():
        assert {name: len(numbers) for name, numbers in parts.items()} == {"train": 800, "validation": 100, "test": 100}
        assert sorted(number for numbers in parts.values() for number in numbers) == list(range(1000))
    assert split == draw(CLASSES)
