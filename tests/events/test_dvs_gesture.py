"""DVS128 Gesture: the arrays that tonic publishes, users, what is damaged, and real clips."""

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from sealkd_jax.data.events import Framing, load_dvs_gesture
from sealkd_jax.data.events.dvs_gesture import parse
from sealkd_jax.data.events.recordings import Events
from sealkd_jax.errors import InputError
from tests.helpers.event_files import damaged, events, npy, some_events

GOOD = npy(some_events(60, 128))


@given(recording=events(128, longest=10**7))
@settings(max_examples=30, deadline=None)
@pytest.mark.parametrize(
    ("dtype", "order"), [("int64", "C"), ("int64", "F"), ("float64", "C"), ("uint32", "C"), (">f4", "F")]
)
def test_every_event_is_read_back_in_microseconds(recording, dtype, order):
    recording = recording._replace(t=recording.t // 1000 * 1000)
    for column, expected in zip(parse("a.npy", npy(recording, dtype, order)), recording, strict=True):
        np.testing.assert_array_equal(column, expected)


def saved(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def with_event(row, value, dtype=np.float64):
    array = np.load(io.BytesIO(npy(some_events(60, 128), dtype)))
    array[row] = value
    return saved(array)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "a.npy: byte 0: not a .npy array"),
        (b"PK\x03\x04" + GOOD, "a.npy: byte 0: not a .npy array"),
        (GOOD[:-1], "a.npy: byte 2047: expected 2048 bytes, got 2047"),
        (GOOD + b"x", "a.npy: byte 2048: expected 2048 bytes, got 2049"),
        (saved(np.zeros((4, 5))), r"expected numbers \[E, 4\], got float64 \[4, 5\]"),
        (saved(np.zeros((4, 4), complex)), r"expected numbers \[E, 4\], got complex128"),
        (saved(np.zeros((0, 4))), "a.npy: no events"),
        (with_event(7, [128, 0, 0, 0]), r"a.npy: byte 352: event 7 has x 128; expected 0 to 127"),
        (with_event(7, [0, 0.5, 0, 0]), r"a.npy: byte 352: event 7 is \[0.0, 0.5, 0.0, 0.0\]; expected whole"),
        (with_event(7, [0, 0, np.nan, 0]), "byte 352: event 7 is .*nan"),
        (with_event(7, [0, 0, 0, np.inf]), "byte 352: event 7 is .*inf"),
        (with_event(7, [0, 0, 0, 1e300]), "byte 352: event 7 is .*1e.300"),
        (with_event(7, [0, 0, 0, 2**62], np.int64), "byte 352: event 7 is"),
        (with_event(59, [0, 0, 0, 0]), "a.npy: byte 2016: event 59 at 0 µs comes after"),
    ],
)
def test_damaged_recordings_are_named_with_their_place(data, words):
    with pytest.raises(InputError, match=words):
        parse("a.npy", data)


class Boom:
    def __reduce__(self):
        return pytest.fail, ("a pickle was run",)


def test_a_pickle_is_never_run():
    file = io.BytesIO()
    np.save(file, np.array([[Boom()] * 4], object), allow_pickle=True)
    with pytest.raises(InputError, match=r"expected numbers \[E, 4\], got object"):
        parse("a.npy", file.getvalue())


def test_an_announced_shape_takes_no_memory():
    data = GOOD.replace(b"(60, 4), }            ", b"(60000000000000, 4), }")
    assert data != GOOD
    with pytest.raises(InputError, match=r"expected \d+ bytes, got 2048"):
        parse("a.npy", data)


@given(data=damaged(GOOD))
@settings(max_examples=400, deadline=None)
def test_any_bytes_are_a_recording_or_refused_by_name(data):
    try:
        recording = parse("folder/a.npy", data)
    except InputError as error:
        assert str(error).startswith("folder/a.npy: ") and "\n" not in str(error)
    else:
        assert len(recording.t) and recording.x.max() < 128 and (np.diff(recording.t) >= 0).all()


def write(root, clips):
    """clips: "ibmGestureTrain/user01_led/0" -> events."""
    for name, recording in clips.items():
        path = root / "DVSGesture" / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(npy(recording))
    return root


