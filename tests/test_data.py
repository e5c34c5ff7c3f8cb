"""Data sets."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from sealkd_jax.data import DATASETS, Dataset, Split, load
from sealkd_jax.data.loading import Source
from sealkd_jax.errors import InputError
from sealkd_jax.programs.commands import distill, prepare


def test_digits_are_the_whole_set_split_without_overlap():
    digits, raw = load("digits"), load_digits()
    splits = (digits.train, digits.validation, digits.test)
    assert [len(split.labels) for split in splits] == [1257, 180, 360]
    images = np.concatenate([split.images for split in splits])[..., 0]
    labels = np.concatenate([split.labels for split in splits])
    rows = {
        (image.tobytes(), label) for image, label in zip(np.round(images.astype(float) * 16 / 255), labels, strict=True)
    }
    assert rows == {(image.tobytes(), label) for image, label in zip(raw.images, raw.target, strict=True)}
    for split in splits:  # stratified: each class is there in its share, to one example
        share = np.bincount(split.labels, minlength=10) / len(split.labels)
        assert np.abs(share - np.bincount(raw.target) / 1797).max() <= 1 / len(split.labels)


def test_digits_are_the_same_each_time():
    assert load("digits").fingerprint == load("digits").fingerprint


def test_fewer_examples_are_a_fixed_stratified_choice_scaled_like_all():
    digits = load("digits")
    fewer = digits.with_fewer(200)
    rows = {image.tobytes() for image in digits.train.images}
    assert len({image.tobytes() for image in fewer.train.images} & rows) == len(fewer.train.labels) == 200
    share = np.bincount(digits.train.labels) / 1257
    assert np.abs(np.bincount(fewer.train.labels) / 200 - share).max() <= 1 / 200
    assert (fewer.mean == digits.mean).all() and (fewer.std == digits.std).all()
    assert fewer.fingerprint == digits.with_fewer(200).fingerprint != digits.fingerprint
    assert fewer.test is digits.test and fewer.validation is digits.validation
    assert digits.with_fewer(1257) is digits
    for count in (5, 1258):
        with pytest.raises(InputError, match=f"{count} of the 1257 training examples of digits: "):
            digits.with_fewer(count)


def test_fewer_examples_of_data_on_demand_are_the_same_and_still_on_demand():
    fewer, streamed = (load("digits", stream=stream).with_fewer(200) for stream in (False, True))
    assert not isinstance(streamed.train.images, np.ndarray) and streamed.fingerprint == fewer.fingerprint
    assert (streamed.mean == fewer.mean).all() and (streamed.std == fewer.std).all()
    np.testing.assert_array_equal(streamed.in_memory().train.images, fewer.train.images)
    np.testing.assert_array_equal(streamed.train.labels, fewer.train.labels)


def test_fingerprints_follow_every_pixel_label_and_name():
    images, labels, names = np.zeros((4, 2, 2, 1), np.uint8), np.arange(4, dtype=np.int32), tuple("abcd")
    changed = images.copy()
    changed[3, 1, 1, 0] = 1
    split, others = Split(images, labels), (Split(changed, labels), Split(images, labels[::-1]))
    one = Dataset("x", split, split, split, names)
    other_train = [Dataset("x", other, split, split, names) for other in others]
    other_train += [Dataset("x", split, split, split, classes) for classes in (("a", "b", "c", "e"), (*names, "e"))]
    other_rest = [Dataset("x", split, *rest, names) for other in others for rest in ((other, split), (split, other))]
    assert len({dataset.fingerprint for dataset in (one, *other_train)}) == 5
    assert {dataset.fingerprint for dataset in other_rest} == {one.fingerprint}
    assert len({dataset.splits_fingerprint for dataset in (one, *other_train, *other_rest)}) == 9
    assert one.on_demand().splits_fingerprint == one.splits_fingerprint


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (np.zeros((3, 2, 2, 1), np.float32), np.zeros(3, np.int32), "train images: expected uint8"),
        (np.zeros((3, 2, 2), np.uint8), np.zeros(3, np.int32), r"got uint8 \[3, 2, 2\]"),
        (np.zeros((0, 2, 2, 1), np.uint8), np.zeros(0, np.int32), "N >= 1"),
        (np.zeros((3, 2, 2, 1), np.uint8), np.zeros(2, np.int32), r"train labels: expected int32 \[3\]"),
        (np.zeros((3, 2, 2, 1), np.uint8), np.zeros(3, np.float32), "got float32"),
        (np.zeros((3, 2, 2, 1), np.uint8), np.array([0, 1, 2], np.int32), "expected 0 to 1"),
        (np.zeros((3, 2, 2, 1), np.uint8), np.array([0, -1, 1], np.int32), "got -1 to 1"),
    ],
)
def test_wrong_arrays_are_named(images, labels, words):
    with pytest.raises(InputError, match=words):
        Dataset("x", Split(images, labels), Split(images, labels), Split(images, labels), ("a", "b"))


def test_unknown_dataset_is_named():
    with pytest.raises(InputError, match=r"dataset cifr10: unknown; expected one of digits.*; did you mean cifar10"):
        load("cifr10")


def test_a_new_data_set_is_known_by_its_place_in_the_table(monkeypatch, tmp_path, capsys):
    def fetch(name, data_dir, manual_dir):
        return data_dir / name

    digits = load("digits")
    monkeypatch.setitem(DATASETS, "twice-digits", Source(lambda request: digits.with_fewer(200), fetch))
    assert len(load("twice-digits").train.labels) == 200
    for main in (distill.main, prepare.main):
        with pytest.raises(SystemExit):
            main(["--help"])
        assert "twice-digits" in capsys.readouterr().out
    prepare.main(["twice-digits", "--data-dir", str(tmp_path)])
    assert capsys.readouterr().out == f"twice-digits: {tmp_path / 'twice-digits'}\n"
    with pytest.raises(InputError, match="did you mean twice-digits"):
        load("twice-digit")


@pytest.mark.filterwarnings("ignore:.*keys are not read")  # CIFAR-100's coarse labels
@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_cifar_of_real_size(name, classes, real_data):
    path = real_data / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"no {name}.npz in $SEALKD_TEST_DATA")
    dataset = load(f"npz:{path}")
    splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    for part, examples in {"train": 45_000, "validation": 5_000, "test": 10_000}.items():
        assert splits[part].images.shape == (examples, 32, 32, 3)
        assert np.bincount(splits[part].labels).tolist() == [examples // classes] * classes
