"""The registry of methods: each loss that training and comparison can run, by name and with one signature.

Axes: T timesteps, B batch, C classes.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, TypeVar, overload

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sealkd_jax._checks import as_choice, as_label_mask, as_scalar
from sealkd_jax.losses._divergence import wrong_mask
from sealkd_jax.losses._where import Examples, choose_examples, mean_over

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Integer, Key

Terms = dict[str, tuple[ArrayLike, jax.Array]]
"""The terms of a loss by name: the weight of each, and its loss, unreduced or a scalar."""

Outcome = tuple[jax.Array, dict[str, jax.Array]]

Method = Callable[..., Outcome]
"""An entry of `METHODS`: logits, teacher logits and labels to a scalar and its terms."""

METHODS: dict[str, Method] = {}
"""Every method by its name.

`METHODS[name](student_logits, teacher_logits, labels, *, progress=1.0, axis_name=None, where=None, time_axis=0,
key=None, **hyperparameters)` returns the scalar to minimise, Σ weight · mean(loss) over its terms, and a dict for
plots: the unweighted mean of each term, and "wrong", the share of timesteps whose prediction is wrong.

Args:
  student_logits: logits of every timestep, `[T, B, C]`.
  teacher_logits: `[B, C]` or `[T, B, C]`; may be None where `needs_teacher` is False.
  labels: class indices, `[B]`, or probabilities, `[B, C]`, as label smoothing and mixup make them. The cross-entropy
    takes them as they are; where a method needs one label, as ELA, STA's card and DKD do, it is the largest entry.
  progress: the share of training that is done, in [0, 1].
  axis_name: the axis that the batch is split over. The results are then means over the local shard, for the caller to
    average; a loss that needs the whole batch gathers it.
  where: the examples that count, bool `[B]`; None: all. The means are over them alone, and 0 if none counts. With an
    `axis_name`, the average over the axis is the mean over the examples that count on all shards.
  time_axis: the axis of T: 0, or 1 for logits `[B, T, C]`.
  key: for methods that draw random numbers (`nld`); None: always the same numbers. Training gives a new one each step.

Example:
  >>> import jax
  >>> from sealkd_jax.losses import METHODS
  >>> student, teacher, labels = jax.numpy.zeros((4, 2, 10)), jax.numpy.zeros((2, 10)), jax.numpy.array([0, 1])
  >>> loss, terms = METHODS["seal"](student, teacher, labels, beta=0.5)
  >>> print(f"{loss:.3f} {terms['wrong']:.1f} {sorted(terms)}")
  2.303 0.5 ['ce', 'ela', 'sta', 'wrong']
