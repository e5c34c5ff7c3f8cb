"""N-MNIST: the 40-bit format, archives and folders, what is damaged, and the real recordings."""

import sys
import warnings
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings

from sealkd_jax.data.events import Framing, load_nmnist
from sealkd_jax.data.events.nmnist import LARGEST, parse
from sealkd_jax.errors import InputError
from tests.helpers.event_files import damaged, events, nmnist, some_events

GOOD = nmnist(some_events(80, 34))


@given(recording=events(34))
@settings(max_examples=50, deadline=None)
def test_every_event_is_read_back(recording):
    for column, expected in zip(parse("a.bin", nmnist(recording)), recording, strict=True):
        np.testing.assert_array_equal(column, expected)


def test_the_bits_of_one_event():
    data = bytes([33, 7, 0b1_0000010, 0b00000001, 0b00001000])  # x, y, polarity and 23 bits of time
    assert [column.tolist() for column in parse("a.bin", data)] == [[33], [7], [1], [0x20108]]


def test_an_overflow_of_the_counter_is_no_event_and_moves_time_on():
    data = GOOD[:100] + bytes([0, 240, 0, 0, 0]) + bytes([1, 1, 0x7F, 0xFF, 0xFF])
    recording = parse("a.bin", data)
    assert len(recording.t) == 21 and recording.t[-1] == 2**23 - 1 + 2**13
    with pytest.raises(InputError, match=r"a.bin: byte 110: event 21 has x 34"):
        parse("a.bin", data + bytes([34, 0, 0, 0, 0]))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "a.bin: no events"),
        (GOOD[:-2], "a.bin: byte 395: truncated; expected 5 bytes per event"),
        (GOOD[:45] + bytes([34]) + GOOD[46:], "a.bin: byte 45: event 9 has x 34; expected 0 to 33"),
        (GOOD[:46] + bytes([34]) + GOOD[47:], "a.bin: byte 45: event 9 has y 34"),
        (GOOD[200:] + GOOD[:200], "a.bin: byte 200: event 40 at .* comes after"),
        (bytes([0, 240, 0, 0, 0]), "a.bin: no events"),
    ],
)
def test_damaged_recordings_are_named_with_their_place(data, words):
    with pytest.raises(InputError, match=words):
        parse("a.bin", data)


@given(data=damaged(GOOD))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_recording_or_refused_by_name(data):
    try:
        recording = parse("folder/a.bin", data)
    except InputError as error:
        assert str(error).startswith("folder/a.bin: ") and "\n" not in str(error)
    else:
        assert len(recording.t) and recording.x.max() < 34 and (np.diff(recording.t) >= 0).all()


def write_folders(root, train=100, test=10, count=40):
    for part, total in (("Train", train), ("Test", test)):
        for index in range(total):
            path = root / part / str(index % 10) / f"{index:05}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(nmnist(some_events(count, 34, index)))
    return root


