"""Frames on disk: made once, the same when read again, and never silently wrong."""

import json
import threading

import numpy as np
import pytest

from sealkd_jax.data.events.cache import Recordings, load_frames
from sealkd_jax.data.events.framing import Framing, frames
from sealkd_jax.data.events.recordings import BadRecording, Events, Recording
from sealkd_jax.errors import InputError
from tests.helpers.event_files import some_events

SENSOR, FRAMING = 4, Framing(2, "time", 4)
SKIP = Framing(2, "time", 4, on_bad_recording="skip")


def recording(seed, events=None):
    events = some_events(20, SENSOR, seed) if events is None else events
    return Recording(f"r{seed}", 10, seed, lambda: events, seed % 2)


def bad(seed):
    def events():
        raise BadRecording(f"r{seed}: byte 5: damaged")

    return Recording(f"r{seed}", 10, seed, events, seed % 2)


def some_recordings(*more):
    return Recordings([recording(0), recording(1), *more], [recording(2)], [recording(3)], ())


def load(cache_dir, recordings, framing=FRAMING):
    return load_frames("nmnist", recordings, framing, SENSOR, ("a", "b"), cache_dir)


def test_frames_and_labels_are_those_of_the_recordings(tmp_path):
    dataset = load(tmp_path, some_recordings())
    assert dataset.name == "nmnist" and dataset.classes == ("a", "b") and dataset.skipped == ()
    assert dataset.recordings == {"train": ["r0", "r1"], "validation": ["r2"], "test": ["r3"]}
    for split, seeds in ((dataset.train, [0, 1]), (dataset.validation, [2]), (dataset.test, [3])):
        expected = [frames(some_events(20, SENSOR, seed), FRAMING, SENSOR) for seed in seeds]
        np.testing.assert_array_equal(split.images, expected)
        assert split.images.dtype == np.uint8 and split.labels.tolist() == [seed % 2 for seed in seeds]
    assert [path.name for path in tmp_path.iterdir()] == [".lock", dataset.cache.name]  # nothing else is left


def test_the_second_start_reads_no_recording(tmp_path):
    first = load(tmp_path, some_recordings())
    changed = first.cache.stat().st_mtime_ns
    never = [r._replace(events=None) for r in (*some_recordings().train, *some_recordings()[1], *some_recordings()[2])]
    second = load(tmp_path, Recordings(never[:2], never[2:3], never[3:], ()))
    np.testing.assert_array_equal(first.train.images, second.train.images)
    assert second.cache.stat().st_mtime_ns == changed and first.fingerprint == second.fingerprint


@pytest.mark.parametrize(
    "other",
    [
        lambda r: (r, Framing(3, "time", 4)),
        lambda r: (r, Framing(2, "count", 4)),
        lambda r: (r, Framing(2, "time", 2)),
        lambda r: (r, SKIP),
        lambda r: (r._replace(train=r.train[:1]), FRAMING),
        lambda r: (r._replace(test=[r.test[0]._replace(size=11)]), FRAMING),
        lambda r: (r._replace(test=[r.test[0]._replace(stamp=11)]), FRAMING),
        lambda r: (r._replace(test=[r.test[0]._replace(name="other")]), FRAMING),
        lambda r: (r._replace(test=r.validation, validation=r.test), FRAMING),
    ],
)
def test_other_recordings_or_settings_are_another_file(tmp_path, other):
    first = load(tmp_path, some_recordings())
    second = load(tmp_path, *other(some_recordings()))
    assert first.cache != second.cache


def crowd(count):
    """That number of events at one pixel and one time."""
    return Events(*(np.full(count, value) for value in (1, 2, 1, 5)))


def test_counts_above_255_make_all_frames_uint16(tmp_path):
    dataset = load(tmp_path, some_recordings(recording(4, crowd(65535)), recording(6)))
    images = dataset.train.images
    assert images.dtype == np.uint16 and dataset.test.images.dtype == np.uint16
    assert images[2, 0, 2, 1, 1] == 65535 and images[2].sum() == 65535
    assert [image.sum() for image in images] == [20, 20, 65535, 20]
    np.testing.assert_array_equal(images[0], frames(some_events(20, SENSOR, 0), FRAMING, SENSOR))
    assert load(tmp_path / "b", some_recordings(recording(4, crowd(255)))).train.images.dtype == np.uint8
    assert load(tmp_path / "c", some_recordings(recording(4, crowd(256)))).train.images.dtype == np.uint16


