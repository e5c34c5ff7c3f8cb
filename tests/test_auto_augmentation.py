"""AutoAugment against Pillow, pixel by pixel. Frequencies are checked to five standard deviations."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from sealkd_jax.data.augmentation import augment
from sealkd_jax.data.auto_augmentation import POLICIES, _draw, autoaugment
from sealkd_jax.data.image_operations import apply_setting, setting
from sealkd_jax.errors import InputError

HEIGHT, WIDTH = 12, 22  # at least 256 pixels, so that an image can have every level
GREY = (128, 128, 128)
SHEARS = {"ShearX", "ShearY"}
NAMES = sorted({name for policy in POLICIES.values() for pair in policy for name, _, _ in pair} - SHEARS)


def pillow(name, level, sign, image):
    """The operation as the authors of SeAl-KD apply it with Pillow."""
    picture = Image.fromarray(image)
    size, shift = picture.size, np.linspace(0, 150 / 331, 10)[level] * sign
    match name:
        case "Identity":
            return image
        case "ShearX" | "ShearY":
            slope = np.linspace(0, 0.3, 10)[level] * sign
            matrix = (1, slope, 0, 0, 1, 0) if name == "ShearX" else (1, 0, 0, slope, 1, 0)
            picture = picture.transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=GREY)
        case "TranslateX":
            picture = picture.transform(size, Image.Transform.AFFINE, (1, 0, shift * size[0], 0, 1, 0), fillcolor=GREY)
        case "TranslateY":
            picture = picture.transform(size, Image.Transform.AFFINE, (1, 0, 0, 0, 1, shift * size[1]), fillcolor=GREY)
        case "Rotate":
            picture = picture.rotate(np.linspace(0, 30, 10)[level], fillcolor=GREY)
        case "AutoContrast" | "Equalize" | "Invert":
            picture = getattr(ImageOps, name.lower())(picture)
        case "Solarize":
            picture = ImageOps.solarize(picture, np.linspace(256, 0, 10)[level])
        case "Posterize":
            picture = ImageOps.posterize(picture, int(np.round(np.linspace(8, 4, 10))[level]))
        case _:
            picture = getattr(ImageEnhance, name)(picture).enhance(1 + np.linspace(0, 0.9, 10)[level] * sign)
    return np.asarray(picture)


def pictures(count, seed, height=HEIGHT, width=WIDTH):
    """Noise over all levels and over few, bright, dark, smooth and of one colour: uint8 `[count, H, W, 3]`."""
    rng = np.random.default_rng(seed)
    out = np.empty((count, height, width, 3))
    for number, image in enumerate(out):
        low, high = np.sort(rng.integers(0, 256, 2))
        noise = rng.normal(0, 6, image.shape)
        image[:] = [
            rng.integers(0, 256, image.shape),
            rng.integers(low, high + 1, image.shape),
            rng.integers(low, high + 1, 3) + rng.integers(0, 4, image.shape),
            low + np.cumsum(np.cumsum(noise, 0), 1) / 3,
            low + 4 * noise,
            np.broadcast_to(rng.integers(0, 256, 3), image.shape),
        ][number % 6]
    return np.clip(out, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def ours():
    """Our operations for a list of (name, level, sign) and as many images: one compiled program, 512 at a time."""
    program = jax.jit(jax.vmap(apply_setting))

    def run(entries, images):
        made = {entry: setting(*entry, HEIGHT, WIDTH) for entry in set(entries)}
        out = []
        for start in range(0, len(images), 512):
            picked = np.resize(np.arange(start, min(start + 512, len(images))), 512)
            rows = jax.tree.map(lambda *arrays: np.stack(arrays), *(made[entries[n]] for n in picked))
            out.append(np.asarray(program(rows, images[picked])))
        return np.concatenate(out)[: len(images)]

    return run


def compared(ours, entries, images):
    theirs = np.stack([pillow(*entry, image) for entry, image in zip(entries, images, strict=True)])
    return ours(entries, images).astype(int), theirs.astype(int)


@pytest.mark.parametrize("name", NAMES)
def test_an_operation_at_every_level_is_pillows_to_the_bit(name, ours):
    entries = [(name, level, sign) for level in range(10) for sign in (1, -1) for _ in range(24)]
    np.testing.assert_array_equal(*compared(ours, entries, np.tile(pictures(48, 0), (10, 1, 1, 1))))


@pytest.mark.parametrize("name, levels", [("ShearX", (5, 9)), ("ShearY", (7, 8))])
def test_shear_is_pillows_but_for_whole_numbers_that_float64_falls_short_of(name, levels, ours):
    entries = [(name, level, sign) for level in levels for sign in (1, -1) for _ in range(120)]
    got, expected = compared(ours, entries, pictures(480, 1))
    assert np.isin(got - expected, (0, 1)).all()
    assert (got != expected).mean() < 0.004


def test_auto_contrast_is_pillows_where_float64_falls_short_of_a_whole_number(ours):
    low, high = np.triu_indices(256, 1)
    level, scale = np.arange(256)[:, None], 255 / (high - low)
    in_float64, exact = (level * scale + -low * scale).astype(int), 255 * (level - low) // (high - low)
    chosen = (np.clip(in_float64, 0, 255) != np.clip(exact, 0, 255)).any(0)
    low, high = (bound[chosen].reshape(-1, 3, 1, 1) for bound in (low, high))  # 5,958 pairs, one for each channel
    images = np.moveaxis(np.clip(np.resize(level, (HEIGHT, WIDTH)), low, high), 1, -1).astype(np.uint8)
    np.testing.assert_array_equal(*compared(ours, [("AutoContrast", 0, 1)] * len(images), images))


def draws(name, keys):
    """Sub-policy, applied and negative, for each key."""
    return [np.asarray(drawn) for drawn in jax.jit(jax.vmap(lambda key: _draw(POLICIES[name], key)))(keys)]


def test_policies_are_the_published_ones_but_for_what_the_authors_of_seal_kd_have_otherwise():
    """Names, probabilities and, where an operation has one, levels; written down from torchvision's."""
    published = json.loads((Path(__file__).parent / "golden" / "auto_augment.json").read_text())
    assert published["cifar10"][16][1] == ["Equalize", 0.6, None]
    published["cifar10"][16][1][1] = 0.8
    assert published["imagenet"].pop(24) == published["imagenet"][2]
    assert published.keys() == POLICIES.keys()
    for of, pairs in published.items():
        for ours, theirs in zip(POLICIES[of], pairs, strict=True):
            for (name, probability, level), expected in zip(ours, theirs, strict=True):
                assert [name, probability] == expected[:2] and expected[2] in (None, level)


