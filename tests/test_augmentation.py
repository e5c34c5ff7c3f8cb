"""Augmentation of images and what makes a view of them."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sealkd_jax.data import augment, compose, load, normalise, pad_and_crop


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
