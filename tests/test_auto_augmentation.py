"""AutoAugment against Pillow, pixel by pixel. Frequencies are checked to five standard deviations."""

import json
from collections import Counter
from itertools import product
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from sealkd_jax.data.augmentation import augment
from sealkd_jax.data.auto_augmentation import POLICIES, autoaugment
from sealkd_jax.data.image_operations import apply_setting, setting
from sealkd_jax.errors import InputError

HEIGHT, WIDTH = 12, 22  # at least 256 pixels, so that an image can have every level
GREY = (128, 128, 128)
TRUNCATED = {"ShearX": (5, 9), "ShearY": (7, 8), "AutoContrast": (0,)}  # with levels to test
NAMES = sorted({name for policy in POLICIES.values() for pair in policy for name, _, _ in pair} - set(TRUNCATED))


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


@pytest.mark.parametrize("name", TRUNCATED)
def test_the_others_are_pillows_but_for_whole_numbers_that_float64_falls_short_of(name, ours):
    entries = [(name, level, sign) for level in TRUNCATED[name] for sign in (1, -1) for _ in range(120)]
    got, expected = compared(ours, entries, pictures(len(entries), 1))
    assert np.isin(got - expected, (0, 1)).all()
    assert (got != expected).mean() < 0.004


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


@pytest.mark.parametrize("name", ["cifar10", pytest.param("imagenet", marks=pytest.mark.slow)])
def test_a_view_is_one_sub_policys_operations_with_their_probabilities(name, ours):
    """Every outcome for one picture is worked out operation by operation, with its probability, and counted."""
    count, image, policy = 8_000, pictures(1, 2)[0], POLICIES[name]
    chains, odds = [], []
    for pair, use, signs in product(policy, product((True, False), repeat=2), product((1, -1), repeat=2)):
        drawn = list(zip(pair, use, signs, strict=True))
        chains.append([(op, level, sign) if used else ("Identity", 0, 1) for (op, _, level), used, sign in drawn])
        odds.append(np.prod([p if used else 1 - p for (_, p, _), used, _ in drawn]) / 4 / len(policy))
    outcomes = np.stack([image] * len(chains))
    for place in (0, 1):
        outcomes = ours([chain[place] for chain in chains], outcomes)
    expected = Counter()
    for outcome, probability in zip(outcomes, odds, strict=True):
        expected[outcome.tobytes()] += probability
    keys = jax.random.split(jax.random.key(0), count)
    views = jax.jit(jax.vmap(autoaugment(name), (0, None)))(keys, image)
    seen = Counter(view.tobytes() for view in np.asarray(views))
    assert len(expected) > 40 and seen.keys() <= expected.keys()
    for outcome, odds in expected.items():
        assert abs(seen[outcome] / count - odds) <= 5 * np.sqrt(odds * (1 - odds) / count)


def test_a_view_is_the_same_alone_in_a_batch_and_where_64_bit_types_are_on(float64):
    images, keys = pictures(24, 2), jax.random.split(jax.random.key(0), 24)
    program = jax.jit(jax.vmap(autoaugment("cifar10")))
    together = np.asarray(program(keys, images))
    for number in range(0, 24, 8):
        alone = program(keys[number : number + 1], images[number : number + 1])
        np.testing.assert_array_equal(alone[0], together[number])
    with jax.enable_x64(False):
        np.testing.assert_array_equal(program(keys, images), together)


@pytest.mark.slow
def test_operations_on_pictures_of_imagenets_size():
    images, program = pictures(2, 4, 224, 224), jax.jit(jax.vmap(apply_setting, in_axes=(None, 0)))
    for name, level in product((*NAMES, "ShearX"), (5, 9)):
        ours = program(setting(name, level, 1, 224, 224), images)
        theirs = np.stack([pillow(name, level, 1, image) for image in images])
        assert (np.asarray(ours) != theirs).mean() <= 0.004 * (name in TRUNCATED)


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


def test_an_unknown_policy_is_named():
    with pytest.raises(InputError, match=r"autoaugment\(svhn\): expected cifar10 or imagenet"):
        autoaugment("svhn")
