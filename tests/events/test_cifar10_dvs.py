"""CIFAR10-DVS: AEDAT 4 as the camera maker's library writes it, what is damaged, and the published split.

`dv_processing_*.aedat4` were written by dv-processing 2.0.4: 400 made-up events in four packets, see `written`.
"""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealkd_jax.data.events import Framing, load_cifar10_dvs
from sealkd_jax.data.events.aedat4 import LARGEST, parse
from sealkd_jax.data.events.cifar10_dvs import CLASSES, SPLITS
from sealkd_jax.data.events.splits import published
from sealkd_jax.errors import InputError
from tests.helpers.event_files import aedat4, damaged, events, some_events

FILES = {name: Path(__file__).with_name(f"dv_processing_{name}.aedat4") for name in ("none", "lz4", "zstd")}


def written():
    e = np.arange(400)
    return e * 7 % 128, e * e % 128, e % 3 % 2, 10**15 + e * 250


@pytest.mark.parametrize("name", FILES)
def test_the_makers_files_are_read(name):
    for column, expected in zip(parse("a", FILES[name].read_bytes(), 128), written(), strict=True):
        np.testing.assert_array_equal(column, expected)


@pytest.mark.parametrize("name", FILES)
def test_tonics_reader_reads_the_same(name):
    pytest.importorskip("aedat", reason="aedat is not installed: tonic reads AEDAT 4 with it")
    from tonic.io import read_aedat4

    tonics = read_aedat4(str(FILES[name]))
    for column, field in zip(parse("a", FILES[name].read_bytes(), 128), "xypt", strict=True):
        np.testing.assert_array_equal(column, tonics[field])


@given(recording=events(128, longest=10**9), compression=st.integers(0, 4), cut=st.integers(1, 60))
@settings(max_examples=50, deadline=None)
def test_every_event_of_every_packet_is_read_back(recording, compression, cut):
    packets = [[column[at : at + cut] for column in recording] for at in range(0, len(recording.t), cut)]
    data = aedat4(*((0, type(recording)(*packet)) for packet in packets), compression=compression)
    for column, expected in zip(parse("a", data, 128), recording, strict=True):
        np.testing.assert_array_equal(column, expected)


@pytest.mark.parametrize("compression", [0, 1, 3])
def test_large_packets_are_read_whole(compression):
    recording = some_events(70_000, 128)
    for column, expected in zip(
        parse("a", aedat4((0, recording), compression=compression), 128), recording, strict=True
    ):
        np.testing.assert_array_equal(column, expected)


def test_the_first_stream_of_events_is_read():
    one, other = some_events(5, 128), some_events(6, 128, seed=1)
    np.testing.assert_array_equal(parse("a", aedat4((3, one), (1, other), (3, one)), 128).t, other.t)


GOOD = aedat4((0, some_events(20, 128)), (0, some_events(20, 128, 1)._replace(t=np.arange(20) + 10**6)), compression=1)
OUTSIDE = some_events(9, 128)._replace(x=np.array([0] * 7 + [128, 0]))
PLAIN = aedat4((0, some_events(20, 128)))
FIRST = 14 + 4 + 44  # where the packets begin


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "byte 0: expected b'#!AER-DAT4.0"),
        (b"#!AER-DAT2.0\r\n" + GOOD[14:], "byte 0: expected .* AEDAT 4 file, got b'#!AER-DAT2.0"),
        (GOOD[:16], "byte 14: truncated or damaged"),
        (GOOD[:40], "byte 14: truncated or damaged: 44 bytes declared, 22 found"),
        (GOOD[:FIRST], rf"byte {FIRST}: truncated or damaged: the packets end at byte {len(GOOD)} of {FIRST}"),
        (GOOD[:-1], rf"the packets end at byte {len(GOOD)} of {len(GOOD) - 1}"),
        (
            aedat4((0, some_events(20, 128)), end=FIRST + 50),
            rf"byte {FIRST}: truncated or damaged: \d+ bytes declared, 42 found",
        ),
        (aedat4(), "no events"),
        (aedat4((0, some_events(0, 128))), "no events"),
        (aedat4((0, OUTSIDE)), rf"packet at byte {FIRST}: event 7 has x 128; expected 0 to 127"),
        (
            aedat4((0, some_events(9, 128)), (0, some_events(9, 128))),
            r"packet at byte \d+: event 9 at .* comes after",
        ),
        (aedat4((0, some_events(9, 128)), compression=7), "compression 7; expected 0 to 4"),
        (
            PLAIN.replace(struct.pack("<I", 20) + PLAIN[-320:-316], struct.pack("<I", 21) + PLAIN[-320:-316]),
            "packet declares 21 events",
        ),
    ],
)
def test_damaged_recordings_are_named_with_their_place(data, words):
    with pytest.raises(InputError, match=rf"^a.aedat4: .*{words}"):
        parse("a.aedat4", data, 128)


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_anywhere_is_refused(name):
    data = FILES[name].read_bytes()
    end = parse_end(data)
    for length in [*range(0, end, 13), end - 1]:
        with pytest.raises(InputError, match=r"a.aedat4: "):
            parse("a.aedat4", data[:length], 128)


