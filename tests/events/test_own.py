"""A user's own recordings: the formats, names, units and sensors that people have, and what is refused."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from sealkd_jax.data import Framing, frames_from_events, load
from sealkd_jax.data.events import read_frames
from sealkd_jax.data.events.columns import events_of, named_columns
from sealkd_jax.data.events.own import read_recording
from sealkd_jax.data.events.recordings import Events
from sealkd_jax.errors import InputError
from tests.helpers.event_files import aedat4, damaged, nmnist, some_events

WIDTH, HEIGHT = 24, 16


def recording(seed=0, count=50):
    """Events of a sensor of 24 x 16, with its last column and row, later at each place of the file."""
    x, y, p, t = some_events(count, HEIGHT, seed)
    x, t = x * 3 // 2, np.unique(t * 7)[:count]
    x[-1], y[-1], p[:2] = WIDTH - 1, HEIGHT - 1, (0, 1)
    return Events(x, y, p, t)


def saved(save, *arrays, **named):
    file = io.BytesIO()
    save(file, *arrays, **named)
    return file.getvalue()


def structured(events, names="xytp", dtype="<i8"):
    array = np.zeros(len(events.t), [(name, dtype) for name in names])
    for name, column in zip(names, "xytp", strict=True):
        array[name] = getattr(events, column)
    return array


def text(events, header, order, delimiter=",", unit=1):
    columns = {**events._asdict(), "t": [f"{time / unit:.6f}" if unit > 1 else time for time in events.t]}
    rows = zip(*(columns[name] for name in order), strict=True)
    return "\n".join([*header, *(delimiter.join(map(str, row)) for row in rows)]).encode()


def hdf5(names, group="events", extra=(), whole=False, **how):
    import h5py

    file = io.BytesIO()
    with h5py.File(file, "w") as archive:
        if whole:
            archive["CD/events"] = structured(RECORDING)
        for name, column in zip(names, "xytp", strict=True):
            archive.create_dataset(f"{group}/{name}", data=getattr(RECORDING, column), **how)
        for name in extra:
            archive[name] = np.arange(3)
    return file.getvalue()


RECORDING = recording()
X, Y, P, T = RECORDING
SIGNED = RECORDING._replace(p=2 * P - 1)
FILES = {
    "structured.npy": saved(np.save, structured(RECORDING)),
    "rows.npy": saved(np.save, np.stack([T, X, Y, P])),
    "xypt.npy": saved(np.save, np.stack([X, Y, P, T], 1).astype(float)),
    "columns.npz": saved(np.savez, x=X.astype(np.uint16), y=Y[:, None], timestamp=T, polarity=P.astype(bool)),
    "one.npz": saved(np.savez_compressed, events=structured(SIGNED)),
    "arr_0.npz": saved(np.savez, np.stack([X, Y, T, P], 1)),
    "named.csv": text(SIGNED, ["# of my camera", '"T [us]","Pol","X","Y"'], "tpxy"),
    "plain.csv": text(RECORDING, [], "xytp", ";"),
    "seconds.txt": text(RECORDING, [], "txyp", " ", 10**6),
    "ms.csv": text(RECORDING, ["time_ms\tcol\trow\ton"], "txyp", "\t", 10**3),
    "group.h5": hdf5("xytp", extra=("events/ms_to_idx", "t_offset")),
    "names.hdf5": hdf5(("xs", "ys", "ts", "ps"), compression="gzip"),
    "packed.aedat4": aedat4((0, RECORDING), compression=1),
    "digit.bin": nmnist(RECORDING),
}


@pytest.mark.parametrize("name", FILES)
def test_every_format_and_name_gives_the_same_events(name, tmp_path):
    (tmp_path / name).write_bytes(FILES[name])
    found = read_recording(tmp_path / name)
    for column in "xyp":
        np.testing.assert_array_equal(getattr(found, column), getattr(RECORDING, column))
    np.testing.assert_allclose(found.t, T, atol=1)


@pytest.mark.parametrize(
    ("name", "column", "expected"),
    [
        ("t", [3, 5], [3, 5]),
        ("t", [0.25, 1.5], [250_000, 1_500_000]),
        ("t_us", [0.5, 1.5], [0, 1]),
        ("ts (ms)", [1, 2], [1000, 2000]),
        ("time[s]", np.array([1, 2], np.uint8), [1_000_000, 2_000_000]),
        ("timestamp_ns", [1500, 1_700_000_000_000_002_000 - 1_699_999_999_000_000_000], [1, 1_000_002]),
        ("t", np.array(["2026-01-01T00:00:00", "2026-01-01T00:00:02"], "M8[s]"), [0, 2_000_000]),
        ("t", [-4, 6], [0, 10]),
    ],
)
def test_the_unit_of_time_is_stated_or_found(name, column, expected):
    columns = {"x": np.array([0, 1]), "y": np.array([0, 1]), "p": np.array([0, 1]), name: np.asarray(column)}
    assert events_of("a", columns).t.tolist() == expected


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x": None}, "no column x; found y, p, t; expected x, y, t, p"),
        ({"xs": [0, 1]}, "several columns for x among"),
        ({"x": [0.5, 1]}, "row 0: x is 0.5; expected a whole number"),
        ({"y": [0, np.nan]}, "row 1: y is nan"),
        ({"p": [1, 2]}, r"polarities \[1, 2\]; expected 0 and 1, or -1 and 1"),
        ({"p": [0, -1]}, r"polarities \[-1, 0\]"),
        ({"t": [2, 1]}, "row 1: event 1 at 1 µs comes after one at 2 µs"),
        ({"t": [1, np.inf]}, "row 1: time is not finite"),
        ({"t": np.array([1, 2**63], np.uint64)}, "times up to"),
        ({"t": [1, 10**11]}, "expected at most an hour"),
        ({"x": [0, 1, 2]}, "expected columns of one length"),
        ({"x": ["a", "b"]}, "x: expected numbers"),
        ({"x": [-1, 0]}, "event 0 has x -1"),
    ],
)
def test_columns_that_are_no_events_are_refused(changes, words):
    columns = {"x": [0, 1], "y": [0, 1], "p": [0, 1], "t": [0, 1]} | changes
    with pytest.raises(InputError, match=f"^a: .*{words}"):
        events_of("a", {name: np.asarray(column) for name, column in columns.items() if column is not None})


def test_columns_without_names_are_told_apart_by_their_values_or_refused():
    table = np.stack([T, P, X, Y], 1)
    np.testing.assert_array_equal(named_columns("a", table)["y"], Y)
    for wrong in (np.zeros((5, 4)), np.stack([T, T, X, P], 1), np.stack([T, P, P, X], 1)):
        with pytest.raises(InputError, match="it is unclear which columns are x, y, t and p"):
            named_columns("a", wrong)
    with pytest.raises(InputError, match=r"expected \[E, 4\], or columns"):
        named_columns("a", np.zeros((5, 3)))


def test_frames_of_arrays_keep_the_proportions_of_the_sensor():
    whole = frames_from_events(X, Y, T / 1e6, 2 * P - 1, timesteps=3, sensor_size=(WIDTH, HEIGHT))
    expected = np.zeros((3, HEIGHT, WIDTH, 2), int)
    np.add.at(expected, (np.minimum((T - T[0]) * 3 // (T[-1] - T[0]), 2), Y, X, P), 1)
    assert whole.dtype == np.uint16
    np.testing.assert_array_equal(whole.sum((1, 2, 3)), expected.sum((1, 2, 3)))
    np.testing.assert_array_equal(whole.sum(0), expected.sum(0))
    small = frames_from_events(X, Y, T, P, timesteps=3, sensor_size=(WIDTH, HEIGHT), frame_size=12, by="count")
    assert small.shape == (3, 8, 12, 2) and small.sum() == len(T)
    np.testing.assert_array_equal(small.sum((0, 3)), expected.sum((0, 3)).reshape(8, 2, 12, 2).sum((1, 3)))
    with pytest.raises(InputError, match=r"events: row \d+: event \d+ has x \d+; expected 0 to 9"):
        frames_from_events(X, Y, T, P, timesteps=3, sensor_size=(10, HEIGHT))


def folder(root):
    """A folder a class, 20 recordings of each in several formats; the number of events is that of the recording."""
    for number in range(40):
        path = root / ("left", "right")[number % 2] / f"{number:02}{('.npy', '.csv', '.npz')[number % 3]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        events = recording(number, 20 + number)
        path.write_bytes(
            {
                ".npy": saved(np.save, structured(events)),
                ".csv": text(events, ["x,y,t,p"], "xytp"),
                ".npz": saved(np.savez, **events._asdict()),
            }[path.suffix]
        )
    return root


def test_recordings_in_folders_are_a_data_set(tmp_path):
    root = folder(tmp_path / "gestures")
    with pytest.warns(UserWarning, match="gestures: sensor of 24 x 16 pixels, as the largest coordinates say"):
        found = load(f"events:{root}", framing=Framing(2), cache_dir=tmp_path / "cache")
    given = load(f"events:{root}", framing=Framing(2, sensor_size=(WIDTH, HEIGHT)), cache_dir=tmp_path / "cache")
    again = load(f"events:{root}", framing=Framing(2), cache_dir=tmp_path / "cache")  # made before: no warning
    assert found.fingerprint == given.fingerprint == again.fingerprint and found.sensor == again.sensor == (24, 16)
    assert found.classes == ("left", "right") and found.train.images.shape == (28, 2, HEIGHT, WIDTH, 2)
    for name, images, labels in zip(
        ("train", "validation", "test"), *zip(found.train, found.validation, found.test, strict=True), strict=True
    ):
        for file, image, label in zip(found.recordings[name], images, labels, strict=True):
            number = int(file.split("/")[1][:2])
            assert label == number % 2 and image.sum(dtype=int) == len(recording(number, 20 + number).t)
    first = root / found.recordings["train"][0]
    alone = read_frames(f"events:{root}", first, Framing(2, sensor_size=(WIDTH, HEIGHT)))
    np.testing.assert_array_equal(alone, found.train.images[0])
    small = load(f"events:{root}", framing=Framing(2, size=12, sensor_size=(24, 16)), cache_dir=tmp_path / "small")
    assert small.train.images.shape == (28, 2, 8, 12, 2)


def test_a_bad_recording_is_named_or_skipped(tmp_path):
    root = folder(tmp_path / "gestures")
    (root / "left" / "02.npz").write_bytes(b"PK")
    sensor = (WIDTH, HEIGHT)
    with pytest.raises(InputError, match=r"left/02.npz: cannot be read: .*; on_bad_recording"):
        load(f"events:{root}", framing=Framing(2, sensor_size=sensor), cache_dir=tmp_path / "cache")
    with pytest.warns(UserWarning, match="1 recordings left out: .*left/02.npz"):
        framing = Framing(2, on_bad_recording="skip", sensor_size=sensor)
        load(f"events:{root}", framing=framing, cache_dir=tmp_path / "cache")
    (root / "left" / "02.npz").unlink()
    with pytest.raises(InputError, match=r"left/.*event \d+ has x \d+; expected 0 to 7"):
        load(f"events:{root}", framing=Framing(2, sensor_size=(8, 16)), cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("name", [name for name in FILES if not name.endswith(("aedat4", "bin"))])
def test_any_bytes_are_a_recording_or_refused_by_name(name, tmp_path_factory):
    path = tmp_path_factory.mktemp("folder") / name

    @given(data=damaged(FILES[name]))
    @settings(max_examples=40, deadline=None)
    def check(data):
        path.write_bytes(data)
        try:
            found = read_recording(path)
        except InputError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
        else:
            assert len(found.t) and (np.diff(found.t) >= 0).all() and set(found.p) <= {0, 1}

    check()


def test_an_archive_that_unpacks_to_too_much_and_files_elsewhere_are_refused(tmp_path, monkeypatch):
    h5py = pytest.importorskip("h5py")
    monkeypatch.setattr("sealkd_jax.data.events.own.LARGEST", 2**20)
    zeros = np.zeros(2**18)
    (tmp_path / "a.npz").write_bytes(saved(np.savez_compressed, x=zeros, y=zeros, t=zeros, p=zeros))
    (tmp_path / "secret").write_bytes(bytes(400))
    with h5py.File(tmp_path / "b.h5", "w") as file:
        for column in "xytp":
            file.create_dataset(column, (50,), "i8", external=[(str(tmp_path / "secret"), 0, 400)])
    with h5py.File(tmp_path / "c.h5", "w") as file:
        for column in "xytp":
            file.create_dataset(column, (2**30,), "i8", chunks=True, compression="gzip")
    for name, words in (("a.npz", "more than 1 MiB"), ("b.h5", "in the file itself"), ("c.h5", "more than 1 MiB")):
        with pytest.raises(InputError, match=f"{name}: cannot be read: .*{words}"):
            read_recording(tmp_path / name)


def test_ncaltech101_is_read_as_published(tmp_path):
    for number in range(20):
        path = tmp_path / "Caltech101" / ("ant", "yin_yang")[number % 2] / f"image_{number:04}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(nmnist(some_events(30, 180, number)))
    data = load("n-caltech101", data_dir=tmp_path, framing=Framing(2, size=64), cache_dir=tmp_path / "cache")
    assert data.train.images.shape == (14, 2, 48, 64, 2) and data.classes == ("ant", "yin_yang")
    with pytest.raises(InputError, match=r"expected Caltech101 or .*sealkd prepare n-caltech101"):
        load("n-caltech101", data_dir=tmp_path / "none", framing=Framing(2), cache_dir=tmp_path)


def test_the_pages_example_runs(capsys):
    page = (Path(__file__).parents[2] / "docs/data.md").read_text()
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "frames_from_events" in block]
    names = {}
    exec(code, names)
    assert names["frames"].shape == (4, 48, 64, 2) and names["frames"].sum() == 3


@pytest.mark.slow
def test_a_run_on_own_recordings_knows_their_sensor(tmp_path, monkeypatch):
    from sealkd_jax.programs import distill

    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "gestures")
    quick = {"epochs": 1, "teacher_epochs": 1, "devices": 1, "width": 0.1, "teacher_width": 0.1}
    run = distill("events", dataset="events:gestures", timesteps=2, views=1, out="run", **quick)
    config = json.loads((run.directory / "config.json").read_text())["options"]
    assert config["sensor_size"] == [WIDTH, HEIGHT] and config["batch_size"] == 8
