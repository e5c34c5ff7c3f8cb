"""A user's own arrays in an .npz file: what is read, and that everything else is refused in a line."""

import io
import os
import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib import format as npy

from sealkd_jax.data import Dataset, Split, load
from sealkd_jax.data.arrays import load_npz
from sealkd_jax.errors import InputError


def make_arrays(train: int = 60, test: int = 9, shape: tuple[int, ...] = (4, 3, 2), classes: int = 3):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (train + test, *shape)).astype(np.uint8)
    labels = np.arange(train + test) % classes
    return {"x_train": images[:train], "y_train": labels[:train], "x_test": images[train:], "y_test": labels[train:]}


def save(directory: Path, name: str = "mine.npz", **arrays) -> Path:
    np.savez(directory / name, **arrays)
    return directory / name


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_npz(path)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


def test_every_example_is_in_one_split_and_a_tenth_of_each_class_is_held_out(tmp_path):
    arrays = make_arrays()
    dataset = load_npz(save(tmp_path, **arrays))
    assert dataset.name == "mine" and dataset.classes == ("0", "1", "2")
    assert np.bincount(dataset.train.labels).tolist() == [18, 18, 18]
    assert np.bincount(dataset.validation.labels).tolist() == [2, 2, 2]
    images = np.concatenate([dataset.train.images, dataset.validation.images])
    labels = np.concatenate([dataset.train.labels, dataset.validation.labels])
    rows = {(image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)}
    assert rows == {(image.tobytes(), int(y)) for image, y in zip(arrays["x_train"], arrays["y_train"], strict=True)}
    np.testing.assert_array_equal(dataset.test.images, arrays["x_test"])
    np.testing.assert_array_equal(dataset.test.labels, arrays["y_test"])


def test_frames_of_events_are_read_as_such(tmp_path):
    frames = {key: a.astype(np.uint16) if key[0] == "x" else a for key, a in make_arrays(shape=(5, 4, 3, 2)).items()}
    dataset = load_npz(save(tmp_path, **frames))
    assert dataset.frames == 5 and dataset.mean.tolist() == [0, 0]
    np.testing.assert_array_equal(dataset.test.images, frames["x_test"])


def test_a_validation_split_and_names_of_classes_are_taken_as_they_are(tmp_path):
    arrays, more = make_arrays(), make_arrays(train=5)
    path = save(
        tmp_path,
        **arrays,
        x_val=more["x_train"],
        y_val=more["y_train"],
        classes=["ant", "bee", "cat", "dog"],
        coarse=np.array([{}], object),  # not asked for, so not looked at
    )
    with pytest.warns(UserWarning, match=r"1 keys are not read: coarse; the keys are x_train,"):
        dataset = load_npz(path)
    assert dataset.classes == ("ant", "bee", "cat", "dog")
    np.testing.assert_array_equal(dataset.train.images, arrays["x_train"])
    np.testing.assert_array_equal(dataset.validation.images, more["x_train"])


@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 4)) | st.tuples(*[st.integers(1, 4)] * 3),
    dtype=st.sampled_from(["uint8", "int16", "int64", "uint64", ">i4"]),
    column=st.booleans(),
    fortran=st.booleans(),
    packed=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_any_layout_of_the_same_numbers_is_the_same_data_set(tmp_path_factory, shape, dtype, column, fortran, packed):
    arrays = make_arrays(train=30, shape=shape)
    written = {key: value.astype(dtype) if key[0] == "y" else value for key, value in arrays.items()}
    if column:
        written = {key: value[:, None] if key[0] == "y" else value for key, value in written.items()}
    if fortran:
        written = {key: np.asfortranarray(value) for key, value in written.items()}
    path = tmp_path_factory.mktemp("npz") / "a.npz"
    (np.savez_compressed if packed else np.savez)(path, **written)
    dataset = load_npz(path)
    expected = arrays["x_test"].reshape(9, *shape[:2], -1)
    np.testing.assert_array_equal(dataset.test.images, expected)
    np.testing.assert_array_equal(dataset.test.labels, arrays["y_test"])
    assert dataset.test.labels.dtype == np.int32
    plain = load_npz(save(path.parent, **arrays))
    assert dataset.fingerprint == plain.fingerprint


