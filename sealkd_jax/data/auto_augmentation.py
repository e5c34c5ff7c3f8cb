"""AutoAugment's policies for CIFAR-10 and ImageNet, on the device: a random pair of operations for each image.

Axis legend: H height, W width.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sealkd_jax.data.augmentation import Augmentation, augmentation_step, expect
from sealkd_jax.data.image_operations import Setting, apply_setting, setting
from sealkd_jax.errors import InputError

Policy = tuple[tuple[tuple[str, float, int], tuple[str, float, int]], ...]

# Sub-policies of two operations, each a name, a probability and a level (Cubuk et al. 2019, appendix), with the change
# of SeAl-KD's authors: the second Equalize of the 17th has probability 0.8; published is 0.6.
CIFAR10_POLICY: Policy = (
    (("Invert", 0.1, 7), ("Contrast", 0.2, 6)),
    (("Rotate", 0.7, 2), ("TranslateX", 0.3, 9)),
    (("Sharpness", 0.8, 1), ("Sharpness", 0.9, 3)),
    (("ShearY", 0.5, 8), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.5, 8), ("Equalize", 0.9, 2)),
    (("ShearY", 0.2, 7), ("Posterize", 0.3, 7)),
    (("Color", 0.4, 3), ("Brightness", 0.6, 7)),
    (("Sharpness", 0.3, 9), ("Brightness", 0.7, 9)),
    (("Equalize", 0.6, 5), ("Equalize", 0.5, 1)),
    (("Contrast", 0.6, 7), ("Sharpness", 0.6, 5)),
    (("Color", 0.7, 7), ("TranslateX", 0.5, 8)),
    (("Equalize", 0.3, 7), ("AutoContrast", 0.4, 8)),
    (("TranslateY", 0.4, 3), ("Sharpness", 0.2, 6)),
    (("Brightness", 0.9, 6), ("Color", 0.2, 8)),
    (("Solarize", 0.5, 2), ("Invert", 0.0, 3)),
    (("Equalize", 0.2, 0), ("AutoContrast", 0.6, 0)),
    (("Equalize", 0.2, 8), ("Equalize", 0.8, 4)),
    (("Color", 0.9, 9), ("Equalize", 0.6, 6)),
    (("AutoContrast", 0.8, 4), ("Solarize", 0.2, 8)),
    (("Brightness", 0.1, 3), ("Color", 0.7, 0)),
    (("Solarize", 0.4, 5), ("AutoContrast", 0.9, 3)),
    (("TranslateY", 0.9, 9), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.9, 2), ("Solarize", 0.8, 3)),
    (("Equalize", 0.8, 8), ("Invert", 0.1, 3)),
    (("TranslateY", 0.7, 9), ("AutoContrast", 0.9, 1)),
)

# Without the published 25th sub-policy, a copy of the third, as SeAl-KD's authors have it.
IMAGENET_POLICY: Policy = (
    (("Posterize", 0.4, 8), ("Rotate", 0.6, 9)),
    (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 5)),
    (("Equalize", 0.8, 8), ("Equalize", 0.6, 3)),
    (("Posterize", 0.6, 7), ("Posterize", 0.6, 6)),
    (("Equalize", 0.4, 7), ("Solarize", 0.2, 4)),
    (("Equalize", 0.4, 4), ("Rotate", 0.8, 8)),
    (("Solarize", 0.6, 3), ("Equalize", 0.6, 7)),
    (("Posterize", 0.8, 5), ("Equalize", 1.0, 2)),
    (("Rotate", 0.2, 3), ("Solarize", 0.6, 8)),
    (("Equalize", 0.6, 8), ("Posterize", 0.4, 6)),
    (("Rotate", 0.8, 8), ("Color", 0.4, 0)),
    (("Rotate", 0.4, 9), ("Equalize", 0.6, 2)),
    (("Equalize", 0.0, 7), ("Equalize", 0.8, 8)),
    (("Invert", 0.6, 4), ("Equalize", 1.0, 8)),
    (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
    (("Rotate", 0.8, 8), ("Color", 1.0, 2)),
    (("Color", 0.8, 8), ("Solarize", 0.8, 7)),
    (("Sharpness", 0.4, 7), ("Invert", 0.6, 8)),
    (("ShearX", 0.6, 5), ("Equalize", 1.0, 9)),
    (("Color", 0.4, 0), ("Equalize", 0.6, 3)),
    (("Equalize", 0.4, 7), ("Solarize", 0.2, 4)),
    (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 5)),
    (("Invert", 0.6, 4), ("Equalize", 1.0, 8)),
    (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
)


POLICIES = {"cifar10": CIFAR10_POLICY, "imagenet": IMAGENET_POLICY}


@augmentation_step("images")
def autoaugment(policy: str) -> Augmentation:
    """AutoAugment, Cubuk et al., CVPR 2019 (arXiv 1805.09501), by its policy for one data set.

    Draws one of the sub-policies, and applies each of its two operations with its own probability, in a random
    direction if it has two. Where implementations differ, this follows the one that SeAl-KD was trained with (the
    widespread one by DeepVoltaire); torchvision's `AutoAugment` is in brackets. Outside of the image is grey, 128
    (black); shear is bicubic (nearest pixel); rotation is counter-clockwise only (either way); solarize thresholds
    count from 256 (255). Translations are fractions of the image's side, at most 150/331. SeAl-KD crops and flips
    before it, and applies Cutout and normalises after it.

    Args:
        policy: "cifar10" or "imagenet", for any images.

    Returns:
        An augmentation of uint8 `[H, W, 3]`, any size.

    Raises:
        InputError: for another policy; when traced, for any other image.
    """
    expect(policy in POLICIES, f"autoaugment({policy})", " or ".join(POLICIES))
    pairs = POLICIES[policy]

    def apply(key: jax.Array, image: jax.Array) -> jax.Array:
        if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != jnp.uint8:
            shape = f"{image.dtype} {list(image.shape)}"
            raise InputError(f"autoaugment({policy}): expected RGB images, uint8 [H, W, 3]; got {shape}")
        settings, numbers = jax.tree.map(jnp.asarray, _settings(pairs, *image.shape[:2]))

        def step(image: jax.Array, number: jax.Array) -> tuple[jax.Array, None]:
            return apply_setting(jax.tree.map(lambda array: array[number], settings), image), None

        drawn, used, negative = _draw(pairs, key)
        pair = jnp.where(used, numbers[drawn, jnp.arange(2), negative], 0)
        return jax.lax.scan(step, image, pair)[0]

    return apply


def _draw(policy: Policy, key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Number of a sub-policy, and for its two operations whether each is used and whether it is negative."""
    policy_key, use_key, sign_key = jax.random.split(key, 3)
    drawn = jax.random.randint(policy_key, (), 0, len(policy), jnp.int32)
    probability = jnp.array([[use for _, use, _ in pair] for pair in policy], jnp.float32)
    used = jax.random.uniform(use_key, (2,), jnp.float32) < probability[drawn]
    return drawn, used, jax.random.randint(sign_key, (2,), 0, 2, jnp.int32)


@functools.cache
def _settings(policy: Policy, height: int, width: int) -> tuple[Setting, np.ndarray]:
    """The distinct settings of a policy, stacked, Identity first; their numbers `[pairs, 2, 2]` by place and sign."""
    distinct = {("Identity", 0, 1): 0}
    numbers = np.empty((len(policy), 2, 2), np.int32)
    for pair, operations in enumerate(policy):
        for place, (name, _, level) in enumerate(operations):
            for negative, sign in enumerate((1, -1)):
                numbers[pair, place, negative] = distinct.setdefault((name, level, sign), len(distinct))
    made = [setting(*entry, height, width) for entry in distinct]
    return jax.tree.map(lambda *arrays: np.stack(arrays), *made), numbers