"""

UNCONFIRMED: set[str] = set()
"""Methods whose formula rests on second-hand accounts of the paper; a table of results should mark them."""

_Function = TypeVar("_Function", bound=Callable[..., Terms])


@overload
def method(function: _Function) -> _Function: ...


@overload
def method(*, unconfirmed: bool = False) -> Callable[[_Function], _Function]: ...


def method(function: _Function | None = None, *, unconfirmed: bool = False) -> Any:
    """Decorator: register a function as a method, under its own name in `METHODS`.

    The function declares the arguments that it uses: any of `student_logits` (in float32 or wider), `teacher_logits`,
    `labels`, `progress`, `axis_name` and `key`, and its hyper-parameters with their defaults. It returns its terms:
    name -> (weight, loss), the loss unreduced, `[B]`, `[T, B]` or `[T, B, C]`, or a scalar. Examples that `where`
    leaves out come as zeros, and the mean leaves them out; a function that returns a scalar declares `where` and sees
    to it itself.

    Args:
      function: the function; it is returned unchanged.
      unconfirmed: adds the name to `UNCONFIRMED`.

    Raises:
      TypeError: a hyper-parameter without a default.

    Example:
      >>> from sealkd_jax.losses import METHODS, hyperparameters, method, needs_teacher, uniform_kd_loss
      >>> @method
      ... def only_kd(student_logits, teacher_logits, *, alpha=0.6):
      ...     return {"kd": (alpha, uniform_kd_loss(student_logits, teacher_logits))}
      >>> needs_teacher("only_kd"), hyperparameters("only_kd")
      (True, {'alpha': 0.6})
      >>> del METHODS["only_kd"]
    """
    if function is None:
        return functools.partial(method, unconfirmed=unconfirmed)
    METHODS[function.__name__] = _complete(function)
    if unconfirmed:
        UNCONFIRMED.add(function.__name__)
    return function


def needs_teacher(name: str) -> bool:
    """Whether the method of this name uses `teacher_logits`.

    Example:
      >>> from sealkd_jax.losses import needs_teacher
      >>> needs_teacher("seal"), needs_teacher("sta")
      (True, False)
    """
    return "teacher_logits" in inspect.signature(inspect.unwrap(_find(name))).parameters


def couples_examples(name: str) -> bool:
    """Whether the loss of an example depends on the others of its batch, so that the batch cannot be taken in parts.

    Example:
      >>> from sealkd_jax.losses import couples_examples
      >>> couples_examples("dist"), couples_examples("seal")
      (True, False)
    """
    return "where" in inspect.signature(inspect.unwrap(_find(name))).parameters  # its means are its own


def hyperparameters(name: str) -> dict[str, Any]:
    """The hyper-parameters of the method of this name, with their defaults.

    Example:
      >>> from sealkd_jax.losses import hyperparameters
      >>> hyperparameters("uniform_kd")
      {'alpha': 0.6, 'temperature': 3.0}
    """
    parameters = inspect.signature(_find(name)).parameters.values()
    own = (p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in (*_SHARED, *_ARRAYS))
    return {p.name: p.default for p in own}


_SHARED = ("progress", "axis_name", "where", "time_axis", "key")
_ARRAYS = ("noise",)  # that a caller may give


def _find(name: str) -> Method:
    return METHODS[as_choice("method", name, tuple(METHODS))]


def _complete(function: Callable[..., Terms]) -> Method:
    """The method that the function describes, with the signature that all methods share."""
    declared = inspect.signature(function).parameters

    def complete(
        student_logits: Float[ArrayLike, "T B C"],
        teacher_logits: Float[ArrayLike, "B C"] | Float[ArrayLike, "T B C"] | None,
        labels: Integer[ArrayLike, "B"] | Float[ArrayLike, "B C"],
        *,
        progress: ArrayLike = 1.0,
        axis_name: Hashable | None = None,
        where: Bool[ArrayLike, "B"] | None = None,
        time_axis: int = 0,
        key: Key[ArrayLike, ""] | None = None,
        **hyperparameters: Any,
    ) -> Outcome:
        chosen = choose_examples(student_logits, teacher_logits, labels, where, time_axis)
        values = (*chosen[:3], progress, axis_name, chosen.keep, 0, key)
        used = {name: value for name, value in zip(shared, values, strict=True) if name in declared}
        terms = function(**used, **hyperparameters)
        if chosen.keep is not None and "where" not in declared:
            _require_examples(function.__name__, terms, chosen.student)
        return _outcome(chosen, terms, axis_name)

    signature = inspect.signature(complete)
    shared = {name: p for name, p in signature.parameters.items() if p.kind is not p.VAR_KEYWORD}
    own = [p.replace(kind=p.KEYWORD_ONLY) for p in declared.values() if p.name not in shared]
    if missing := [p.name for p in own if p.default is p.empty]:
        raise TypeError(f"method {function.__name__}: hyper-parameter {missing[0]}: expected a default value")
    parameters = [*shared.values(), *own]
    functools.update_wrapper(complete, function)
    complete.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    complete.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": signature.return_annotation}
    return complete


def _require_examples(name: str, terms: Terms, student: jax.Array) -> None:
    """Whether `where` can be applied to the terms."""
    shapes = student.shape[1:2], student.shape[:2], (1, student.shape[1]), student.shape
    for term, (_, loss) in terms.items():
        if loss.shape not in shapes:
            raise ValueError(
                f"where: the term {term} of method {name} has shape {list(loss.shape)}; expected one of "
                f"{', '.join(str(list(shape)) for shape in shapes)}, or that the method takes where itself"
            )


def _outcome(examples: Examples, terms: Terms, axis_name: Hashable | None) -> Outcome:
    student, _, labels, keep = examples

    def mean(loss: jax.Array) -> jax.Array:
        return mean_over(loss, keep, min(loss.ndim - 1, 1), axis_name) if loss.ndim else loss

    means = {}
    for name, (_, loss) in terms.items():
        with jax.named_scope(name):
            means[name] = mean(loss)
    weighted = (as_scalar(f"weight of {name}", weight, student) * means[name] for name, (weight, _) in terms.items())
    with jax.named_scope("wrong"):
        wrong = mean(wrong_mask(student, as_label_mask(labels, student)).astype(student.dtype))
    return functools.reduce(jnp.add, weighted), means | {"wrong": wrong}