ZEROS, LABELS, RAMP = (
    np.zeros((60, 4, 3, 2), np.uint8),
    np.arange(60) % 3,
    np.linspace(0, 1, 60 * 24).reshape(60, 4, 3, 2),
)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x_train": None, "y_test": None}, "no x_train, y_test; expected the keys x_train, y_train, x_test, y_test"),
        ({"x_train": None, "y_test": None}, "; found y_train, x_test"),
        ({"x_test": np.zeros((9, 4, 4, 2), np.uint8)}, "test images: expected"),
        ({"x_test": np.zeros((9, 4, 0, 2), np.uint8)}, "x_test: expected uint8 [N, H, W, C] or [N, H, W], pixels"),
        ({"x_test": np.zeros((9, 4, 0, 2), np.uint8)}, "got uint8 [9, 4, 0, 2]; an axis has length 0"),
        ({"x_train": np.zeros((0, 4, 3, 2), np.uint8), "y_train": np.zeros(0, int)}, "x_train: expected uint8"),
        ({"x_test": np.array("a")}, "x_test: expected uint8 [N, H, W, C] or [N, H, W], pixels from 0 to 255, or"),
        ({"x_train": RAMP - 5}, "from -5.0 to -4.0; expected no normalisation"),
        ({"x_train": np.where(np.arange(60)[:, None, None, None] == 7, np.nan, RAMP)}, "NaN or infinity in example 7"),
        ({"x_train": np.array([{}] * 60, object)}, "x_train: cannot be read (it has Python objects, which are never"),
        ({"y_train": LABELS[:59]}, "y_train: expected integers [60], one for each image of x_train; got int64 [59]"),
        (
            {"y_test": np.full((9, 3), 2)},
            "y_test: expected integers [9], one for each image of x_test; got int64 [9, 3]",
        ),
        ({"y_test": np.full((9, 3), 2)}, "; expected one label for each example"),
        ({"y_test": np.full(9, np.nan)}, "y_test: expected integers [9]"),
        ({"y_train": np.array([{}] * 60, object)}, "y_train: cannot be read (it has Python objects"),
        ({"y_train": LABELS - 1}, "y_train: expected labels from 0; got -1 to 1; leave out examples without a label"),
        ({"y_train": np.full(60, 2**63, np.uint64)}, "y_train: expected labels from 0; got 9223372036854775808"),
        ({"y_train": LABELS * 2**30}, "y_train: expected labels from 0; got 0 to 2147483648"),
        ({"y_train": np.full(60, 2**31 - 1)}, "y_train: labels from 2147483647 to 2147483647, but none is 0"),
        ({"y_train": LABELS + 1}, "y_train: labels from 1 to 3, but none is 0; expected each of 0, 1, 2, …: write"),
        ({"y_train": LABELS * 2}, "y_train: labels from 0 to 4, but none is 1; expected each of 0, 1, 2, …: write"),
        ({"y_train": LABELS + 1, "y_test": np.ones(9, int), "classes": list("abc")}, "got 1 to 3; subtract 1"),
        ({"y_train": np.zeros(60, int), "y_test": np.zeros(9, int)}, "labels: 1 class; expected at least two classes"),
        ({"y_test": np.full(9, 3)}, "test labels: expected 0 to 2"),
        ({"y_train": np.arange(60) % 31}, "y_train: no tenth of each class can be held out"),
        ({"x_val": np.zeros((9, 4, 3, 2), np.uint8)}, "x_val alone; expected both or neither"),
        ({"y_val": np.zeros(9, int)}, "y_val alone; expected both or neither"),
        (
            {"x_val": ZEROS[:9], "y_val": LABELS},
            "y_val: expected integers [9], one for each image of x_val; got int64 [60]",
        ),
        ({"x_val": ZEROS[:9], "y_val": LABELS}, "got int64 [60], as many as x_train"),
        ({"x_val": LABELS[:9], "y_val": ZEROS[:9]}, "x_val [9] and y_val [9, 4, 3, 2] are exchanged"),
        ({"classes": np.array(["a", "b"])}, "train labels: expected 0 to 1"),
        ({"classes": np.array("abc")}, "classes: expected names, strings [C]; got <U3 []"),
        ({"classes": np.arange(3)}, "classes: expected names, strings [C]; got int64 [3]"),
        ({"classes": np.array([b"a", b"b", b"c"])}, "got |S1 [3]; write classes = classes.astype(str)"),
        ({"classes": list("aba")}, "classes: expected different names that can be printed; got ['a', 'b', 'a']"),
        ({"classes": ["a", "b", "\x1b[2J"]}, "classes: expected different names that can be printed"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, changes, words):
    arrays = {key: value for key, value in (make_arrays() | changes).items() if value is not None}
    assert words in refused(save(tmp_path, **arrays))