@pytest.fixture(scope="module", params=POLICIES)
def policy(request):
    """Its name, 200 images, their keys, what it makes of them and what it drew."""
    images, keys = pictures(200, 2), jax.random.split(jax.random.key(0), 200)
    out = jax.jit(jax.vmap(autoaugment(request.param)))(keys, images)
    return request.param, images, keys, np.asarray(out), draws(request.param, keys)


def test_the_policy_is_the_drawn_operations_one_after_the_other(policy):
    of, images, _, out, drawn = policy
    seen = set()
    for image, got, number, used, negative in zip(images, out, *drawn, strict=True):
        for (name, _, level), use, sign in zip(POLICIES[of][number], used, 1 - 2 * negative, strict=True):
            if use:
                image = pillow(name, level, sign, image)
                seen.add(name)
        sheared = used[0] and POLICIES[of][number][0][0] in SHEARS
        assert (got != image).mean() <= 0.02 * sheared
    assert seen == {name for pair in POLICIES[of] for name, _, _ in pair}


def test_the_policy_does_the_same_to_an_image_alone_and_where_64_bit_types_are_on(policy, float64):
    of, images, keys, out, drawn = policy
    alone = jax.jit(jax.vmap(autoaugment(of)))
    for number in range(0, 200, 8):
        np.testing.assert_array_equal(alone(keys[number : number + 1], images[number : number + 1])[0], out[number])
    for wide, narrow in zip(draws(of, keys), drawn, strict=True):
        np.testing.assert_array_equal(wide, narrow)


@pytest.mark.parametrize("of, pairs", [("cifar10", 25), ("imagenet", 24)])
def test_draws_have_the_policys_probabilities(of, pairs):
    count = 50000
    number, used, negative = draws(of, jax.random.split(jax.random.key(0), count))
    share = np.bincount(number, minlength=pairs) / count
    assert np.abs(share - 1 / pairs).max() < 5 * np.sqrt((pairs - 1) / pairs**2 / count)
    for pair, row in enumerate(POLICIES[of]):
        chosen = number == pair
        expected = np.array([probability for _, probability, _ in row])
        deviation = np.sqrt(expected * (1 - expected) / chosen.sum())
        assert (np.abs(used[chosen].mean(0) - expected) <= 5 * deviation).all()
        assert (np.abs(negative[chosen].mean(0) - 0.5) < 2.5 / np.sqrt(chosen.sum())).all()


@pytest.mark.parametrize("name", [*NAMES, "ShearX"])
def test_an_operation_on_pictures_of_imagenets_size(name):
    images = pictures(6, 4, 224, 224)
    for level in (3, 5, 9):
        ours = jax.jit(jax.vmap(apply_setting, in_axes=(None, 0)))(setting(name, level, 1, 224, 224), images)
        theirs = np.stack([pillow(name, level, 1, image) for image in images])
        assert (ours != theirs).mean() <= 0.004 * (name in SHEARS)


@pytest.mark.parametrize("height, width", [(1, 1), (2, 5)])
def test_small_images_have_no_inside_to_be_smoothed(height, width):
    image = pictures(1, 3, height, width)[0]
    program = jax.jit(apply_setting)
    for sign in (1, -1):
        out = program(setting("Sharpness", 9, sign, height, width), image)
        np.testing.assert_array_equal(out, pillow("Sharpness", 9, sign, image))


@pytest.mark.parametrize("shape, dtype", [((8, 8, 1), jnp.uint8), ((8, 8), jnp.uint8), ((8, 8, 3), jnp.uint16)])
def test_an_image_of_another_kind_is_named(shape, dtype):
    images = jnp.zeros((2, *shape), dtype)
    with pytest.raises(InputError, match=r"autoaugment\(cifar10\): expected RGB images, uint8 \[H, W, 3\]; got "):
        augment(autoaugment("cifar10"), images, seed=0, view=1, index=jnp.arange(2))


def test_a_policy_that_there_is_not_is_named():
    with pytest.raises(InputError, match=r"autoaugment\(svhn\): expected cifar10 or imagenet"):
        autoaugment("svhn")
