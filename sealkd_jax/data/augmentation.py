"""Augmentation as pure functions of (key, image), on the device, the same for the teacher and the student.

An augmentation takes a key and one image, uint8 `[H, W, C]`, or one recording of events as frames, uint8 or uint16
`[T, H, W, 2]`, and returns one of the same shape and dtype. View k of image n is a pure function of (seed, k, n), so a
teacher's logits for it can be stored and the student still trains on the very same view. View 0 is the image itself.

Axis legend: B batch, T timesteps, H height, W width, C channels.
"""

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from sealkd_jax.errors import InputError, did_you_mean

Augmentation = Callable[[jax.Array, jax.Array], jax.Array]
"""(key, image) -> image."""
Kind = Literal["images", "events", "images and events"]
"""The data that a step is for."""


class Step(NamedTuple):
    """A function of at most one argument that returns an augmentation."""

    make: Callable[..., Augmentation]
    kind: Kind


STEPS: dict[str, Step] = {}
"""The steps that `parse_augmentation` knows."""
_Make = TypeVar("_Make", bound=Callable[..., Augmentation])


def augmentation_step(kind: Kind) -> Callable[[_Make], _Make]:
    """Decorator that makes a function a step of `parse_augmentation`, under its own name.

    `name(argument)` calls the function with an int, a float or, where the argument is no number, a string. The
    function raises `InputError` if the argument is not one that it takes.

    Examples:
        >>> @augmentation_step("images")
        ... def invert():
        ...     return lambda key, image: 255 - image
        >>> augmentation = parse_augmentation("flip | invert", (8, 8, 3))
        >>> int(augmentation(jax.random.key(0), jnp.zeros((8, 8, 3), jnp.uint8)).min())
        255
        >>> del STEPS["invert"]
    """

    def register(make: _Make) -> _Make:
        STEPS[make.__name__] = Step(make, kind)
        return make

    return register


def parse_augmentation(text: str, shape: Sequence[int] | None = None) -> Augmentation:
    """The augmentation that a text describes: steps in the order in which they are applied, see `compose`.

    Args:
        text: such as "crop(4) | flip | autoaugment(cifar10) | cutout(16)". Empty or "none": every image as it is.
        shape: of one example, `[H, W, C]`, or `[T, H, W, 2]` of a recording. Steps that do not fit it are refused.

    Raises:
        InputError: for an unknown step, a wrong argument, or a step that does not fit such examples.
    """
    text = canonical_augmentation(text)
    try:
        return compose(*(_parse_step(step, shape) for step in text.split(" | ") if text != "none"))
    except InputError as error:
        raise InputError(f"augment {error}") from error


def canonical_augmentation(text: str) -> str:
    """The text with the same spaces however it was written; "none" for an empty one.

    Examples:
        >>> canonical_augmentation("crop( 4 )|flip"), canonical_augmentation("")
        ('crop(4) | flip', 'none')
    """
    return " | ".join("".join(step.split()) for step in text.split("|")) or "none"


def _known_steps() -> str:
    """The names and arguments of all steps, by the data that they are for."""
    kinds: dict[str, list[str]] = {}
    for name, step in STEPS.items():
        kinds.setdefault(step.kind, []).append(_usage(name, step))
    return "; ".join(f"for {kind} {', '.join(usages)}" for kind, usages in kinds.items())


def _usage(name: str, step: Step) -> str:
    parameters = list(inspect.signature(step.make).parameters)
    return f"{name}({parameters[0]})" if parameters else name


def _parse_step(text: str, shape: Sequence[int] | None) -> Augmentation:
    match = re.fullmatch(r"(\w+)(?:\(([^()]*)\))?", text)
    if match is None or match[1] not in STEPS:
        nearest = did_you_mean(text.partition("(")[0], STEPS)
        raise InputError(f"{text or 'an empty step'}: unknown; expected, {_known_steps()}{nearest}")
    step, arguments = STEPS[match[1]], () if match[2] is None else (_read(match[2]),)
    try:
        inspect.signature(step.make).bind(*arguments)
    except TypeError as error:
        raise InputError(f"{text}: expected {_usage(match[1], step)}") from error
    augmentation = step.make(*arguments)
    if shape is not None:
        _check_fit(text, step.kind, augmentation, tuple(shape))
    return augmentation


def _read(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def _check_fit(text: str, kind: Kind, augmentation: Augmentation, shape: tuple[int, ...]) -> None:
    """Traces the step for such an example, for the errors that it raises itself."""
    given = "images" if len(shape) == 3 else "events"
    if given not in kind:
        raise InputError(f"{text}: for {kind}; the data are {given}")
    out = jax.eval_shape(lambda image: augmentation(random_key(0), image), jax.ShapeDtypeStruct(shape, jnp.uint8))
    if (out.shape, out.dtype) != (shape, jnp.uint8):
        raise InputError(f"{text}: returns {out.dtype} {list(out.shape)}; expected uint8 {list(shape)}, as its input")


def expect(holds: bool, call: str, expected: str) -> None:
    """Refuses a step's argument unless `holds`."""
    if not holds:
        raise InputError(f"{call}: expected {expected}")


def is_whole(value: Any) -> bool:
    """Whether it is an integer from 0."""
    return isinstance(value, (int, np.integer)) and bool(value >= 0)


def random_key(seed: jax.typing.ArrayLike) -> jax.Array:
    """A key of the generator that all views and runs use, whatever `JAX_DEFAULT_PRNG_IMPL` says."""
    return jax.random.key(seed, impl="threefry2x32")


def compose(*augmentations: Augmentation) -> Augmentation:
    """Applies one after the other, each with a key of its own; returns the image as it is if there are none."""

    def apply(key: jax.Array, image: jax.Array) -> jax.Array:
        for position, augmentation in enumerate(augmentations):
            image = augmentation(jax.random.fold_in(key, position), image)
        return image

    return apply


def augment(
    augmentation: Augmentation, images: jax.Array, *, seed: int, view: jax.typing.ArrayLike, index: jax.Array
) -> jax.Array:
    """View `view` of each image or recording; view 0 is the image itself.

    Args:
        augmentation: makes a view of one image or recording.
        images: uint8 `[B, H, W, C]`, or frames of events, uint8 or uint16 `[B, T, H, W, 2]`.
        seed: seed of all views of this data set.
        view: scalar k, the number of the view.
        index: `[B]` integers n, the images' places in the training split.

    Returns:
        Views of the same shape and dtype as `images`.
    """
    if isinstance(view, int) and view == 0:
        return images
    view_key = jax.random.fold_in(random_key(seed), view)
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(view_key, index)
    return jnp.where(view == 0, images, jax.vmap(augmentation)(keys, images))


def normalise(images: jax.Array, mean: jax.Array, std: jax.Array) -> jax.Array:
    """Maps uint8 `[..., C]` to zero mean and unit deviation.

    The result has the dtype of `mean` and `std`, both `[C]` and for pixels in [0, 1].
    """
    channels = (1,) * (images.ndim - 1) + (-1,)
    return (images.astype(mean.dtype) / 255 - mean.reshape(channels)) / std.reshape(channels)
