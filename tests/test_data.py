"""Data sets and augmentation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from sealkd_jax.data import Dataset, Split, augment, compose, load, normalise, pad_and_crop
from sealkd_jax.errors import InputError


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


def test_fingerprint_follows_every_pixel_and_label():
    images, labels = np.zeros((4, 2, 2, 1), np.uint8), np.arange(4, dtype=np.int32)

    def fingerprint(images, labels):
        split = Split(images, labels)
        return Dataset("x", split, split, split, tuple("abcd")).fingerprint

    changed = images.copy()
    changed[3, 1, 1, 0] = 1
    assert len({fingerprint(images, labels), fingerprint(changed, labels), fingerprint(images, labels[::-1])}) == 3


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
    with pytest.raises(InputError, match=r"'mnist': unknown; expected one of digits"):
        load("mnist")


def test_normalise_gives_zero_mean_and_unit_deviation():
    digits = load("digits")
    normal = normalise(jnp.asarray(digits.train.images), jnp.asarray(digits.mean), jnp.asarray(digits.std))
    np.testing.assert_allclose(normal.mean(), 0, atol=1e-5)
    np.testing.assert_allclose(normal.std(), 1, atol=1e-5)


@given(padding=st.integers(0, 3), seed=st.integers(0, 99), height=st.integers(1, 6), width=st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_pad_and_crop_is_a_window_of_the_padded_image(padding, seed, height, width):
    image = np.arange(1, height * width + 1, dtype=np.uint8).reshape(height, width, 1)
    out = np.asarray(pad_and_crop(padding)(jax.random.key(seed), jnp.asarray(image)))
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    places = range(2 * padding + 1)
    windows = [padded[r : r + height, c : c + width] for r in places for c in places]
    assert any(np.array_equal(out, window) for window in windows)


def test_pad_and_crop_reaches_every_place_equally_often():
    image = jnp.zeros((3, 3, 1), jnp.uint8).at[1, 1, 0].set(1)
    keys = jax.random.split(jax.random.key(0), 9000)
    counts = np.asarray(jax.vmap(pad_and_crop(1), (0, None))(keys, image)).sum(0, dtype=np.int64)[..., 0]
    assert counts.sum() == 9000
    assert np.abs(counts - 1000).max() < 5 * np.sqrt(1000 * 8 / 9)  # five standard deviations


def test_a_view_depends_on_seed_view_and_index_alone():
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1)), jnp.uint8)
    index = jnp.arange(6)

    def view(images, index, seed=0, k=3):
        return np.asarray(augment(pad_and_crop(2), images, seed=seed, view=k, index=index))

    whole = view(images, index)
    order = jnp.array([4, 1, 5])
    np.testing.assert_array_equal(view(images[order], order), whole[order])
    jitted = jax.jit(lambda k: augment(pad_and_crop(2), images, seed=0, view=k, index=index))
    np.testing.assert_array_equal(jitted(3), whole)
    assert not np.array_equal(view(images, index, seed=1), whole)
    assert not np.array_equal(view(images, index, k=4), whole)


def test_view_zero_is_the_image_itself():
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1)), jnp.uint8)
    jitted = jax.jit(lambda k: augment(pad_and_crop(2), images, seed=0, view=k, index=jnp.arange(6)))
    np.testing.assert_array_equal(jitted(0), images)
    np.testing.assert_array_equal(augment(pad_and_crop(2), images, seed=0, view=0, index=jnp.arange(6)), images)


def test_compose_gives_each_augmentation_a_key_of_its_own():
    def noise(key, image):
        return image + jax.random.randint(key, image.shape, 0, 100, jnp.int32).astype(jnp.uint8)

    image = jnp.zeros((8, 8, 1), jnp.uint8)
    key = jax.random.key(0)
    one, two = noise(jax.random.fold_in(key, 0), image), noise(jax.random.fold_in(key, 1), image)
    np.testing.assert_array_equal(compose(noise, noise)(key, image), one + two)
    np.testing.assert_array_equal(compose()(key, image), image)