def test_too_few_names_of_classes_are_not_labels_from_1(tmp_path):
    said = refused(save(tmp_path, **make_arrays(), classes=list("ab")))
    assert said.endswith("expected 0 to 1, one of 2 classes; got 0 to 2")


@pytest.mark.parametrize(
    "given",
    [
        {"x": lambda x: np.moveaxis(x, -1, 1)},
        {"x": lambda x: np.moveaxis(x, 0, -1)},
        {"x": lambda x: np.moveaxis(x, -1, 1).reshape(len(x), -1)},
        {"x": lambda x: x / 255},
        {"x": lambda x: (x / np.float32(127.5) - 1).astype(np.float16)},
        {"x": lambda x: np.moveaxis(x, -1, 1) / 255},
        {"x": lambda x: x.astype(np.float32)},
        {"x": lambda x: x.astype(np.int64)},
        {"x": lambda x: x.astype(np.uint16) * 257},
        {"x": lambda x: (x.astype(int) - 128).astype(np.int8)},
        {"y": lambda y: np.eye(3)[y]},
        {"y": lambda y: np.eye(3, dtype=bool)[y]},
        {"y": lambda y: y.astype(np.float32)},
        {"y": lambda y: y[None].astype(np.uint8)},
        {"y": lambda y: np.array(["ant", "bee", "cat"])[y]},
        {"y": lambda y: np.array([b"ant", b"bee", b"cat"])[y]},
        {"y": lambda y: y + 1},
        {"y": lambda y: y * 5 - 1},
        {"y": lambda y: np.array([3, 7, 8], np.uint64)[y]},
    ],
    ids=lambda given: "",
)
def test_what_the_message_says_to_write_makes_the_right_data_set(tmp_path, given):
    """Follows the messages one by one, as their reader does, until the file is read."""
    right = make_arrays(30, shape=(8, 8, 3))
    arrays = {key: given.get(key[0], lambda values: values)(values) for key, values in right.items()}
    for _ in range(len(arrays)):
        path = save(tmp_path, **{key: values for key, values in arrays.items() if key != "classes"})
        try:
            dataset = load_npz(path)
            break
        except InputError as error:
            statements = str(error).partition("write ")[2].partition(", and")[0].split("; ")
        original = dict(arrays)  # the labels of the other arrays are renumbered by the same classes
        for statement in statements:
            name, _, expression = statement.partition(" = ")
            arrays[name] = eval(expression, {"np": np}, arrays)
        if "classes" in arrays:
            arrays |= {y: np.searchsorted(arrays["classes"], original[y]) for y in ("y_train", "y_test")}
    np.testing.assert_array_equal(dataset.test.images, right["x_test"])
    np.testing.assert_array_equal(dataset.test.labels, right["y_test"])
    labels = np.append(dataset.train.labels, dataset.validation.labels)
    assert np.bincount(labels).tolist() == np.bincount(right["y_train"]).tolist()