def zipped(root, to):
    to.mkdir(parents=True, exist_ok=True)
    for part in ("Train", "Test"):
        with zipfile.ZipFile(to / f"{part}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted((root / part).rglob("*.bin"), reverse=True):
                archive.write(path, path.relative_to(root))
    return to


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write_folders(tmp_path_factory.mktemp("folders"))


@pytest.fixture(scope="module")
def archives(tmp_path_factory, folders):
    return zipped(folders, tmp_path_factory.mktemp("archives"))


def test_archives_folders_and_tonics_places_give_the_same(tmp_path, folders, archives):
    tonics = tmp_path / "tonics"
    for part in ("Train", "Test"):
        (tonics / "NMNIST").mkdir(parents=True, exist_ok=True)
        (tonics / "NMNIST" / f"{part.lower()}.zip").write_bytes((archives / f"{part}.zip").read_bytes())
    loaded = [load_nmnist(place, Framing(2), tmp_path / "cache") for place in (folders, archives, tonics)]
    for dataset in loaded:
        assert dataset.recordings == loaded[0].recordings and dataset.fingerprint == loaded[0].fingerprint
        assert dataset.train.images.shape == (90, 2, 34, 34, 2)
        assert [len(dataset.validation.labels), len(dataset.test.labels)] == [10, 10]
        assert sorted(dataset.validation.labels) == list(range(10))
    names = [name for split in loaded[0].recordings.values() for name in split]
    assert len(names) == len(set(names)) == 110
    for split, of_split in ((loaded[0].train, "train"), (loaded[0].test, "test")):
        assert split.labels.tolist() == [int(name.split("/")[1]) for name in loaded[0].recordings[of_split]]


def with_member(archives, to, name, data=GOOD):
    to.mkdir(exist_ok=True)
    for part in ("Train", "Test"):
        (to / f"{part}.zip").write_bytes((archives / f"{part}.zip").read_bytes())
    with zipfile.ZipFile(to / "Train.zip", "a", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name that is there twice
        archive.writestr(name, data)
    return to


@pytest.mark.parametrize("name", ["../Train/0/x.bin", "/Train/0/x.bin", "Train/../../x.bin", "Train/0/\n.bin"])
def test_names_that_leave_the_archives_folder_are_refused(tmp_path, archives, name):
    with pytest.raises(InputError, match=r"Train.zip: .*: not a name inside the folder"):
        load_nmnist(with_member(archives, tmp_path / "data", name), Framing(2, on_bad_recording="skip"), tmp_path)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("Train/0/x.bin", bytes(LARGEST + 5), rf"Train/0/x.bin: {LARGEST + 5} bytes; expected a recording of at most"),
        ("Train/ten/x.bin", GOOD, r"Train/ten/x.bin: expected Train/DIGIT/NAME.bin"),
        ("Train/0/x.bin", GOOD[:-1], r"Train/0/x.bin: byte 395: truncated"),
        ("Train/0/x.bin", b"", r"Train/0/x.bin: no events"),
    ],
)
def test_a_bad_member_fails_or_is_skipped(tmp_path, archives, name, data, words):
    place = with_member(archives, tmp_path / "data", name, data)
    with pytest.raises(InputError, match=words):
        load_nmnist(place, Framing(2), tmp_path)
    dataset = load_nmnist(place, Framing(2, on_bad_recording="skip"), tmp_path)
    assert len(dataset.skipped) == 1 and sum(map(len, dataset.recordings.values())) == 110


def test_other_and_hidden_files_in_an_archive_are_left_out_as_in_a_folder(tmp_path, archives):
    place = tmp_path / "data"
    place.mkdir()
    for part in ("Train", "Test"):
        (place / f"{part}.zip").write_bytes((archives / f"{part}.zip").read_bytes())
    with zipfile.ZipFile(place / "Train.zip", "a") as archive:
        for name in ("readme.txt", "0/._1.bin", "0/.DS_Store", "Thumbs.db"):
            archive.writestr(f"Train/{name}", b"hello")
        archive.writestr("__MACOSX/Train/0/2.bin", b"hello")
    with pytest.warns(UserWarning) as caught:
        dataset = load_nmnist(place, Framing(2), tmp_path)
    assert sum(map(len, dataset.recordings.values())) == 110
    assert str(caught[0].message) == (
        f"{place}/Train.zip: left out: hidden files or folders: 2, such as Train/0/._1.bin; "
        "files of other kinds: 1, such as Train/readme.txt"
    )


