"""CIFAR10-DVS in AEDAT 2 and DVS128 Gesture in AEDAT 3.1: events, labels, splits by name, archives, damage."""

import hashlib
import struct
import tarfile
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings

from sealkd_jax.data import Framing, load, prepare
from sealkd_jax.data.events import aedat, load_dvs_gesture, originals
from sealkd_jax.data.events.cifar10_dvs import CLASSES, SPLITS
from sealkd_jax.data.events.splits import published
from sealkd_jax.errors import InputError
from tests.helpers.event_files import damaged, events, some_events

HEADER_3 = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"


def aedat2(recording):
    x, y, p, t = recording
    address = (127 - x) << 8 | (127 - y) << 1 | 1 - p
    return b"#!AER-DAT2.0\r\n# made\r\n" + np.stack([address, t], 1).astype(">u4").tobytes()


def aedat3(recording, cut=20, spare=2):
    """Packets of `cut` events, each after a packet of another type, with room for more, and an invalid event."""
    body = b""
    for start in range(0, len(recording.t), cut):
        x, y, p, t = (column[start : start + cut] for column in recording)
        words = np.stack([x << 17 | y << 2 | p << 1 | 1, t & 0x7FFFFFFF], 1)
        words = np.concatenate([words, [[5 << 17, 0]], np.zeros((spare, 2), int)]).astype("<u4").tobytes()
        body += struct.pack("<HHIIIIII", 0, 1, 8, 4, 0, 1, 1, 1) + bytes(8)
        size, overflow = len(words) // 8, int(t[0]) >> 31
        body += struct.pack("<HHIIIIII", 1, 1, 8, 4, overflow, size, size - spare, size - spare - 1) + words
    return HEADER_3 + body


@given(recording=events(128, longest=2**31 - 1))
@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("write", [aedat2, aedat3])
def test_every_event_is_read_back(recording, write):
    for column, expected in zip(aedat.parse("a", write(recording)), recording, strict=True):
        np.testing.assert_array_equal(column, expected)


def test_an_overflow_of_the_time_counter_goes_on():
    recording = some_events(30, 128)._replace(t=np.sort(np.r_[2**31 - 10 : 2**31, 2**31 : 2**31 + 20]))
    np.testing.assert_array_equal(aedat.parse("a", aedat3(recording, 10)).t, recording.t)


GOOD = {"2": aedat2(some_events(30, 128)), "3": aedat3(some_events(30, 128))}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "byte 0: expected AEDAT 2.0 or 3.1"),
        (b"#!AER-DAT4.0\r\n", "byte 0: expected AEDAT 2.0 or 3.1, .*DAT4.0"),
        (GOOD["2"][:9], "byte 0: expected AEDAT"),
        (GOOD["2"][:20], "byte 14: truncated within its header"),
        (GOOD["2"][:-3], r"byte \d+: truncated; expected 8 bytes per event"),
        (GOOD["2"][:22] + b"\xff" + GOOD["2"][23:], "byte 22: address .*; expected one of a DVS128"),
        (GOOD["3"][:40], "byte 40: truncated within its header"),
        (GOOD["3"].replace(b"RAW", b"PNG"), "byte 0: expected the format RAW"),
        (GOOD["3"][:-1], r"byte \d+: truncated or damaged: a packet of \d+ of \d+ events of 8 bytes"),
        (GOOD["3"] + b"1", r"byte \d+: truncated within the header of a packet"),
    ],
)
def test_damaged_files_are_named_with_their_place(data, words):
    with pytest.raises(InputError, match=f"^a: {words}"):
        aedat.parse("a", data)


@pytest.mark.parametrize("version", GOOD)
def test_any_bytes_are_events_or_refused_by_name(version):
    @given(data=damaged(GOOD[version]))
    @settings(max_examples=200, deadline=None)
    def check(data):
        try:
            found = aedat.parse("folder/a.aedat", data)
        except InputError as error:
            assert str(error).startswith("folder/a.aedat: byte ") and "\n" not in str(error)
        else:
            assert len({len(column) for column in found}) == 1

    check()


# ---- CIFAR10-DVS


def write_cifar(root, numbers=range(0, 1000, 50)):
    for name in CLASSES:
        for number in numbers:
            path = root / "CIFAR10DVS" / name / f"cifar10_{name}_{number}.aedat"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(aedat2(some_events(25, 128, number)))
    return root


@pytest.mark.filterwarnings("ignore:cifar10-dvs. no .* example:UserWarning")
@pytest.mark.parametrize("split", SPLITS)
def test_recordings_as_published_are_split_by_name(tmp_path, split):
    numbers = range(0, 1000, 29)
    write_cifar(tmp_path, numbers)
    dataset = load("cifar10-dvs", data_dir=tmp_path, framing=Framing(2, size=8), cache_dir=tmp_path, split=split)
    for part, names in dataset.recordings.items():
        expected = {
            f"CIFAR10DVS/{name}/cifar10_{name}_{number}.aedat"
            for name, parts in published(SPLITS[split]).items()
            for number in set(parts[part]) & set(numbers)
        }
        assert set(names) == expected and len(names) == len(expected)