def test_counts_above_65535_are_refused(tmp_path):
    with pytest.raises(InputError, match="r4: 65536 events of one pixel in one frame, above 65535"):
        load(tmp_path, some_recordings(recording(4, crowd(65536))))


def test_a_bad_recording_fails_or_is_skipped_and_named(tmp_path):
    with pytest.raises(InputError, match=r"^r4: byte 5: damaged"):
        load(tmp_path, some_recordings(bad(4)))
    with pytest.raises(InputError, match=r"^unknown folder"):
        load(tmp_path, some_recordings()._replace(bad=("unknown folder",)))
    assert not list(tmp_path.glob("*.safetensors*"))
    for _ in range(2):  # made, read
        dataset = load(tmp_path, some_recordings(bad(4))._replace(bad=("unknown folder",)), SKIP)
        assert dataset.skipped == ("unknown folder", "r4: byte 5: damaged")
        assert dataset.recordings["train"] == ["r0", "r1"] and len(dataset.train.images) == 2


def test_more_than_half_bad_fail_in_any_case(tmp_path):
    half = [bad(seed) for seed in range(4, 8)]
    assert len(load(tmp_path, some_recordings(*half), SKIP).skipped) == 4
    with pytest.raises(InputError, match="5 of 9 recordings are bad, more than half; the first: r4: byte 5"):
        load(tmp_path, some_recordings(*half, bad(8)), SKIP)


def test_a_split_of_bad_recordings_alone_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"good recordings in each of train, validation, test; got \[2, 0, 1\]"):
        load(tmp_path, some_recordings()._replace(validation=[bad(4)]), SKIP)


def test_every_damaged_byte_is_found(tmp_path):
    path = load(tmp_path, some_recordings()).cache
    good = path.read_bytes()
    sealed = json.loads(good[8 : 8 + int.from_bytes(good[:8], "little")])["__metadata__"]
    seal = good.index(sealed["sha256"].encode())
    payload = 8 + int.from_bytes(good[:8], "little")
    for at in (0, 7, 8, 40, seal, seal + 63, payload, payload + 77, len(good) - 1):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(InputError, match=r"safetensors: damaged, .*; remove it, and it is made again"):
            load(tmp_path, some_recordings())
    for length in (0, 5, 30, payload, len(good) - 1):
        path.write_bytes(good[:length])
        with pytest.raises(InputError, match=r"safetensors: damaged"):
            load(tmp_path, some_recordings())
    path.unlink()
    again = load(tmp_path, some_recordings())
    assert again.cache == path
    np.testing.assert_array_equal(again.train.images[0], frames(some_events(20, SENSOR, 0), FRAMING, SENSOR))


def test_a_file_of_other_recordings_under_this_name_is_refused(tmp_path):
    first, second = load(tmp_path, some_recordings()).cache, load(tmp_path, some_recordings(recording(4))).cache
    first.write_bytes(second.read_bytes())
    with pytest.raises(InputError, match="has other recordings or settings"):
        load(tmp_path, some_recordings())


def test_what_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="file: cannot be written to"):
        load(tmp_path / "file", some_recordings())

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sealkd_jax.data.events.cache.save_file", full)
    with pytest.raises(InputError, match=r"frames cannot be written: .*No space left on device"):
        load(tmp_path, some_recordings())
    assert not list(tmp_path.glob("nmnist*"))


def test_of_two_at_once_one_makes_the_frames(tmp_path):
    reads, start = [], threading.Barrier(2)

    def counted(seed):
        def events():
            reads.append(seed)
            return some_events(20, SENSOR, seed)

        return Recording(f"r{seed}", 10, seed, events, seed % 2)

    def run():
        start.wait()
        load(tmp_path, Recordings([counted(0), counted(1)], [counted(2)], [counted(3)], ()))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(reads) == [0, 1, 2, 3]
