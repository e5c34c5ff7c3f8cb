"""Data sets that TFDS has prepared: read whole or on demand, without TensorFlow; what is not there or damaged."""

import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealkd_jax.data import load, stream
from sealkd_jax.data.tfds import load_tfds
from sealkd_jax.errors import InputError
from tests.helpers.prepared_data import CLASSES, make_arrays, write_prepared


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Fashion-MNIST of 100 + 20 images: where it is, and its directory in there."""
    data_dir = tmp_path_factory.mktemp("prepared")
    return data_dir, write_prepared("fashion-mnist", data_dir, make_arrays("fashion-mnist", 100, 20))


def refused(name: str, data_dir: Path) -> str:
    with pytest.raises(InputError) as caught:
        load(name, data_dir=data_dir)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", CLASSES)
def test_the_official_splits_and_a_tenth_of_training_held_out(name, tmp_path):
    classes = CLASSES[name]
    arrays = make_arrays(name, 10 * classes, 2 * classes)
    write_prepared(name, tmp_path, arrays)
    before = "tensorflow" in sys.modules
    dataset = load_tfds(name, tmp_path)
    assert ("tensorflow" in sys.modules) == before
    assert dataset.name == name and len(dataset.classes) == len(set(dataset.classes)) == classes
    assert np.bincount(dataset.train.labels).tolist() == [9] * classes
    assert np.bincount(dataset.validation.labels).tolist() == [1] * classes
    dataset = dataset.in_memory()
    for part, official in {"train": "train", "validation": "train", "test": "test"}.items():
        images, labels = getattr(dataset, part)
        known = {image.tobytes(): label for image, label in zip(*arrays[official], strict=True)}
        assert [known[image.tobytes()] for image in images] == labels.tolist()
    rows = {image.tobytes() for part in (dataset.train, dataset.validation) for image in part.images}
    assert len(rows) == 10 * classes
    np.testing.assert_array_equal(dataset.test.images, arrays["test"][0])  # in the order of the files


def test_names_of_classes_are_the_official_ones(small, tmp_path):
    assert load_tfds("fashion-mnist", small[0]).classes[:3] == ("T-shirt/top", "Trouser", "Pullover")
    write_prepared("cifar10", tmp_path, make_arrays("cifar10", 100, 10))
    assert load_tfds("cifar10", tmp_path).classes == tuple(f"class {label}" for label in range(10))


def test_on_demand_is_the_same_data_set(small):
    whole = load("fashion-mnist", data_dir=small[0])
    demanded = load("fashion-mnist", data_dir=small[0], stream=True)
    assert demanded.fingerprint == whole.fingerprint and demanded.classes == whole.classes
    for part in ("train", "validation", "test"):
        images, labels = getattr(demanded, part)
        expected = getattr(whole, part).images
        assert not isinstance(images, np.ndarray)
        assert images.shape == expected.shape and images.dtype == expected.dtype
        np.testing.assert_array_equal(images.read(np.arange(len(labels))[::-1]), expected[::-1])
        np.testing.assert_array_equal(labels, getattr(whole, part).labels)


def test_many_threads_read_on_demand(small):
    whole, demanded = (load("fashion-mnist", data_dir=small[0], stream=stream) for stream in (False, True))
    order = np.random.default_rng(0).integers(0, 90, 2000)
    blocks = list(stream(demanded.train, order, 500))
    np.testing.assert_array_equal(np.concatenate([block.images for block in blocks]), whole.train.images[order])
    np.testing.assert_array_equal(np.concatenate([block.labels for block in blocks]), whole.train.labels[order])


def test_nothing_is_said_of_opencv(tmp_path, caplog, small):
    load_tfds("fashion-mnist", small[0])
    assert not caplog.records


def test_a_data_set_that_is_not_there_is_refused_with_the_command_that_gets_it(tmp_path):
    data_dir = tmp_path / "my data"
    expected = ["sealkd", "prepare", "cifar10", "--data-dir"]
    message = refused("cifar10", data_dir)
    assert message.startswith(f"data_dir {data_dir}: no cifar10 there; get it: ")
    assert shlex.split(message.partition("get it: ")[2]) == [*expected, str(data_dir)]


def test_preparation_that_did_not_end_counts_as_none(small, tmp_path):
    shutil.copytree(small[1], tmp_path / "fashion_mnist" / "incomplete.ABC123_3.0.1")
    assert "no fashion-mnist there; get it: " in refused("fashion-mnist", tmp_path)


def test_a_file_format_that_takes_tensorflow_is_named(small, tmp_path):
    shutil.copytree(small[0], tmp_path, dirs_exist_ok=True)
    info = tmp_path / small[1].relative_to(small[0]) / "dataset_info.json"
    info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
    message = refused("fashion-mnist", tmp_path)
    assert f"{info.parent}: prepared as tfrecord" in message
    assert message.endswith(f"sealkd prepare fashion-mnist --data-dir {tmp_path / 'array_record'}")


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_damaged_records_are_refused_or_change_nothing(small, tmp_path_factory, data):
    """Records have checksums; what lies between them does not matter."""
    tmp_path = tmp_path_factory.mktemp("damaged")
    shutil.copytree(small[0], tmp_path, dirs_exist_ok=True)
    (path,) = tmp_path.rglob("fashion_mnist-train.*")
    whole = bytearray(path.read_bytes())
    if data.draw(st.booleans(), "cut"):
        del whole[data.draw(st.integers(0, len(whole) - 1), "length") :]
    else:
        whole[data.draw(st.integers(0, len(whole) - 1), "place")] ^= data.draw(st.integers(1, 255), "bits")
    path.write_bytes(whole)
    try:
        found = load("fashion-mnist", data_dir=tmp_path)
    except InputError as error:
        assert str(error).startswith(f"{path}: cannot be read (") and "\n" not in str(error)
    else:
        assert found.fingerprint == load_tfds("fashion-mnist", small[0]).fingerprint


def test_a_bit_of_a_record_is_never_wrong_in_silence(small, tmp_path):
    shutil.copytree(small[0], tmp_path, dirs_exist_ok=True)
    (path,) = tmp_path.rglob("fashion_mnist-test.*")
    whole = bytearray(path.read_bytes())
    whole[whole.index(b"IDAT") + 20] ^= 1
    path.write_bytes(whole)
    assert refused("fashion-mnist", tmp_path).startswith(f"{path}: cannot be read (")


def test_missing_records_are_named(small, tmp_path):
    shutil.copytree(small[0], tmp_path, dirs_exist_ok=True)
    (path,) = tmp_path.rglob("fashion_mnist-test.*")
    path.unlink()
    assert refused("fashion-mnist", tmp_path).startswith(f"{path}: cannot be read (")


def test_a_damaged_description_is_refused(small, tmp_path):
    shutil.copytree(small[0], tmp_path, dirs_exist_ok=True)
    (path,) = tmp_path.rglob("dataset_info.json")
    path.write_text(path.read_text()[:100])
    assert refused("fashion-mnist", tmp_path).startswith(f"{tmp_path / 'fashion_mnist'}: cannot be read (")
