"""Augmentation of images, and views. Frequencies are checked to five standard deviations."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sealkd_jax.data import augment, compose, crop, load, normalise
from sealkd_jax.data.augmentation import STEPS, augmentation_step, canonical_augmentation, parse_augmentation
from sealkd_jax.data.image_augmentation import cutout, flip, resized_crop, scale_part
from sealkd_jax.errors import InputError


def keys_of(count: int) -> jax.Array:
    return jax.random.split(jax.random.key(0), count)


def test_normalise_gives_zero_mean_and_unit_deviation():
    digits = load("digits")
    normal = normalise(jnp.asarray(digits.train.images), jnp.asarray(digits.mean), jnp.asarray(digits.std))
    np.testing.assert_allclose(normal.mean(), 0, atol=1e-5)
    np.testing.assert_allclose(normal.std(), 1, atol=1e-5)


@given(padding=st.integers(0, 3), seed=st.integers(0, 99), height=st.integers(1, 6), width=st.integers(1, 6))
@settings(max_examples=8, deadline=None)
def test_pad_and_crop_is_a_window_of_the_padded_image(padding, seed, height, width):
    image = np.arange(1, height * width + 1, dtype=np.uint8).reshape(height, width, 1)
    out = np.asarray(crop(padding)(jax.random.key(seed), jnp.asarray(image)))
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    places = range(2 * padding + 1)
    windows = [padded[r : r + height, c : c + width] for r in places for c in places]
    assert any(np.array_equal(out, window) for window in windows)


def test_pad_and_crop_reaches_every_place_equally_often():
    image = jnp.zeros((3, 3, 1), jnp.uint8).at[1, 1, 0].set(1)
    keys = keys_of(9000)
    counts = np.asarray(jax.vmap(crop(1), (0, None))(keys, image)).sum(0, dtype=np.int64)[..., 0]
    assert counts.sum() == 9000
    assert np.abs(counts - 1000).max() < 5 * np.sqrt(1000 * 8 / 9)  # five standard deviations


@given(
    seed=st.integers(0, 999),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    corners=st.tuples(*[st.floats(0, 1)] * 4),
)
@settings(max_examples=25, deadline=None)
def test_a_part_is_scaled_as_by_pillow(seed, height, width, corners):
    image = np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.uint8)
    part = np.maximum(1, np.multiply(corners[:2], (height, width)))
    start = np.multiply(corners[2:], (height, width) - part)
    box = (start[1], start[0], *np.minimum(start + part, (height, width))[::-1])
    expected = Image.fromarray(image.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR, box)
    got = jax.jit(scale_part)(image[..., None], *(np.float32(x) for x in (start, part)))[..., 0]
    assert np.abs(np.asarray(expected) - np.asarray(got)).max() <= 0.51


@pytest.mark.parametrize("least", [0.08, 0.5])
def test_a_resized_crops_area_is_uniform_and_its_ratio_log_uniform(least):
    """The pixels are four times their row and column, so that the middle of a crop tells which part it shows."""
    side, count = 64, 3000
    y, x = np.mgrid[:side, :side]
    image = jnp.asarray(np.stack([4 * y, 4 * x], -1), jnp.uint8)
    middle = np.arange(side // 4, 3 * side // 4)  # clear of the part's borders

    def lines(key):
        crop = resized_crop(least)(key, image)[middle][:, middle].astype(jnp.float32) / 4
        return crop[:, 0, 0], crop[0, :, 1]

    seen = np.stack(jax.jit(lambda keys: jax.lax.map(lines, keys, batch_size=100))(keys_of(count)), 1)
    centred = middle + 0.5 - side / 2
    slope = (seen * centred).sum(-1) / (centred**2).sum()
    size, centre = slope * side, seen.mean(-1) + 0.5
    start = centre - size / 2
    assert (start > -0.5).all() and (start + size < side + 0.5).all()
    area, ratio = size.prod(1) / side**2, np.log(size[:, 1] / size[:, 0]) / np.log(4 / 3)
    assert least - 0.01 < area.min() and area.max() < 1.01 and np.abs(ratio).max() < 1.05
    small = area < 0.74  # these are never cut at the image's side
    expected = (0.74 - least) / (1 - least)
    assert abs(small.mean() - expected) < 5 * np.sqrt(expected * (1 - expected) / count)
    for values, low, high in (
        (area[small], least, 0.74),
        (ratio[small], -1, 1),
        (start[small] / (side - size[small]), 0, 1),
    ):
        deviation = (high - low) / np.sqrt(12 * values.size)
        assert abs(values.mean() - (low + high) / 2) < 5 * deviation
        assert abs(values.std() - (high - low) / np.sqrt(12)) < 5 * deviation


def test_resized_crop_of_one_colour_is_that_colour():
    image = jnp.full((5, 7, 3), 201, jnp.uint8)
    crops = jax.jit(jax.vmap(resized_crop(0.08), (0, None)))(keys_of(50), image)
    assert crops.dtype == jnp.uint8 and (crops == 201).all()


def test_flip_mirrors_left_and_right_half_of_the_time():
    image = jnp.arange(24, dtype=jnp.uint8).reshape(2, 4, 3)
    out = np.asarray(jax.vmap(flip(), (0, None))(keys_of(4000), image))
    mirrored = (out == np.asarray(image)[:, ::-1]).all((1, 2, 3))
    assert (out[~mirrored] == np.asarray(image)).all()
    assert abs(mirrored.sum() - 2000) < 5 * np.sqrt(1000)


def squares(size, height, width):
    """The reference's mask for each centre, DeVries & Taylor 2017 (even sizes)."""
    masks = np.zeros((height, width, height, width), bool)
    for y, x in np.ndindex(height, width):
        (top, bottom), (left, right) = (
            np.clip([c - size // 2, c + size // 2], 0, n) for c, n in ((y, height), (x, width))
        )
        masks[y, x, top:bottom, left:right] = True
    return masks.reshape(-1, height, width)


def test_cutout_takes_the_square_around_each_pixel_equally_often():
    image = jnp.full((4, 5, 3), 255, jnp.uint8)
    keys = keys_of(20000)
    out = np.asarray(jax.vmap(cutout(2, fill=(1, 2, 3)), (0, None))(keys, image))
    holes = (out != 255).all(-1)
    np.testing.assert_array_equal(out, np.where(holes[..., None], np.uint8([1, 2, 3]), np.uint8(255)))
    counts = (holes[:, None] == squares(2, 4, 5)).all((2, 3)).sum(0)
    assert counts.sum() == 20000
    assert np.abs(counts - 1000).max() < 5 * np.sqrt(1000 * 19 / 20)


@given(size=st.integers(0, 5), seed=st.integers(0, 99), height=st.integers(5, 8), width=st.integers(5, 8))
@settings(max_examples=8, deadline=None)
def test_cutout_is_a_square_of_its_size_that_the_borders_may_cut(size, seed, height, width):
    out = np.asarray(cutout(size)(jax.random.key(seed), jnp.ones((height, width, 1), jnp.uint8)))[..., 0]
    rows, columns = (out == 0).any(1), (out == 0).any(0)
    np.testing.assert_array_equal(out == 0, rows[:, None] & columns)
    for hit in (rows, columns):
        (places,) = np.nonzero(hit)
        np.testing.assert_array_equal(np.diff(places), 1)
        inside = len(places) < len(hit) and not (hit[0] or hit[-1])
        assert len(places) == size if inside else len(places) <= size


def test_a_view_depends_on_seed_view_and_index_alone():
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1)), jnp.uint8)
    index = jnp.arange(6)

    def view(images, index, seed=0, k=3):
        return np.asarray(augment(crop(2), images, seed=seed, view=k, index=index))

    whole = view(images, index)
    order = jnp.array([4, 1, 5])
    np.testing.assert_array_equal(view(images[order], order), whole[order])
    jitted = jax.jit(lambda k: augment(crop(2), images, seed=0, view=k, index=index))
    np.testing.assert_array_equal(jitted(3), whole)
    with jax.default_prng_impl("rbg"):
        np.testing.assert_array_equal(view(images, index), whole)
    assert not np.array_equal(view(images, index, seed=1), whole)
    assert not np.array_equal(view(images, index, k=4), whole)