def test_a_lying_size_does_not_make_it_decompress_more(tmp_path, archives):
    """A member that says 100 bytes and holds 40 million: no more than it says are ever made."""
    place = with_member(archives, tmp_path / "data", "Train/0/x.bin", bytes(40_000_000))
    data = bytearray((place / "Train.zip").read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = (100).to_bytes(4, "little")
    (place / "Train.zip").write_bytes(data)
    with pytest.raises(InputError, match=r"Train/0/x.bin: byte \d+ of the archive: cannot be read: Bad CRC"):
        load_nmnist(place, Framing(2), tmp_path)


@given(data=damaged(b"".join(GOOD for _ in range(2))))
@settings(max_examples=5, deadline=None)
def test_what_is_no_archive_is_named(tmp_path_factory, data):
    place = tmp_path_factory.mktemp("none")
    (place / "Train.zip").write_bytes(data)
    with pytest.raises(InputError, match=r"Train.zip: cannot be read: .*sealkd prepare nmnist"):
        load_nmnist(place, Framing(2), place / "cache")


@pytest.mark.filterwarnings("ignore:.*Train.zip. left out:UserWarning")  # a bit in a name's ending
def test_damaged_archives_are_refused_or_read(tmp_path):
    small = zipped(write_folders(tmp_path / "folders", 110, 1, 4), tmp_path / "small")
    good = (small / "Train.zip").read_bytes()
    directory = good.index(b"PK\x01\x02")
    places = np.random.default_rng(0).integers([0] * 30 + [directory] * 30, len(good))
    for index, at in enumerate(places):
        changed = bytearray(good)
        changed[at] ^= 1 << index % 8
        (small / "Train.zip").write_bytes(changed)
        try:
            load_nmnist(small, Framing(1, size=2), tmp_path / f"cache{index}")
        except InputError as error:
            assert "Train.zip" in str(error) or "training recordings" in str(error), error


def test_a_directory_in_place_of_an_archive_is_named(tmp_path):
    (tmp_path / "Train.zip").mkdir()
    with pytest.raises(InputError, match=r"Train.zip: cannot be read: .*Is a directory"):
        load_nmnist(tmp_path, Framing(2), tmp_path / "cache")


def test_missing_data_are_told_how_to_get(tmp_path):
    with pytest.raises(InputError, match=r"Train.zip or .*: sealkd prepare nmnist --data-dir"):
        load_nmnist(tmp_path, Framing(2), tmp_path / "cache")


def test_without_tonic_the_command_that_installs_it_is_named(tmp_path, folders, monkeypatch):
    monkeypatch.setitem(sys.modules, "tonic.io", None)
    with pytest.raises(InputError, match=r'pip install "sealkd-jax\[events\]"'):
        load_nmnist(folders, Framing(2, on_bad_recording="skip"), tmp_path)


# --- The real recordings -----------------------------------------------------


@pytest.fixture(scope="module")
def real(real_data):
    return real_data / "nmnist"


@pytest.mark.parametrize("framing", [Framing(4), Framing(3, "count", 17)])
def test_real_recordings_keep_every_event(tmp_path, real, framing):
    dataset = load_nmnist(real, framing, tmp_path)
    size = framing.size or 34
    assert dataset.train.images.shape == (810, framing.timesteps, size, size, 2)
    assert dataset.validation.images.shape[0] == 90 and dataset.test.images.shape[0] == 100
    splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    for part, of_part in (("Train", ("train", "validation")), ("Test", ("test",))):
        with zipfile.ZipFile(real / f"{part}.zip") as archive:
            members = {info.filename: info.file_size for info in archive.infolist() if not info.is_dir()}
        assert sorted(name for split in of_part for name in dataset.recordings[split]) == sorted(members)
        for split in of_part:
            names, (images, labels) = dataset.recordings[split], splits[split]
            assert labels.tolist() == [int(name.split("/")[1]) for name in names]
            totals = images.sum(tuple(range(1, 5)), dtype=np.int64)
            assert totals.tolist() == [members[name] // 5 for name in names]  # 5 bytes an event
    counts = [np.bincount(split.labels, minlength=10) for split in splits.values()]
    assert np.abs(counts[1] / 90 - (counts[0] + counts[1]) / 900).max() <= 1 / 90  # stratified to one recording
    made = dataset.cache.stat().st_mtime_ns
    again = load_nmnist(real, framing, tmp_path)
    assert again.cache.stat().st_mtime_ns == made
    for old, new in zip(splits.values(), (again.train, again.validation, again.test), strict=True):
        np.testing.assert_array_equal(old.images, new.images)
        np.testing.assert_array_equal(old.labels, new.labels)
