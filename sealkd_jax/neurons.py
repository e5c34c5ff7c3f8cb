"""Spiking neurons: leaky (LIF) and plain (IAF) integrate-and-fire, as functions of arrays.

Axes: `T` timesteps, always the first; `...` whatever one timestep consists of, e.g. `[B, H, W, C]`.

Nothing is remembered between calls: the membrane goes in as `v` and comes out as `v_final`.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike

from sealkd_jax.surrogates import Surrogate, sigmoid

UNROLL = 8
"""Up to this many timesteps are compiled without a loop, which lets XLA fuse them: at T = 4 on a CPU four times
as fast as a loop, in a fraction of its memory. It does not last: compile time grows with T, and XLA begins to
compute early timesteps again for each later one; a TPU would move twice the bytes at ten. Longer runs are a loop of
single timesteps, whose backward pass computes the membranes again; unrolling such a loop in part mostly makes it
slower."""
UNROLL_ON_CPU = 16
"""The same where the program is for a CPU. At 32 it would still be faster than a loop, but takes four times as long to
compile."""

Parameter = float | jax.Array  # one number, or an array that broadcasts against one timestep
Carry = tuple[jax.Array, jax.Array]


def lif(
    currents: jax.Array,
    v: jax.Array | None = None,
    *,
    decay: Parameter = 0.5,
    threshold: Parameter = 1.0,
    v_reset: Parameter | None = 0.0,
    detach_reset: bool = False,
    decay_input: bool = False,
    surrogate: Surrogate = sigmoid(4.0),  # noqa: B008 (an immutable value)
) -> tuple[jax.Array, jax.Array]:
    r"""Leaky integrate-and-fire: the membrane leaks, adds the current, fires at the threshold and is reset.

    At each timestep, with $r$ = `v_reset` (0 for a soft reset) and $d$ = `decay`:

    $$h = v - (1 - d)(v - r) + x \qquad\text{or, where the input decays,}\qquad h = v + (1 - d)(x - (v - r))$$

    $$s = [h - \theta \ge 0], \qquad v \leftarrow (1 - s)\,h + s\,r
      \quad\text{(hard reset)}\quad\text{or}\quad h - s\,\theta \quad\text{(soft)}$$

    In the backward pass $\partial s/\partial h$ is `surrogate(h - threshold)`. The membrane's time constant,
    in timesteps, is $1/(1 - d)$. A learnable `decay` array makes it a parametric LIF (PLIF). The membrane is
    computed in float32 at least, whatever the dtype of the currents. The spikes carry the name "spikes" for
    `jax.checkpoint_policies.save_only_these_names`. Over more than eight timesteps there is no forward-mode
    derivative (`jax.jvp`), which the memory of the backward pass is saved by; one may take them in parts.

    Args:
      currents: `[T, ...]`, the input of each timestep; floating, T >= 1.
      v: `[...]`, the membrane to start from, e.g. an earlier call's `v_final`: two halves of a sequence then
        give what the whole gives. None: `v_reset` (hard) or 0 (soft).
      decay: share of the membrane that is left after a timestep, in [0, 1]. This and the next two may be
        arrays, also traced, that broadcast against one timestep, and have gradients.
      threshold: at which a neuron fires, equality included; above 0 and `v_reset`.
      v_reset: the membrane after a spike and at rest; None: soft reset, which subtracts the threshold.
      detach_reset: no gradient through the spike in the reset.
      decay_input: leak the current too, as `LIFNode` of SpikingJelly does by default.
      surrogate: `x = h - threshold -> derivative`, see `sealkd_jax.surrogates`.

    Returns:
      Spikes, `[T, ...]`, 0 or 1 in the dtype of the currents; and v_final, `[...]`, the membrane after the last
      timestep, float32, or float64 for float64 currents.

    Raises:
      ValueError: no timestep, a shape that does not fit, or a parameter out of its range.
      TypeError: currents or v that are not floating.

    >>> import jax.numpy as jnp
    >>> spikes, v = lif(jnp.array([0.75, 0.75, 0.75]))
    >>> print(spikes, v)  # h = 0.75, 1.125 (fires), 0.75
    [0. 1. 0.] 0.75

    Reference: Fang et al., SpikingJelly, Science Advances 2023 (the same update, checked to the last spike).
    """
    currents, dtype = _checked_currents(currents)
    _require("decay", decay, "in [0, 1]", lambda d: (d >= 0) & (d <= 1))
    leak = 1 - _parameter("decay", decay, currents, dtype)

    charge = _charge_leaking if decay_input else _charge
    return _run(currents, v, dtype, charge, leak, threshold, v_reset, detach_reset, surrogate)


def lif_step(v: jax.Array, x: jax.Array, decay: float) -> Carry:
    """One timestep of `lif` at its defaults, for kernels: membrane and current to membrane and spikes, of one dtype."""
    neuron = functools.partial(_step, _charge, v_reset=0.0, detach_reset=False, surrogate=sigmoid(4.0))
    return neuron(v=v, x=x, leak=1 - decay, threshold=1.0, rest=0.0)


def iaf(
    currents: jax.Array,
    v: jax.Array | None = None,
    *,
    threshold: Parameter = 1.0,
    v_reset: Parameter | None = 0.0,
    detach_reset: bool = False,
    surrogate: Surrogate = sigmoid(4.0),  # noqa: B008 (an immutable value)
) -> tuple[jax.Array, jax.Array]:
    r"""Integrate-and-fire: `lif` without the leak, $h = v + x$.

    Arguments and results are those of `lif`.

    >>> spikes, v = iaf(jnp.array([0.75, 0.75, 0.75]), v_reset=None)
    >>> print(spikes, v)  # h = 0.75, 1.5 (fires, 0.5 is left), 1.25 (fires)
    [0. 1. 1.] 0.25
    """
    currents, dtype = _checked_currents(currents)
    return _run(currents, v, dtype, lambda v, x, *_: v + x, 0.0, threshold, v_reset, detach_reset, surrogate)


def _charge(v: Parameter, x: jax.Array, rest: Parameter, leak: Parameter) -> jax.Array:
    """The membrane before firing."""
    return v - leak * (v - rest) + x


def _charge_leaking(v: Parameter, x: jax.Array, rest: Parameter, leak: Parameter) -> jax.Array:
    """Where the input decays, too."""
    return v + leak * (x - (v - rest))


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _fire(x: jax.Array, surrogate: Surrogate) -> jax.Array:
    return (x >= 0).astype(x.dtype)


@_fire.defjvp
def _fire_jvp(
    surrogate: Surrogate, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    return _fire(x, surrogate), surrogate(x) * dx


def _step(
    charge: Callable[..., jax.Array],
    v_reset: Parameter | None,
    detach_reset: bool,
    surrogate: Surrogate,
    v: jax.Array,
    x: jax.Array,
    leak: Parameter,
    threshold: Parameter,
    rest: Parameter,
) -> Carry:
    h = charge(v, x, rest, leak)
    spike = _fire(h - threshold, surrogate)
    fired = jax.lax.stop_gradient(spike) if detach_reset else spike
    v = h - fired * threshold if v_reset is None else (1 - fired) * h + fired * rest
    return v, spike


def _run(
    currents: jax.Array,
    v: jax.Array | None,
    dtype: jnp.dtype,
    charge: Callable[..., jax.Array],
    leak: Parameter,
    threshold: Parameter,
    v_reset: Parameter | None,
    detach_reset: bool,
    surrogate: Surrogate,
) -> tuple[jax.Array, jax.Array]:
    """Charges, fires and resets once per timestep; `charge(v, x, rest, leak)` gives the membrane before firing."""
    rest = 0.0 if v_reset is None else v_reset
    _require("threshold", threshold, "above 0 and v_reset", lambda t, r: (t > 0) & (t > r), rest)
    threshold = _parameter("threshold", threshold, currents, dtype)
    rest = _parameter("v_reset", rest, currents, dtype)
    start = rest if v is None else _membrane(v, currents, dtype)
    # The loop wants a membrane of one type throughout: full shape, sharded like all that flows into it.
    v = start + jnp.zeros_like(charge(start, currents[0].astype(dtype), rest, leak) - threshold)

    def step(v: jax.Array, x: jax.Array, *parameters: Parameter) -> Carry:
        v, spike = _step(charge, v_reset, detach_reset, surrogate, v, x.astype(dtype), *parameters)
        return v, spike.astype(currents.dtype)

    parameters = leak, threshold, rest
    steps = _unrolled if len(currents) <= UNROLL else _long
    v, spikes = steps(step, v, currents, *parameters)
    return checkpoint_name(spikes, "spikes"), v


def _unrolled(step: Callable, v: jax.Array, currents: jax.Array, *parameters: Parameter) -> Carry:
    """`v_final` and spikes, without a loop.

    Not a scan, whose second derivatives JAX gets wrong where a step has its own first ones. Not slices, whose gradient
    is a sum of arrays of all timesteps: that of a split is one array, written once.
    """
    each = []
    for x in jax.lax.split(currents, (1,) * len(currents)):
        v, spike = step(v, x[0], *parameters)
        each.append(spike)
    return v, jnp.stack(each)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _long(step: Callable, v: jax.Array, currents: jax.Array, *parameters: Parameter) -> Carry:
    """A loop, or none on a CPU that allows it; either way the backward pass begins from what went in."""
    unrolled, loop = (functools.partial(way, step) for way in (_unrolled, _loop))
    return _by_platform(len(currents), unrolled, loop, v, currents, *parameters)


def _long_forward(step: Callable, *inputs: Any) -> Any:
    return _long(step, *inputs), inputs


def _long_backward(step: Callable, inputs: Any, cotangents: Carry) -> Any:
    def unrolled(inputs: Any, cotangents: Carry) -> Any:
        return jax.vjp(functools.partial(_unrolled, step), *inputs)[1](cotangents)

    loop = functools.partial(_loop_backward, step)
    return _by_platform(len(cotangents[1]), unrolled, loop, inputs, cotangents)


def _by_platform(timesteps: int, unrolled: Callable, loop: Callable, *args: Any) -> Any:
    if timesteps > UNROLL_ON_CPU:
        return loop(*args)
    return jax.lax.platform_dependent(*args, cpu=unrolled, default=loop)


_long.defvjp(_long_forward, _long_backward)


def _loop(step: Callable, v: jax.Array, currents: jax.Array, *parameters: Parameter) -> Carry:
    """`v_final` and spikes by a scan of `step`.

    What `jax.lax.scan` stacks, it writes into zeros, and XLA makes those of all layers of a network before the first
    scan begins. Here a scan writes into what follows from its input, and so into no more than it needs: one byte a
    spike, and in the backward pass one array, of the membranes before each timestep, which the gradient overwrites.
    """

    def fire(carry: Carry, at: tuple[jax.Array, jax.Array]) -> tuple[Carry, None]:
        v, spikes = carry
        x, t = at
        v, spike = step(v, x, *parameters)
        return (v, spikes.at[t].set(spike.astype(spikes.dtype))), None

    start = v, _buffer(currents, currents, jnp.int8)
    (v_final, spikes), _ = jax.lax.scan(fire, start, (currents, jnp.arange(len(currents))))
    return v_final, spikes.astype(currents.dtype)


def _loop_backward(step: Callable, inputs: Any, cotangents: Carry) -> Any:
    v, currents, *parameters = inputs
    dv, dspikes = cotangents
    times = jnp.arange(len(currents))

    def again(carry: Carry, at: tuple[jax.Array, jax.Array]) -> tuple[Carry, None]:
        v, before = carry
        x, t = at
        return (step(v, x, *parameters)[0], before.at[t].set(v)), None

    def back(carry: Any, at: Any) -> tuple[Any, None]:
        v, dv, dparameters, held = carry
        x, dspike, t = at
        _, vjp = jax.vjp(step, v, x, *parameters)
        dv, dx, *more = vjp((dv, dspike))
        held = held.at[t].set(dx.astype(held.dtype))
        # The next membrane is read after the write: one read before it would have XLA copy the array each time.
        return (held[t - 1], dv, [a + b for a, b in zip(dparameters, more, strict=True)], held), None

    (_, before), _ = jax.lax.scan(again, (v, _buffer(currents, dspikes, v.dtype)), (currents, times))
    start = before[-1], dv, [jnp.zeros_like(p) for p in parameters], before
    (_, dv, dparameters, dcurrents), _ = jax.lax.scan(back, start, (currents, dspikes, times), reverse=True)
    return dv, dcurrents.astype(currents.dtype), *dparameters


def _buffer(like: jax.Array, source: jax.Array, dtype: DTypeLike) -> jax.Array:
    """An array to be overwritten, which cannot be there before `source`, `[T, B, ...]`, is.

    It follows from the maximum of each example, because a reduction is computed once: XLA would compute numbers of
    `source` itself again here, and keep what that is the sum of until then.
    """
    axes = tuple(range(2, source.ndim)) or -1
    return jnp.zeros_like(like, dtype) + source[:1].max(axes, keepdims=True, initial=0).astype(dtype)


def _membrane(v: jax.Array, currents: jax.Array, dtype: jnp.dtype) -> jax.Array:
    v = jnp.asarray(v)
    if v.shape != currents.shape[1:]:
        raise ValueError(f"v: expected the shape of one timestep of currents, {currents.shape[1:]}, got {v.shape}")
    if not jnp.issubdtype(v.dtype, jnp.floating):
        raise TypeError(f"v: expected a floating dtype, got {v.dtype}")
    return v.astype(dtype)


def _checked_currents(currents: jax.Array) -> tuple[jax.Array, jnp.dtype]:
    currents = jnp.asarray(currents)
    if not jnp.issubdtype(currents.dtype, jnp.floating):
        raise TypeError(f"currents: expected a floating dtype, got {currents.dtype}")
    if currents.ndim == 0 or len(currents) == 0:
        raise ValueError(f"currents: expected shape [T, ...] with T >= 1, got {currents.shape}")
    at_least_float32 = currents.dtype if jnp.finfo(currents.dtype).bits >= 32 else jnp.dtype("float32")
    return currents, at_least_float32


def _parameter(name: str, value: Parameter, currents: jax.Array, dtype: jnp.dtype) -> Parameter:
    """A number stays a Python float; an array gets the membrane's dtype and the rank of one timestep."""
    if np.ndim(value) == 0 and isinstance(value, int | float | np.number):
        return float(value)
    value = jnp.asarray(value, dtype)
    shape = currents.shape[1:]
    if value.ndim > len(shape) or any(n not in (1, m) for n, m in zip(value.shape[::-1], shape[::-1], strict=False)):
        raise ValueError(f"{name}: expected an array that broadcasts against one timestep, {shape}, got {value.shape}")
    return value if value.ndim == 0 else value.reshape((1,) * (len(shape) - value.ndim) + value.shape)


def _require(name: str, value: Parameter, expected: str, holds: Callable[..., np.ndarray], *others: Parameter) -> None:
    """Checks values that are known while tracing; what is only known on the device is not looked at."""
    known = [np.asarray(a) for a in (value, *others) if not isinstance(a, jax.core.Tracer)]
    if len(known) == 1 + len(others) and not np.all(holds(*known)):
        raise ValueError(f"{name}: expected {expected}, got {value}")
