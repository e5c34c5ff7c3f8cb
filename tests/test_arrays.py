"""A user's own arrays in an .npz file: what is read, and that everything else is refused in a line."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib import format as npy

from sealkd_jax.data import load
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
    dataset = load_npz(
        save(
            tmp_path,
            **arrays,
            x_val=more["x_train"],
            y_val=more["y_train"],
            classes=["ant", "bee", "cat", "dog"],
            coarse=np.array([{}], object),  # not asked for, so not looked at
        )
    )
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


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x_train": None, "y_test": None}, "no x_train, y_test; expected the keys x_train, y_train, x_test, y_test"),
        ({"x_train": np.zeros((60, 4, 3, 2), np.float32)}, "x_train: expected uint8 [N, H, W, C] or [N, H, W], pixels"),
        ({"x_test": np.zeros((9, 24), np.uint8)}, "x_test: expected uint8 [N, H, W, C] or [N, H, W], pixels"),
        ({"x_test": np.zeros((9, 4, 4, 2), np.uint8)}, "test images: expected"),
        (
            {"x_test": np.zeros((9, 5, 4, 3, 2), np.int32)},
            "or frames of events, uint8 or uint16 [N, T, H, W, 2]; got",
        ),
        ({"x_train": np.zeros((0, 4, 3, 2), np.uint8), "y_train": np.zeros(0, int)}, "y_train: no tenth"),
        ({"y_train": np.arange(59) % 3}, "y_train: expected integers [60], one for each image of x_train; got int64"),
        ({"y_test": np.zeros((9, 3), int)}, "y_test: expected integers [9]"),
        ({"y_test": np.zeros(9)}, "y_test: expected integers [9], one for each image of x_test; got float64"),
        ({"y_train": np.arange(60) % 3 - 1}, "y_train: expected labels from 0; got -1 to 1"),
        ({"y_train": np.zeros(60, int), "y_test": np.zeros(9, int)}, "labels: 1 class; expected at least two classes"),
        ({"y_train": np.arange(60) % 3 + 1}, "y_train: labels from 1 to 3; expected from 0: subtract 1, or add"),
        ({"y_train": np.full(60, 2**63, np.uint64)}, "y_train: expected labels from 0; got 9223372036854775808"),
        ({"y_train": np.full(60, 2**31 - 1)}, "y_train: label 2147483647 of 60 examples"),
        ({"y_test": np.full(9, 3)}, "test labels: expected 0 to 2"),
        ({"y_train": np.arange(60) % 31}, "y_train: no tenth of each class can be held out"),
        ({"x_val": np.zeros((9, 4, 3, 2), np.uint8)}, "x_val alone; expected both or neither"),
        ({"y_val": np.zeros(9, int)}, "y_val alone; expected both or neither"),
        ({"classes": np.array(["a", "b"])}, "train labels: expected 0 to 1"),
        ({"classes": np.array("abc")}, "classes: expected names, strings [C]; got <U3 []"),
        ({"classes": np.arange(3)}, "classes: expected names, strings [C]; got int64 [3]"),
        ({"y_train": np.array([{}] * 60, object)}, "y_train: cannot be read (it has Python objects"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, changes, words):
    arrays = {key: value for key, value in (make_arrays() | changes).items() if value is not None}
    assert words in refused(save(tmp_path, **arrays))


def test_a_file_that_is_no_archive_is_refused(tmp_path):
    assert "no such file" in refused(tmp_path / "none.npz")
    assert "Is a directory" in refused(tmp_path)
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
    """The archive's directory and the array's header agree on 2 TB; the file has not a thousandth of it."""
    path, size, start = tmp_path / "bomb.npz", 2**41, io.BytesIO()
    npy.write_array_header_1_0(start, {"descr": "|u1", "fortran_order": False, "shape": (size,)})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x_train.npy", start.getvalue() + bytes(1000))
        archive.getinfo("x_train.npy").file_size = size + len(start.getvalue())  # goes into the archive's directory
    assert "x_train: cannot be read (its header declares 2199023255552 bytes" in refused(path)


@pytest.mark.parametrize(
    ("file", "name"), [("my set (2).npz", "my-set-2"), ("...npz", "npz"), ("größe_1.5.npz", "größe_1.5")]
)
def test_the_name_of_the_data_set_can_be_a_directory(tmp_path, file, name):
    assert load_npz(save(tmp_path, file, **make_arrays())).name == name


def test_the_option_names_the_file(tmp_path):
    path = save(tmp_path, **make_arrays())
    assert load(f"npz:{path}").fingerprint == load_npz(path).fingerprint


@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_cifar_of_real_size(name, classes, real_data):
    path = real_data / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"no {name}.npz in $SEALKD_TEST_DATA")
    dataset = load_npz(path)
    splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    for part, examples in {"train": 45_000, "validation": 5_000, "test": 10_000}.items():
        assert splits[part].images.shape == (examples, 32, 32, 3)
        assert np.bincount(splits[part].labels).tolist() == [examples // classes] * classes
