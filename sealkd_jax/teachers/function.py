"""A teacher as a function of a batch of images, and the checks of what it returns.

Axis legend: B batch, T timesteps, H height, W width, C channels (images) or classes (logits), F features.
"""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sealkd_jax.errors import InputError, did_you_mean, reason
from sealkd_jax.training.teacher_logits import Outputs, are_probabilities

Function = Callable[[np.ndarray], Any]
"""Images uint8 `[B, H, W, C]`, or frames of events uint8 or uint16 `[B, T, H, W, 2]`, to logits `[B, C]` or
`[B, T, C]`; or to a pair of these and penultimate features `[B, F]`. Anything that NumPy or PyTorch converts."""
ROUNDING = 1e-3  # of the largest logit: two computations of the same may differ by so much, and no more


@dataclass(frozen=True)
class FunctionTeacher:
    """A teacher from any library.

    Attributes:
        name: for messages.
        function: see `Function`.
        digest: of everything that its logits follow from.
        outputs: the number of its classes.
        columns: the places of the data's classes among its own; None if they are the same, in the same order.
        timesteps: T that logits `[B, T, C]` must have.
        source: the file whose line a message names if the function raises.
    """

    name: str
    function: Function
    digest: str
    outputs: int
    columns: np.ndarray | None = None
    timesteps: int = 1
    source: str | None = None

    def __call__(self, images: np.ndarray) -> Outputs:
        """Logits float32 `[B, C]` or `[B, T, C]` in the order of the data's classes, and features if it gives any.

        Raises:
            InputError: if the function raises, or returns another shape, NaN or infinity.
        """
        given = f"for images {images.dtype} {list(images.shape)}"
        try:
            found = self.function(images.copy())  # its own, which it may write to
        except Exception as error:
            line = raised_at(error, self.source)
            raise InputError(f"{self.name}: {given} it raised {type(error).__name__}: {reason(error)}{line}") from error
        pair = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
        logits, features = self._as_array("logits", pair[0]), None
        if logits.ndim == 3 and logits.shape[1] == 1:
            logits = logits[:, 0]
        self._check_shape(given, logits.shape, len(images))
        logits = logits if self.columns is None else logits[..., self.columns]
        if pair[1] is not None:
            features = self._as_array("features", pair[1])
            if features.ndim != 2 or len(features) != len(images):
                shape = f"features {list(features.shape)}; expected [{len(images)}, F]"
                raise InputError(f"{self.name}: {given} it returned {shape}")
        return Outputs(logits, features)

    def _check_shape(self, given: str, shape: tuple[int, ...], batch: int) -> None:
        per_timestep = (batch, self.timesteps, self.outputs)
        if shape in ((batch, self.outputs), per_timestep):
            return
        expected = f"[{batch}, {self.outputs}]"
        if self.timesteps > 1:
            expected += f", or {list(per_timestep)} for logits at each timestep"
        if self.columns is None and shape and shape[-1] != self.outputs:
            expected += (
                f"; the data have {self.outputs} classes: if the network has others besides, give CLASSES, their names "
                "in the order of its outputs"
            )
        raise InputError(f"{self.name}: {given} it returned logits {list(shape)}; expected {expected}")

    def _as_array(self, what: str, value: Any) -> np.ndarray:
        try:
            if hasattr(value, "detach"):  # PyTorch's tensors, also on a GPU or in bfloat16
                value = value.detach().float().cpu()
            array = np.asarray(value)
            if array.dtype.kind in "OUSc":
                raise TypeError(f"NumPy makes {array.dtype} of it")
            array = array.astype(np.float32)
        except Exception as error:
            raise InputError(
                f"{self.name}: returned {what} of type {type(value).__name__}, which cannot be converted "
                f"({reason(error)}); expected an array of numbers"
            ) from error
        if not np.isfinite(array).all():
            raise InputError(
                f"{self.name}: returned {what} with NaN or infinity; expected finite ones, for a masked class a low "
                "logit, such as -30"
            )
        return array

    def try_out(self, images: np.ndarray) -> None:
        """Calls it three times on the same images, of which others stand beside them in the last call.

        Raises:
            InputError: if its logits differ between the calls, or are probabilities.
        """
        first, again = self(images).logits, self(images).logits
        if (change := _change(first, again)) > ROUNDING:
            raise InputError(
                f"{self.name}: two calls with the same {len(images)} images gave other logits, by {change:.2g} of the "
                "largest; put the network into evaluation mode (without dropout), and draw no random numbers"
            )
        half = -(-len(images) // 2)
        beside = np.concatenate([images[:half], np.repeat(images[:1], len(images) - half, 0)])
        if (change := _change(first[:half], self(beside).logits[:half])) > ROUNDING:
            raise InputError(
                f"{self.name}: the logits of an image changed with the other images of the batch, by {change:.2g} of "
                "the largest; put the network into evaluation mode, in which BatchNorm uses its running statistics"
            )
        if are_probabilities(first):
            raise InputError(
                f"{self.name}: returned probabilities: none is below 0, and those of each image have the sum 1; return "
                "the logits before the softmax, or the logarithm of the probabilities"
            )


def _change(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference, relative to the largest logit; infinite for different shapes."""
    if one.shape != other.shape:
        return np.inf
    return float(abs(one - other).max() / max(abs(one).max(), 1e-30))


def raised_at(error: BaseException, source: str | None) -> str:
    """The line of a user's file at which an error was raised, as the end of a message."""
    if isinstance(error, SyntaxError):
        return f" (line {error.lineno})" if error.lineno else ""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == source]
    return f" (line {lines[-1]})" if lines else ""


def class_columns(name: str, own: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    """The place of each class of the data among the teacher's own.

    Raises:
        InputError: if a class of the data is not there, or is there twice.
    """
    if len(set(own)) < len(own):
        twice = next(each for each in own if list(own).count(each) > 1)
        raise InputError(f"{name}: CLASSES: {twice} is there twice; expected each class once")
    if missing := [each for each in wanted if each not in own]:
        some = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        raise InputError(
            f"{name}: CLASSES: {len(missing)} of the data's {len(wanted)} classes are not there: {some}"
            f"{did_you_mean(missing[0], own)}; expected the names of {', '.join(wanted[:3])}, … as the data have them"
        )
    places = {each: place for place, each in enumerate(own)}
    return np.array([places[each] for each in wanted])