def test_the_splits_of_others_are_theirs():
    torch = pytest.importorskip("torch")
    files = [(name, file) for name in CLASSES for file in sorted(f"cifar10_{name}_{n}.npz" for n in range(1000))]
    generator = torch.Generator().manual_seed(42)
    _, test = torch.utils.data.random_split(files, [9000, 1000], generator=generator)
    theirs = {(name, int(file.split("_")[-1][:-4])) for name, file in test}
    assert theirs == {(name, number) for name, of in published(SPLITS["seal"]).items() for number in of["test"]}


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_has_every_recording_once(split):
    sizes = []
    for parts in published(SPLITS[split]).values():
        assert sorted(number for numbers in parts.values() for number in numbers) == list(range(1000))
        assert len(parts["validation"]) >= 70
        sizes.append(len(parts["test"]))
    assert sum(sizes) == (3000 if split == "tet" else 1000)
    if split == "tet":
        assert all(parts["test"] == list(range(700, 1000)) for parts in published(SPLITS[split]).values())


def test_a_split_for_other_data_and_an_unknown_one_are_refused(tmp_path):
    with pytest.raises(InputError, match="split seal: of cifar10-dvs alone; digits has one"):
        load("digits", split="seal")
    with pytest.raises(InputError, match="split mine: unknown; expected one of ours, seal, tet"):
        load("cifar10-dvs", data_dir=write_cifar(tmp_path), framing=Framing(2), cache_dir=tmp_path, split="mine")


# ---- DVS128 Gesture

LABELS = "class,startTime_usec,endTime_usec\n1,1000,60000\n8,60000,90000\n8,90000,100000\n11,100000,300001\n"


def write_gestures(root, users=(1, 2, 3, 24), labels=LABELS):
    folder = root / "DvsGesture"
    folder.mkdir()
    for user in users:
        (folder / f"user{user:02}_led.aedat").write_bytes(aedat3(some_events(600, 128, user)))
        (folder / f"user{user:02}_led_labels.csv").write_text(labels)
    (folder / "trials_to_train.txt").write_text("user01_led.aedat\n")
    return root


@pytest.mark.filterwarnings("ignore:.*left out. files of other kinds:UserWarning")
def test_gestures_are_cut_out_as_their_labels_say(tmp_path):
    dataset = load_dvs_gesture(write_gestures(tmp_path), Framing(2, size=8), tmp_path / "cache")
    assert [len(s.labels) for s in (dataset.train, dataset.validation, dataset.test)] == [8, 4, 4]
    assert dataset.test.labels.tolist() == [0, 7, 7, 10]
    times = some_events(600, 128, 24).t
    inside = [
        ((times >= a) & (times < b)).sum()
        for a, b in ((1000, 60000), (60000, 90000), (90000, 100000), (100000, 300001))
    ]
    assert dataset.test.images.sum((1, 2, 3, 4), dtype=int).tolist() == inside
    assert all(name.startswith("DvsGesture/user24_led.aedat ") for name in dataset.recordings["test"])


@pytest.mark.filterwarnings("ignore:.*left out. files of other kinds:UserWarning")
@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("", "line 1: expected class,startTime_usec,endTime_usec"),
        ("class,startTime_usec,endTime_usec\n12,1,2\n", "line 2: '12,1,2'; expected a class from 1 to 11"),
        ("class,startTime_usec,endTime_usec\n1,5,2\n", "line 2: '1,5,2'"),
        ("class,startTime_usec,endTime_usec\n1,900000000,900000001\n", "no events"),
        (None, "user03_led_labels.csv: cannot be read"),
    ],
)
def test_wrong_labels_are_named_or_skipped(tmp_path, labels, words):
    write_gestures(tmp_path)
    path = tmp_path / "DvsGesture/user03_led_labels.csv"
    path.unlink() if labels is None else path.write_text(labels)
    (tmp_path / "DvsGesture/user02_led.aedat").touch()
    with pytest.raises(InputError, match=words):
        load_dvs_gesture(tmp_path, Framing(2, size=8), tmp_path / "cache")


# ---- archives


def archive_of(name, root):
    source = root / "archives"
    source.mkdir()
    if name == "dvs-gesture":
        write_gestures(root)
        with tarfile.open(source / "DvsGesture.tar.gz", "w:gz") as archive:
            archive.add(root / "DvsGesture", "DvsGesture")
        return source / "DvsGesture.tar.gz"
    write_cifar(root)
    for kind in CLASSES:
        with zipfile.ZipFile(source / f"{kind}.zip", "w") as archive:
            for path in sorted((root / "CIFAR10DVS" / kind).iterdir()):
                archive.write(path, f"{kind}/{path.name}")
    return source


@pytest.mark.filterwarnings("ignore:.*no .* example:UserWarning", "ignore:.*left out. files of other:UserWarning")
@pytest.mark.parametrize("name", ["cifar10-dvs", "dvs-gesture"])
def test_official_archives_are_known_by_their_checksums_and_unpacked(name, tmp_path, monkeypatch):
    source = archive_of(name, tmp_path)
    paths = sorted(source.iterdir()) if source.is_dir() else [source]
    with pytest.raises(InputError, match=r"whole, but another archive than the published one: MD5 \w+, expected \w+"):
        prepare(name, tmp_path / "data", archive=source)
    sums = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in paths}
    monkeypatch.setitem(originals.MD5, name, sums)
    prepare(name, tmp_path / "data", archive=source)
    dataset = load(name, data_dir=tmp_path / "data", framing=Framing(2, size=8), cache_dir=tmp_path / "cache")
    assert sum(map(len, dataset.recordings.values())) == (200 if name == "cifar10-dvs" else 16)
    paths[0].write_bytes(paths[0].read_bytes()[:-300])
    with pytest.raises(InputError, match=r"damaged \(.*\); download it again"):
        prepare(name, tmp_path / "other", archive=source)
    paths[0].unlink()
    with pytest.raises(InputError, match="cannot be read: No such file"):
        prepare(name, tmp_path / "other", archive=source)
    assert not (tmp_path / "other").exists()