def test_frames_of_events_in_another_order_or_as_floats_are_told_what_to_write(tmp_path):
    frames = {key: np.repeat(a[:, None], 5, 1) if key[0] == "x" else a for key, a in make_arrays().items()}
    for change, words in (
        (lambda x: np.moveaxis(x, -1, 2), "write x_train = np.moveaxis(x_train, 2, -1)"),
        (lambda x: np.moveaxis(x, -1, 1), "write x_train = np.moveaxis(x_train, 1, -1)"),
        (lambda x: x.astype(np.float32), "from 0.0 to 255.0; write x_train = x_train.astype(np.uint16)"),
        (lambda x: x / 2, "from 0.0 to 127.5; expected whole numbers from 0 to 65535"),
        (lambda x: np.moveaxis(x, 0, 1), "write x_train = np.moveaxis(x_train, 1, 0)"),
    ):
        changed = {key: change(a) if key[0] == "x" else a for key, a in frames.items()}
        assert refused(save(tmp_path, **changed)).endswith(words)
    big_endian = {key: a.astype(">u2") for key, a in frames.items()}
    assert (
        load_npz(save(tmp_path, **big_endian)).fingerprint
        == load_npz(save(tmp_path, **{key: a.astype(np.uint16) for key, a in frames.items()})).fingerprint
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"x_valid": np.zeros(1)},
            "1 keys are not read: x_valid; the keys are x_train, y_train, x_test, y_test, x_val, y_val, classes",
        ),
        (
            {"x_train": ZEROS},
            "x_train: no pixel is above 1; if x was in [0, 1], write np.round(x * 255).astype(np.uint8)",
        ),
        ({"x_val": ZEROS[:9], "y_val": LABELS[:9], "x_test": ZEROS[:9]}, "x_test and x_val are the same images"),
        (
            {"x_train": np.full((60, 6, 5, 13), 9, np.uint8), "x_test": np.full((9, 6, 5, 13), 9, np.uint8)},
            "x_train: read as 6 x 5 pixels of 13 channels",
        ),
        ({"classes": list("abcd")}, "mine: no train example of 1 of the 4 classes, such as d"),
    ],
)
def test_what_may_be_a_mistake_is_said(tmp_path, changes, words):
    path = save(tmp_path, **make_arrays() | changes)
    with pytest.warns(UserWarning) as caught:
        load(f"npz:{path}")
    assert any(words in str(warning.message) for warning in caught)


def test_arrays_given_to_the_library_are_read_or_refused_with_what_to_write():
    a = make_arrays(shape=(8, 8, 3))
    images, labels = a["x_train"], a["y_train"].astype(np.int32)

    def made(images, labels):
        split = Split(images, labels)
        return Dataset("mine", split, split, split, ("a", "b", "c"))

    plain = made(images, labels).fingerprint
    read_only = images.copy()
    read_only.flags.writeable = False
    for same in (np.asfortranarray(images), read_only, jnp.asarray(images), images[::-1][::-1], images.tolist()):
        if isinstance(same, list):
            with pytest.raises(InputError, match=r"images = images.astype\(np.uint8\)"):
                made(same, labels)
        else:
            assert made(same, labels).fingerprint == plain
    for wrong, words in (
        ((np.moveaxis(images, -1, 1), labels), "write images = np.moveaxis(images, 1, -1)"),
        ((images / 255, labels), "write images = np.round(images * 255).astype(np.uint8)"),
        ((images[..., 0], labels), "write images = images[..., None]"),
        ((images[:, :0], labels), "an axis has length 0"),
        ((images, labels.astype(np.int64)), "write labels = labels.astype(np.int32)"),
        ((images, labels[:, None]), "write labels = labels.reshape(-1)"),
        ((images, np.eye(3)[labels]), "write labels = labels.argmax(1)"),
        ((images, labels + 1), "got 1 to 3; subtract 1"),
    ):
        with pytest.raises(InputError) as caught:
            made(*wrong)
        assert str(caught.value).endswith(words)


