"""Spiking neurons: leaky (LIF) and plain (IAF) integrate-and-fire, as pure functions of arrays.

Axes: `T` timesteps, always the first; the others (`*shape`) are those of one timestep, e.g. `[B, H, W, C]`.

A call keeps no state: the membrane goes in as `v` and comes out as `v_final`.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike

from sealkd_jax import surrogates
from sealkd_jax._checks import as_floating, at_least_float32, require
from sealkd_jax.surrogates import Surrogate, sigmoid

if TYPE_CHECKING:
    from jaxtyping import Array, Float

UNROLL = 8
"""Up to this many timesteps are compiled without a loop, so that XLA can fuse them: at T = 4 on a CPU this is four
times as fast as a loop and takes a fraction of its memory. Compile time grows with T, XLA begins to recompute early
timesteps for each later one, and at ten a TPU would move twice the bytes. Longer runs are a loop over single timesteps,
whose backward pass recomputes the membranes; partly unrolling such a loop mostly makes it slower."""
UNROLL_ON_CPU = 16
"""The same limit for programs that run on a CPU. At 32 it would still be faster than a loop, but take four times as
long to compile."""

TAU = "; for a time constant tau, in timesteps, write decay=1 - 1/tau"

Parameter = float | jax.Array  # one number, or an array that broadcasts against one timestep
Carry = tuple[jax.Array, jax.Array]  # membrane and spikes


@jax.named_scope("lif")
def lif(
    currents: Float[Array, "T *shape"],
    v: Float[Array, "*shape"] | None = None,
    *,
    decay: Parameter = 0.5,
    threshold: Parameter = 1.0,
    v_reset: Parameter | None = 0.0,
    detach_reset: bool = False,
    decay_input: bool = False,
    surrogate: Surrogate = sigmoid(4.0),  # noqa: B008 (an immutable value)
) -> tuple[Float[Array, "T *shape"], Float[Array, "*shape"]]:
    r"""Leaky integrate-and-fire: the membrane leaks, adds the current, fires at the threshold and is reset.

    At each timestep, with $r$ = `v_reset` (0 for a soft reset) and $d$ = `decay`:

    $$h = v - (1 - d)(v - r) + x \qquad\text{or, where the input decays,}\qquad h = v + (1 - d)(x - (v - r))$$

    $$s = [h - \theta \ge 0], \qquad v \leftarrow (1 - s)\,h + s\,r
      \quad\text{(hard reset)}\quad\text{or}\quad h - s\,\theta \quad\text{(soft)}$$

    In the backward pass $\partial s/\partial h$ is `surrogate(h - threshold)`. The membrane's time constant, in
    timesteps, is $1/(1 - d)$. A learnable `decay` array makes it a parametric LIF (PLIF).

    The membrane is computed in float32 or the wider dtype of the currents. The spikes carry the name "spikes" for
    `jax.checkpoint_policies.save_only_these_names`. `jax.jvp` is not supported beyond eight timesteps, the price of a
    backward pass that needs little memory; split the sequence instead.

    Args:
      currents: `[T, ...]`, the input of each timestep; floating, T >= 1.
      v: `[...]`, the membrane to start from, e.g. `v_final` of an earlier call: two halves of a sequence then give
        the same as the whole. None: `v_reset` (hard) or 0 (soft).
      decay: the share of the membrane that is left after a timestep, in [0, 1]. It, `threshold` and `v_reset` may be
        arrays, also traced ones, that broadcast against one timestep; they receive gradients.
      threshold: the membrane at which a neuron fires, equality included; above 0 and `v_reset`.
      v_reset: the membrane after a spike and at rest. None: soft reset, which subtracts the threshold.
      detach_reset: stops the gradient through the spike in the reset.
      decay_input: leaks the current too, as `LIFNode` of SpikingJelly does by default.
      surrogate: `x = h - threshold -> derivative`, see `sealkd_jax.surrogates`. Yours may close over traced values.

    Returns:
      Spikes, `[T, ...]`, 0 or 1 in the dtype of the currents; and v_final, `[...]`, the membrane after the last
      timestep, float32, or float64 for float64 currents.

    Raises:
      ValueError: no timestep, a shape that does not fit, or a parameter out of its range.
      TypeError: currents or v that are not floating, or a surrogate that is no function of this kind.

    >>> import jax.numpy as jnp
    >>> spikes, v = lif(jnp.array([0.75, 0.75, 0.75]))
    >>> print(spikes, v)  # h = 0.75, 1.125 (fires), 0.75
    [0. 1. 0.] 0.75

    Reference: Fang et al., SpikingJelly, Science Advances 2023 (the same update, checked to the last spike).
    """
    require("decay", decay, "a number in [0, 1]", lambda d: (d >= 0) & (d <= 1), hint=TAU)
    currents = _as_currents(currents)
    leak = 1 - _as_parameter("decay", decay, currents)
    charge = _charge_with_leaking_input if decay_input else _charge
    return _run(_neuron(currents, charge, leak, threshold, v_reset, detach_reset, surrogate), v, currents)


@jax.named_scope("iaf")
def iaf(
    currents: Float[Array, "T *shape"],
    v: Float[Array, "*shape"] | None = None,
    *,
    threshold: Parameter = 1.0,
    v_reset: Parameter | None = 0.0,
    detach_reset: bool = False,
    surrogate: Surrogate = sigmoid(4.0),  # noqa: B008 (an immutable value)
) -> tuple[Float[Array, "T *shape"], Float[Array, "*shape"]]:
    r"""Integrate-and-fire: `lif` without the leak, $h = v + x$.

    Arguments and results are those of `lif`.

    >>> spikes, v = iaf(jnp.array([0.75, 0.75, 0.75]), v_reset=None)
    >>> print(spikes, v)  # h = 0.75, 1.5 (fires, 0.5 is left), 1.25 (fires)
    [0. 1. 1.] 0.25
    """
    currents = _as_currents(currents)
    return _run(_neuron(currents, _charge_only, 0.0, threshold, v_reset, detach_reset, surrogate), v, currents)


def lif_step(v: jax.Array, x: jax.Array, decay: float) -> Carry:
    """One timestep of `lif` at its defaults, for kernels: membrane and current to membrane and spikes, of one dtype."""
    return _Neuron(_charge, 1 - decay, 1.0, 0.0, False, False, sigmoid(4.0)).step(v, x)


# --- one timestep ---------------------------------------------------------------------------------------------------


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["leak", "threshold", "rest", "constants"],
    meta_fields=["charge", "soft_reset", "detach_reset", "surrogate"],
)
@dataclass(frozen=True)
class _Neuron:
    """A neuron with its parameters: a pytree, so that the parameters receive gradients."""

    charge: Callable[..., jax.Array]  # v, x, rest, leak -> the membrane before firing
    leak: Parameter
    threshold: Parameter
    rest: Parameter
    soft_reset: bool
    detach_reset: bool
    surrogate: Callable[..., jax.Array]  # x, *constants -> derivative
    constants: tuple[jax.Array, ...] = ()

    def step(self, v: jax.Array, x: jax.Array) -> Carry:
        h = self.charge(v, x.astype(v.dtype), self.rest, self.leak)
        spike = _fire(h - self.threshold, self.constants, self.surrogate)
        fired = jax.lax.stop_gradient(spike) if self.detach_reset else spike
        v = h - fired * self.threshold if self.soft_reset else (1 - fired) * h + fired * self.rest
        return v, spike.astype(x.dtype)


def _charge(v: Parameter, x: jax.Array, rest: Parameter, leak: Parameter) -> jax.Array:
    return v - leak * (v - rest) + x


def _charge_with_leaking_input(v: Parameter, x: jax.Array, rest: Parameter, leak: Parameter) -> jax.Array:
    return v + leak * (x - (v - rest))


def _charge_only(v: Parameter, x: jax.Array, rest: Parameter, leak: Parameter) -> jax.Array:
    return v + x


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _fire(x: jax.Array, constants: tuple[jax.Array, ...], surrogate: Callable[..., jax.Array]) -> jax.Array:
    return (x >= 0).astype(x.dtype)


@_fire.defjvp
def _fire_jvp(surrogate: Callable[..., jax.Array], primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (x, constants), (dx, _) = primals, tangents
    return _fire(x, constants, surrogate), surrogate(x, *constants) * dx


# --- all timesteps --------------------------------------------------------------------------------------------------


def _run(neuron: _Neuron, v: jax.Array | None, currents: jax.Array) -> Carry:
    """Spikes and final membrane."""
    dtype = at_least_float32(currents.dtype)
    start = neuron.rest if v is None else _as_membrane(v, currents)
    # The loop needs a membrane of one type throughout: of full shape, and sharded like all that flows into it.
    charged = neuron.charge(start, currents[0].astype(dtype), neuron.rest, neuron.leak)
    v = start + jnp.zeros_like(charged - neuron.threshold)
    neuron = _without_tracers(neuron, v)
    v, spikes = (_unrolled if len(currents) <= UNROLL else _long)(neuron, v, currents)
    return checkpoint_name(spikes, "spikes"), v


@functools.partial(jax.jit, inline=True)
def _unrolled(neuron: _Neuron, v: jax.Array, currents: jax.Array) -> Carry:
    """`v_final` and spikes, without a loop.

    Not a scan: JAX gets its second derivatives wrong where a step defines its own first ones. Not slices: their
    gradient is a sum of arrays of all timesteps, whereas the gradient of a split is one array, written once.
    """
    each = []
    for x in jax.lax.split(currents, (1,) * len(currents)):
        v, spike = neuron.step(v, x[0])
        each.append(spike)
    return v, jnp.stack(each)


@jax.custom_vjp
def _long(neuron: _Neuron, v: jax.Array, currents: jax.Array) -> Carry:
    """A loop, or none on a CPU that allows it. Either way the backward pass stores the inputs only."""
    return _by_platform(len(currents), _unrolled, _loop, neuron, v, currents)


def _long_forward(*inputs: Any) -> tuple[Carry, Any]:
    return _long(*inputs), inputs


def _long_backward(inputs: Any, cotangents: Carry) -> Any:
    def unrolled(inputs: Any, cotangents: Carry) -> Any:
        return jax.vjp(_unrolled, *inputs)[1](cotangents)

    return _by_platform(len(cotangents[1]), unrolled, _loop_backward, inputs, cotangents)


def _by_platform(timesteps: int, unrolled: Callable, loop: Callable, *args: Any) -> Any:
    if timesteps > UNROLL_ON_CPU:
        return loop(*args)
    return jax.lax.platform_dependent(*args, cpu=unrolled, default=loop)


_long.defvjp(_long_forward, _long_backward)


def _loop(neuron: _Neuron, v: jax.Array, currents: jax.Array) -> Carry:
    """`v_final` and spikes by a scan over timesteps.

    `jax.lax.scan` writes its stacked outputs into zeros, and XLA allocates those of all layers of a network before the
    first scan begins. Here a scan writes into buffers that depend on its input, and only as large as needed: one byte a
    spike, and in the backward pass one array, of the membranes before each timestep, which the gradient overwrites.
    """

    def fire(carry: Carry, at: tuple[jax.Array, jax.Array]) -> tuple[Carry, None]:
        v, spikes = carry
        x, t = at
        v, spike = neuron.step(v, x)
        return (v, spikes.at[t].set(spike.astype(spikes.dtype))), None

    start = v, _buffer(currents, currents, jnp.int8)
    (v_final, spikes), _ = jax.lax.scan(fire, start, (currents, jnp.arange(len(currents))))
    return v_final, spikes.astype(currents.dtype)


def _loop_backward(inputs: tuple[_Neuron, jax.Array, jax.Array], cotangents: Carry) -> Any:
    neuron, v, currents = inputs
    dv, dspikes = cotangents
    times = jnp.arange(len(currents))

    def recompute(carry: Carry, at: tuple[jax.Array, jax.Array]) -> tuple[Carry, None]:
        v, before = carry
        x, t = at
        return (neuron.step(v, x)[0], before.at[t].set(v)), None

    def back(carry: Any, at: Any) -> tuple[Any, None]:
        v, dv, dneuron, buffer = carry
        x, dspike, t = at
        _, vjp = jax.vjp(_Neuron.step, neuron, v, x)
        more, dv, dx = vjp((dv, dspike))
        buffer = buffer.at[t].set(dx.astype(buffer.dtype))
        # The next membrane is read after the write: a read before it would make XLA copy the buffer at each timestep.
        return (buffer[t - 1], dv, jax.tree.map(jnp.add, dneuron, more), buffer), None

    (_, before), _ = jax.lax.scan(recompute, (v, _buffer(currents, dspikes, v.dtype)), (currents, times))
    start = before[-1], dv, jax.tree.map(jnp.zeros_like, neuron), before
    (_, dv, dneuron, dcurrents), _ = jax.lax.scan(back, start, (currents, dspikes, times), reverse=True)
    return dneuron, dv, dcurrents.astype(currents.dtype)


def _buffer(like: jax.Array, source: jax.Array, dtype: DTypeLike) -> jax.Array:
    """An array to overwrite, which XLA cannot allocate before `source`, `[T, B, ...]`, exists.

    It depends on the maximum of each example, because XLA computes a reduction once. Single numbers of `source` it
    would recompute here, and keep their inputs in memory until then.
    """
    axes = tuple(range(2, source.ndim)) or -1
    return jnp.zeros_like(like, dtype) + source[:1].max(axes, keepdims=True, initial=0).astype(dtype)


# --- arguments ------------------------------------------------------------------------------------------------------


def _neuron(
    currents: jax.Array,
    charge: Callable[..., jax.Array],
    leak: Parameter,
    threshold: Parameter,
    v_reset: Parameter | None,
    detach_reset: bool,
    surrogate: Surrogate,
) -> _Neuron:
    """The neuron that the arguments describe, checked against its currents."""
    _check_surrogate(surrogate)
    rest = 0.0 if v_reset is None else v_reset
    require("v_reset", rest, "a finite number, or None", np.isfinite)
    require("threshold", threshold, "a finite number above 0 and v_reset", _is_threshold, rest)
    threshold, rest = _as_parameter("threshold", threshold, currents), _as_parameter("v_reset", rest, currents)
    return _Neuron(charge, leak, threshold, rest, v_reset is None, detach_reset, surrogate)


def _is_threshold(threshold: np.ndarray, rest: np.ndarray) -> np.ndarray:
    return (threshold > 0) & (threshold > rest) & (threshold < np.inf)  # a soft reset would make 0 · inf = NaN


def _check_surrogate(surrogate: Surrogate) -> None:
    """Refuse what people write in place of a surrogate: its class, its name, its slope."""
    if not callable(surrogate):
        known = [each.__name__ for each in surrogates.BUILT_IN]
        (name, *_) = [*difflib.get_close_matches(str(surrogate), known, 1), "sigmoid"]
        raise TypeError(f"surrogate: expected a function, got {surrogate!r}; write surrogate=surrogates.{name}()")
    if isinstance(surrogate, type):
        name = surrogate.__name__
        raise TypeError(f"surrogate: expected a function, got the class {name}; call it: surrogate=surrogates.{name}()")


def _without_tracers(neuron: _Neuron, v: jax.Array) -> _Neuron:
    """The neuron with the values that its surrogate closes over as data, so that they may be traced.

    Raises:
      TypeError: the surrogate is no function from an array to one of the same shape and dtype.
    """
    surrogate = neuron.surrogate
    if isinstance(surrogate, surrogates.BUILT_IN):
        return neuron
    expected = f"surrogate: expected a function x -> derivative that keeps x, {v.dtype} {list(v.shape)}; {surrogate!r}"
    try:
        traced = jax.make_jaxpr(lambda x: surrogate(x) * x)(v)
    except Exception as error:
        raise TypeError(f"{expected} raises {type(error).__name__}: {error}") from error
    if [(out.shape, out.dtype) for out in traced.out_avals] != [(v.shape, v.dtype)]:
        raise TypeError(f"{expected} returns {', '.join(map(str, traced.out_avals))}")
    if not any(isinstance(constant, jax.core.Tracer) for constant in traced.consts):
        return neuron
    traced = jax.make_jaxpr(surrogate)(v)
    program, dtypes = traced.jaxpr, [jnp.result_type(constant) for constant in traced.consts]

    def closed(x: jax.Array, *constants: jax.Array) -> jax.Array:
        given = [c.astype(dtype) for c, dtype in zip(constants, dtypes, strict=True)]
        return jax.core.eval_jaxpr(program, given, x)[0]

    as_data = [
        c if jnp.issubdtype(c.dtype, jnp.inexact) else c.astype(v.dtype) for c in map(jnp.asarray, traced.consts)
    ]
    return dataclasses.replace(neuron, surrogate=closed, constants=tuple(as_data))  # integers have no gradient


def _as_currents(currents: jax.Array) -> jax.Array:
    currents = as_floating("currents", currents, "an array of shape [T, ...]")
    if currents.ndim == 0 or len(currents) == 0:
        raise ValueError(f"currents: expected shape [T, ...] with T >= 1, got {currents.shape}")
    return currents


def _as_membrane(v: jax.Array, currents: jax.Array) -> jax.Array:
    v = as_floating("v", v, "an array")
    if v.shape != currents.shape[1:]:
        raise ValueError(f"v: expected the shape of one timestep of currents, {currents.shape[1:]}, got {v.shape}")
    return v.astype(at_least_float32(currents.dtype))


def _as_parameter(name: str, value: Parameter, currents: jax.Array) -> Parameter:
    """A number stays a Python float; an array gets the membrane's dtype and the rank of one timestep."""
    if np.ndim(value) == 0 and isinstance(value, int | float | np.number):
        return float(value)
    value = jnp.asarray(value, at_least_float32(currents.dtype))
    shape = currents.shape[1:]
    if value.ndim > len(shape) or any(n not in (1, m) for n, m in zip(value.shape[::-1], shape[::-1], strict=False)):
        raise ValueError(f"{name}: expected an array that broadcasts against one timestep, {shape}, got {value.shape}")
    return value if value.ndim == 0 else value.reshape((1,) * (len(shape) - value.ndim) + value.shape)