CLIPS = {
    f"ibmGesture{part}/user{user:02}_{light}/{label}": some_events(30, 128, 100 * user + label)
    for part, users in (("Train", range(1, 5)), ("Test", (24,)))
    for user in users
    for light in ("led", "natural")
    for label in (0, 5, 10)
}


def test_users_are_split_and_labels_are_the_files_names(tmp_path):
    dataset = load_dvs_gesture(write(tmp_path, CLIPS), Framing(2, size=16), tmp_path / "cache")
    users = {split: {name.split("/")[1][:6] for name in names} for split, names in dataset.recordings.items()}
    assert users == {"train": {"user01", "user02", "user03"}, "validation": {"user04"}, "test": {"user24"}}
    assert dataset.train.images.shape == (18, 2, 16, 16, 2) and len(dataset.classes) == 11
    assert sorted(f"{name}.npy" for name in CLIPS) == sorted(sum_of(dataset.recordings))
    for split, names in zip(
        (dataset.train, dataset.validation, dataset.test), dataset.recordings.values(), strict=True
    ):
        assert split.labels.tolist() == [int(Path(name).stem) for name in names]
        assert (split.images.sum((1, 2, 3, 4), dtype=int) == 30).all()
    inside = load_dvs_gesture(tmp_path / "DVSGesture", Framing(2, size=16), tmp_path / "cache")
    assert inside.cache == dataset.cache


def sum_of(lists):
    return [name for names in lists.values() for name in names]


@pytest.mark.parametrize("name", ["user01_led/11", "user01_led/clap", "someone_led/3", "user01/3"])
def test_unknown_labels_and_users_fail_or_are_skipped(tmp_path, name):
    write(tmp_path, CLIPS | {f"ibmGestureTrain/{name}": some_events(30, 128)})
    with pytest.raises(InputError, match=rf"{name}.npy: expected userNUMBER_LIGHT/LABEL.npy"):
        load_dvs_gesture(tmp_path, Framing(2, size=16), tmp_path / "cache")
    dataset = load_dvs_gesture(tmp_path, Framing(2, size=16, on_bad_recording="skip"), tmp_path / "cache")
    assert len(dataset.skipped) == 1 and len(dataset.train.labels) == 18


def test_a_directory_and_a_dead_link_in_place_of_a_recording_are_named(tmp_path):
    write(tmp_path, CLIPS)
    (tmp_path / "DVSGesture/ibmGestureTrain/user01_led/3.npy").mkdir()
    (tmp_path / "DVSGesture/ibmGestureTrain/user01_led/4.npy").symlink_to("nowhere")
    dataset = load_dvs_gesture(tmp_path, Framing(2, size=16, on_bad_recording="skip"), tmp_path / "cache")
    assert [reason.split("user01_led/")[1].split(":")[0] for reason in dataset.skipped] == ["3.npy", "4.npy"]


def test_missing_data_are_told_how_to_get(tmp_path):
    with pytest.raises(InputError, match=r"ibmGestureTrain .*sealkd prepare dvs-gesture --data-dir"):
        load_dvs_gesture(tmp_path, Framing(2), tmp_path / "cache")


def test_real_clips_keep_every_event(tmp_path, real_data):
    clips = np.load(real_data / "dvs_gesture_6.npz")
    offsets = clips["offsets"]
    columns = [clips[name].astype(np.int64) for name in "xypt"]
    recordings = [Events(*(c[a:b] for c in columns)) for a, b in pairwise(offsets)]
    users = ("Train/user01", "Train/user01", "Train/user02", "Train/user02", "Train/user03", "Test/user24")
    names = [f"ibmGesture{user}_led/{label}" for user, label in zip(users, clips["label"], strict=True)]
    write(tmp_path, dict(zip(names, recordings, strict=True)))
    for size in (128, 64):
        dataset = load_dvs_gesture(tmp_path, Framing(16, size=size), tmp_path / "cache")
        assert [len(s.labels) for s in (dataset.train, dataset.validation, dataset.test)] == [4, 1, 1]
        totals = [image.sum(dtype=int) for s in (dataset.train, dataset.validation, dataset.test) for image in s.images]
        assert totals == [len(recording.t) for recording in recordings]
        assert dataset.train.images.shape == (4, 16, size, size, 2)
    whole = recordings[0]._replace(t=recordings[0].t // 1000 * 1000)
    np.testing.assert_array_equal(parse("a.npy", npy(whole)), whole)
