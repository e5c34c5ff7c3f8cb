"""What to write in NumPy for arrays that are not as `Split` wants them.

Axis legend: N examples, T timesteps, H height, W width, C channels, D numbers of an image.
"""

import math

import numpy as np


def channels_first(shape: tuple[int, ...]) -> bool:
    """Whether `[N, H, W, C]` can only be `[N, C, H, W]`: more than four channels, and very low or not square."""
    if len(shape) != 4:
        return False
    height, width, channels = shape[1:]
    return channels > 4 and ((height <= 4 and width > 4) or (height < width == channels))


def axis_of_examples(shape: tuple[int, ...], examples: int) -> int:
    """The axis of the examples of images: -1 or, of frames, 1 if only that has as many as there are labels, else 0."""
    if len(shape) > 2 and shape[0] != examples:
        return -1 if shape[-1] == examples else int(len(shape) == 5 and shape[1] == examples)
    return 0


def for_images(name: str, images: np.ndarray, examples: int) -> str:
    """The end of a message about images: their range and the expression that makes uint8 `[N, H, W, C]` of them.

    Args:
        name: name of the array in the expression.
        images: array of any shape and dtype.
        examples: the number of labels.
    """
    text, kind = "", images.dtype.kind
    if kind not in "biuf" or not images.size:
        return "; an axis has length 0" if kind in "biuf" else "; expected numbers"
    if kind != "u" or images.dtype.itemsize > 1:
        low, high = images.min(), images.max()
        if not (np.isfinite(low) and np.isfinite(high)):
            first = int(np.argmax(~np.isfinite(images).reshape(len(images), -1).all(1)))
            return f"; NaN or infinity in example {first}"
        text = f" from {low} to {high}"
    expression = _of_dtype(_of_shape(name, images.shape, examples), images)
    if expression != name:
        return f"{text}; write {name} = {expression}"
    if not text:
        return ""
    return f"{text}; expected {'whole numbers from 0 to 65535' if images.ndim == 5 else 'no normalisation'}"


def _of_shape(x: str, shape: tuple[int, ...], examples: int) -> str:
    """The expression that makes `[N, H, W, C]`, `[N, H, W]` or `[N, T, H, W, 2]`; `x` if none is known."""
    if (last := axis_of_examples(shape, examples)) != 0:
        return f"np.moveaxis({x}, {last}, 0)"
    if len(shape) == 2:
        for channels in (1, 3):
            side = math.isqrt(shape[1] // channels)
            if channels * side**2 == shape[1]:
                grey = f"{x}.reshape(-1, {side}, {side})"
                return grey if channels == 1 else f"{x}.reshape(-1, 3, {side}, {side}).transpose(0, 2, 3, 1)"
    if channels_first(shape):
        return f"np.moveaxis({x}, 1, -1)"
    if len(shape) == 5 and shape[-1] != 2 and 2 in shape[1:3]:
        return f"np.moveaxis({x}, {2 if shape[2] == 2 else 1}, -1)"
    return x


def _of_dtype(x: str, images: np.ndarray) -> str:
    """The expression that makes uint8, or of frames uint16; `x` if none is known."""
    frames = images.ndim == 5
    low, high, whole = images.min(), images.max(), images.dtype.kind != "f"
    if images.dtype == np.uint8:
        return x
    if images.dtype == bool:
        return f"{x}.astype(np.uint8)" if frames else f"{x} * np.uint8(255)"
    if frames:
        counts = low >= 0 and high < 2**16 and (whole or bool((images == np.round(images)).all()))
        return f"{x}.astype(np.uint16)" if counts else x
    if not whole and low >= -1 and high <= 1:
        scaled = f"{x} * 255" if low >= 0 else f"({x} + 1) * 127.5"
        return f"np.round({scaled}).astype(np.uint8)"
    if low >= 0 and high <= 255:
        return f"{x}.astype(np.uint8)" if whole else f"np.round({x}).astype(np.uint8)"
    if whole and low >= 0 and high < 2**16:
        return f"np.round({x} / 257).astype(np.uint8)"
    if whole and low >= -128 and high < 128:
        return f"({x}.astype(int) + 128).astype(np.uint8)"
    return x


def for_labels(name: str, labels: np.ndarray, examples: int) -> str:
    """The end of a message about labels: the expression that makes integers `[N]` of them."""
    kind, shape = labels.dtype.kind, labels.shape
    if kind in "US":
        return f"; write {renumbered(name)}, and give classes"
    if kind not in "biuf":
        return ""
    if len(shape) == 2 and shape[0] == examples and shape[1] > 1:
        ones = bool((labels.sum(1) == 1).all()) and bool(((labels == 0) | (labels == 1)).all())
        return f"; one-hot: write {name} = {name}.argmax(1)" if ones else "; expected one label for each example"
    expression = name if len(shape) == 1 else f"{name}.reshape(-1)"
    if labels.size != examples:
        return ""
    if kind == "b" or (kind == "f" and bool((labels == np.round(labels)).all())):
        expression += ".astype(int)"
    return "" if expression == name else f"; write {name} = {expression}"


def renumbered(name: str) -> str:
    """Statements that number the labels of an array from 0, as those of the training examples."""
    train = "y_train" if name.startswith("y_") else name
    return f"classes = np.unique({train}); {name} = np.searchsorted(classes, {name})"