def test_a_file_that_is_no_archive_is_refused(tmp_path):
    assert "no such file" in refused(tmp_path / "none.npz")
    assert "not a regular file" in refused(tmp_path)
    os.mkfifo(tmp_path / "pipe.npz")  # opening it would wait for ever
    assert "not a regular file" in refused(tmp_path / "pipe.npz")
    np.save(tmp_path / "one.npy", np.zeros(3))
    assert "expected an .npz archive, as of np.savez" in refused(tmp_path / "one.npy")
    (tmp_path / "empty.npz").touch()
    assert "expected an .npz archive" in refused(tmp_path / "empty.npz")


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_file_is_refused_or_gives_the_same_data_set(tmp_path_factory, data):
    directory = tmp_path_factory.mktemp("npz")
    path = save(directory, **make_arrays(train=30))
    whole = path.read_bytes()
    expected = load_npz(path)
    if data.draw(st.booleans(), "cut"):
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1), "length")])
        assert refused(path)
        return
    damaged = bytearray(whole)
    damaged[data.draw(st.integers(0, len(whole) - 1), "place")] ^= data.draw(st.integers(1, 255), "bits")
    path.write_bytes(damaged)
    try:
        found = load_npz(path)
    except InputError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:  # a time stamp, or the like
        assert found.fingerprint == expected.fingerprint
        np.testing.assert_array_equal(found.test.images, expected.test.images)


@pytest.mark.parametrize("declared", [(2**40, 4, 3, 2), (61, 4, 3, 2), (59, 4, 3, 2), (-60, 4, 3, 2)])
def test_a_header_that_declares_another_size_is_refused_before_memory_is_taken(tmp_path, declared):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for key, array in make_arrays().items():
            with archive.open(f"{key}.npy", "w") as member:
                shape = declared if key == "x_train" else array.shape
                header = {"descr": array.dtype.str, "fortran_order": False, "shape": shape}
                npy.write_array_header_1_0(member, header)
                member.write(array.tobytes())
    assert "x_train: cannot be read (its header declares" in refused(path)


def test_an_archive_that_says_to_hold_more_than_its_bytes_can_is_refused(tmp_path):
    """The archive's directory and the array's header agree on 2 TB; the file holds less than a thousandth of it."""
    path, size, start = tmp_path / "bomb.npz", 2**41, io.BytesIO()
    npy.write_array_header_1_0(start, {"descr": "|u1", "fortran_order": False, "shape": (size,)})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x_train.npy", start.getvalue() + bytes(1000))
        archive.getinfo("x_train.npy").file_size = size + len(start.getvalue())  # goes into the archive's directory
        for key in ("y_train", "x_test", "y_test"):
            archive.writestr(f"{key}.npy", b"")
    assert "x_train: cannot be read (its header declares 2199023255552 bytes" in refused(path)


def raw(text: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def array_header(shape: tuple[int, ...], descr: str) -> bytes:
    stream = io.BytesIO()
    npy.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


@pytest.mark.parametrize(
    "member",
    [
        array_header((10**15,), "<U0"),  # 10**15 names in no bytes
        array_header((10**12,), "|V0"),
        array_header((10**6, 10**6, 10**3), "<f4"),
        raw(b"{'descr': '''\n\n  "),
        raw(b"-" * 9000 + b"1"),
        raw(b"{'descr': '<f4', 'fortran_order': False, 'shape': (True,)}\n") + bytes(4),
        raw(b"{'descr': [('a','<f4',(1000000,1000000))], 'fortran_order': False, 'shape': (1,)}\n"),
        raw(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n") + b"cos\nsystem\n(S'exit'\ntR.",
        b"\x93NUMPY\x09\x00",
        b"",
    ],
)
def test_a_hostile_member_is_refused_at_once(tmp_path, member):
    path = save(tmp_path, **make_arrays(30))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("classes.npy", member)
    assert "classes" in refused(path)


@pytest.mark.parametrize(
    ("file", "name"), [("my set (2).npz", "my-set-2"), ("...npz", "npz"), ("größe_1.5.npz", "größe_1.5")]
)
def test_the_name_of_the_data_set_can_be_a_directory(tmp_path, file, name):
    assert load_npz(save(tmp_path, file, **make_arrays())).name == name


def test_the_option_names_the_file(tmp_path):
    path = save(tmp_path, **make_arrays())
    assert load(f"npz:{path}").fingerprint == load_npz(path).fingerprint