def test_view_zero_is_the_image_itself():
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1)), jnp.uint8)
    jitted = jax.jit(lambda k: augment(crop(2), images, seed=0, view=k, index=jnp.arange(6)))
    np.testing.assert_array_equal(jitted(0), images)
    np.testing.assert_array_equal(augment(crop(2), images, seed=0, view=0, index=jnp.arange(6)), images)


def test_compose_gives_each_augmentation_a_key_of_its_own():
    def noise(key, image):
        return image + jax.random.randint(key, image.shape, 0, 100, jnp.int32).astype(jnp.uint8)

    image = jnp.zeros((8, 8, 1), jnp.uint8)
    key = jax.random.key(0)
    one, two = noise(jax.random.fold_in(key, 0), image), noise(jax.random.fold_in(key, 1), image)
    np.testing.assert_array_equal(compose(noise, noise)(key, image), one + two)
    np.testing.assert_array_equal(compose()(key, image), image)


def test_a_view_of_recordings_keeps_what_frames_are():
    frames = jnp.asarray(np.random.default_rng(0).integers(0, 2**16, (3, 4, 6, 5, 2)), jnp.uint16)
    out = augment(compose(flip(), cutout(3)), frames, seed=0, view=1, index=jnp.arange(3))
    assert out.shape == frames.shape and out.dtype == jnp.uint16
    emptied = np.asarray(out == 0).all((1, 4))  # the same square in each timestep and polarity
    kept = np.asarray(out)[np.broadcast_to(~emptied[:, None, ..., None], out.shape)]
    assert emptied.any((1, 2)).all() and np.isin(kept, frames).all()