def parse_end(data):
    """After the last packet; what follows is the maker's table of packets."""
    at = 14 + 4 + struct.unpack_from("<I", data, 14)[0]
    for _ in range(4):
        at += 8 + struct.unpack_from("<I", data, at + 4)[0]
    return at


@pytest.mark.parametrize("data", [GOOD, PLAIN, *(path.read_bytes() for path in FILES.values())])
def test_any_bytes_are_a_recording_or_refused_by_name(data):
    @given(data=damaged(data))
    @settings(max_examples=150, deadline=None)
    def check(data):
        try:
            recording = parse("folder/a.aedat4", data, 128)
        except InputError as error:
            assert str(error).startswith("folder/a.aedat4: ") and "\n" not in str(error)
        else:
            assert len(recording.t) and recording.x.max() < 128 and (np.diff(recording.t) >= 0).all()

    check()


@pytest.mark.parametrize("compression", [1, 3])
def test_a_packet_that_unpacks_to_too_much_is_refused(compression):
    import lz4.frame
    import zstandard

    pack = {1: lz4.frame.compress, 3: zstandard.compress}[compression]
    bomb = pack(bytes(LARGEST + 1))
    header = aedat4(compression=compression, end=FIRST + 8 + len(bomb))
    with pytest.raises(InputError, match=rf"byte {FIRST}: truncated or damaged: more than {LARGEST} bytes of events"):
        parse("a.aedat4", header + struct.pack("<II", 0, len(bomb)) + bomb, 128)


def write(root, each=3):
    """For each class the first few recordings of each split."""
    for name, parts in published(SPLITS["ours"]).items():
        for number in (number for numbers in parts.values() for number in numbers[:each]):
            path = root / "CIFAR10DVS" / name / f"cifar10_{name}_{number}.aedat4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(aedat4((0, some_events(25, 128, number)), compression=number % 5))
    return root


def test_recordings_are_split_as_published(tmp_path):
    dataset = load_cifar10_dvs(write(tmp_path), Framing(2), tmp_path / "cache")
    assert dataset.train.images.shape == (30, 2, 48, 48, 2) and dataset.classes == CLASSES
    for split, of_split in (("train", dataset.train), ("validation", dataset.validation), ("test", dataset.test)):
        expected = {
            f"CIFAR10DVS/{name}/cifar10_{name}_{number}.aedat4": CLASSES.index(name)
            for name, parts in published(SPLITS["ours"]).items()
            for number in parts[split][:3]
        }
        assert dict(zip(dataset.recordings[split], of_split.labels.tolist(), strict=True)) == expected
        assert (of_split.images.sum((1, 2, 3, 4), dtype=int) == 25).all()


@pytest.mark.parametrize("name", ["lorry/cifar10_lorry_1", "cat/cifar10_dog_1", "cat/cifar10_cat_1000", "cat/1"])
def test_unknown_recordings_fail_or_are_skipped(tmp_path, name):
    path = write(tmp_path, 1) / "CIFAR10DVS" / f"{name}.aedat4"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(GOOD)
    with pytest.raises(InputError, match=rf"{name}.aedat4: expected CLASS/cifar10_CLASS_NUMBER.aedat4"):
        load_cifar10_dvs(tmp_path, Framing(2), tmp_path / "cache")
    dataset = load_cifar10_dvs(tmp_path, Framing(2, on_bad_recording="skip"), tmp_path / "cache")
    assert len(dataset.skipped) == 1 and len(dataset.train.labels) == 10


def test_the_makers_files_come_through_the_whole_way(tmp_path):
    write(tmp_path, 1)
    number = published(SPLITS["ours"])["cat"]["test"][1]
    path = tmp_path / "CIFAR10DVS" / "cat" / f"cifar10_cat_{number}.aedat4"
    path.write_bytes(FILES["lz4"].read_bytes())
    dataset = load_cifar10_dvs(tmp_path, Framing(4, "count", 128), tmp_path / "cache")
    images = dataset.test.images[dataset.recordings["test"].index(f"CIFAR10DVS/cat/{path.name}")]
    expected = np.zeros((4, 128, 128, 2), int)
    x, y, p, _ = written()
    np.add.at(expected, (np.repeat(np.arange(4), 100), y, x, p), 1)
    np.testing.assert_array_equal(images, expected)


def test_missing_data_are_told_how_to_get(tmp_path):
    with pytest.raises(InputError, match=r"CIFAR10DVS .*sealkd prepare cifar10-dvs --data-dir"):
        load_cifar10_dvs(tmp_path, Framing(2), tmp_path / "cache")
    (tmp_path / "CIFAR10DVS/cat").mkdir(parents=True)
    with pytest.raises(InputError, match=r"expected files FOLDER/NAME.aedat, found cat"):
        load_cifar10_dvs(tmp_path, Framing(2), tmp_path / "cache")