def test_a_view_is_the_same_where_64_bit_types_are_on(float64):
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype(np.uint8)

    def view():
        augmentation = compose(crop(2), flip(), cutout(4))
        return np.asarray(jax.jit(lambda x: augment(augmentation, x, seed=0, view=1, index=jnp.arange(4)))(images))

    wide = view()
    with jax.enable_x64(False):
        np.testing.assert_array_equal(wide, view())


IMAGE = jnp.asarray(np.random.default_rng(1).integers(0, 256, (8, 8, 3)), jnp.uint8)


@pytest.mark.parametrize("text", ["crop(2)|flip|cutout(4)", " crop( 2 ) | flip|cutout(0.5) "])
def test_a_text_is_its_steps_in_the_order_written(text):
    keys = keys_of(20)
    views = jax.vmap(parse_augmentation(text, (8, 8, 3)), (0, None))(keys, IMAGE)
    np.testing.assert_array_equal(views, jax.vmap(compose(crop(2), flip(), cutout(4)), (0, None))(keys, IMAGE))
    assert not np.array_equal(views, jax.vmap(compose(cutout(4), flip(), crop(2)), (0, None))(keys, IMAGE))


@pytest.mark.parametrize("text", ["", "none", "  "])
def test_no_steps_leave_the_image_as_it_is(text):
    np.testing.assert_array_equal(parse_augmentation(text, (8, 8, 3))(jax.random.key(0), IMAGE), IMAGE)
    assert canonical_augmentation(text) == "none"


def test_a_new_step_is_known_by_its_name_alone(monkeypatch):
    monkeypatch.delitem(STEPS, "invert", raising=False)

    @augmentation_step("images")
    def invert():
        return lambda key, image: 255 - image

    np.testing.assert_array_equal(parse_augmentation("invert", (8, 8, 3))(jax.random.key(0), IMAGE), 255 - IMAGE)
    for text, words in (("invrt", "for images .*invert;.*; did you mean invert[?]"), ("invert(1)", "expected invert$")):
        with pytest.raises(InputError, match=f"^augment {re.escape(text)}: .*{words}"):
            parse_augmentation(text)
    with pytest.raises(InputError, match=r"^augment invert: for images; the data are events"):
        parse_augmentation("invert", (3, 8, 8, 2))


@pytest.mark.parametrize(
    ("text", "shape", "words"),
    [
        ("crop", None, "crop: expected crop(padding)"),
        ("crop(x)", None, "crop(x): expected a whole number of pixels"),
        ("crop(-1)", None, "crop(-1): expected a whole number of pixels"),
        ("crop(1", None, "crop(1: unknown; expected, for images "),
        ("flip | ", None, "an empty step: unknown; expected, for images "),
        ("flip | rol(2)", None, "rol(2): unknown; expected, for images "),
        ("resized_crop(0)", None, "resized_crop(0): expected a number above 0, at most 1"),
        ("cutout(1.5)", None, "cutout(1.5): expected a whole number of pixels, or a fraction"),
        ("autoaugment(svhn)", None, "autoaugment(svhn): expected cifar10 or imagenet"),
        ("autoaugment(imagenet)", (8, 8, 1), "autoaugment(imagenet): expected RGB images, uint8 [H, W, 3]; got"),
        ("cutout(7)", (8, 6, 3), "cutout(7): larger than the images, of 6 pixels; half of that is usual"),
        ("cutout(112)", (3, 8, 8, 2), "cutout(112): larger than the images, of 8 pixels"),
        ("flip | roll(2)", (8, 8, 3), "roll(2): for events; the data are images"),
        ("crop(1)", (3, 8, 8, 2), "crop(1): for images; the data are events"),
        ("event_drop(1.5)", None, "event_drop(1.5): expected a number from 0 to 1"),
        ("roll(0.5)", None, "roll(0.5): expected a whole number of pixels"),
    ],
)
def test_wrong_steps_are_one_line_that_names_them(text, shape, words):
    with pytest.raises(InputError, match=f"^augment {re.escape(words)}") as refused:
        parse_augmentation(text, shape)
    assert "\n" not in str(refused.value)


def test_a_step_that_changes_an_images_dtype_is_refused(monkeypatch):
    monkeypatch.setitem(STEPS, "halve", STEPS["flip"]._replace(make=lambda: lambda key, image: image / 2))
    with pytest.raises(InputError, match=r"augment halve: returns float32 \[8, 8, 3\]; expected uint8"):
        parse_augmentation("halve", (8, 8, 3))
