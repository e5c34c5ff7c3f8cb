"""BatchNorm, a sum with a shortcut, and LIF as one kernel forward and one backward, for NVIDIA GPUs.

XLA makes several kernels of them, and reads a layer's array a number of times; these read each array once, keep a
layer's membranes in registers, and compute them again in the backward pass. The mathematics are those of
`normalisation` and `neurons`, called a timestep at a time. Measured: docs/speed.md. JAX has announced that it will
drop Pallas's way through Triton; with a JAX that has, XLA makes the kernels again.

Axis legend: T timesteps, B batch, N rows (all examples' pixels), F features.
"""

from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.sharding import PartitionSpec

from sealkd_jax.models.layers import BY_TIME, Neuron, hold
from sealkd_jax.models.normalisation import BatchNorm, Statistics, batch_statistics, gradients, normalised
from sealkd_jax.neurons import UNROLL, lif_step
from sealkd_jax.sharding import DATA_AXIS, on_own_part

BLOCK = 512
"""Numbers of one timestep that a program of a kernel handles; of 512, 1,024 and 2,048 the fastest on an H200."""

PER_FEATURE, OF_PARTS = PartitionSpec(), PartitionSpec(DATA_AXIS)


def fire(
    normalise: BatchNorm, neuron: Neuron, x: jax.Array, timesteps: int, skip: jax.Array | None = None
) -> jax.Array:
    """Spikes `[T, B, ..., F]` of `neuron`, to which x, `[T, B, ..., F]` or `[1, B, ..., F]`, comes normalised.

    `skip`, `[T, B, ..., F]`, is added before. As kernels where there are any for this layer and machine.
    """
    if _has_kernels(normalise, neuron, x, timesteps):
        return normalise(x, lambda *args: _fire(skip, neuron.decay, *args))
    y = normalise(x)
    return neuron(hold(y if skip is None else y + skip, timesteps))


def _has_kernels(normalise: BatchNorm, neuron: Neuron, x: jax.Array, timesteps: int) -> bool:
    features = x.shape[-1]
    block = _block(x.size // len(x) // features, features)
    seen = neuron.has_variable("membranes", "v") or any(map(neuron.is_mutable_collection, ("spikes", "membranes")))
    return (
        runs_here()
        and normalise.train
        and neuron.kind == "lif"
        and not seen  # from outside
        and len(x) == timesteps <= UNROLL
        and jnp.dtype(normalise.dtype) == x.dtype
        and block[1] >= 16  # neighbours in memory
        and block[0] * block[1] >= BLOCK // 2
    )


def runs_here() -> bool:
    """Whether JAX's device is an NVIDIA GPU that Triton compiles for, Ampere, of 2020, or later, and JAX has a way."""
    device = jax.devices()[0]
    capability = str(getattr(device, "compute_capability", ""))
    compiled_for = device.platform == "gpu" and capability.replace(".", "").isdigit() and float(capability) >= 8
    return compiled_for and find_spec("jax.experimental.pallas.triton") is not None


def _block(rows: int, features: int) -> tuple[int, int]:
    """Rows and features of a block: powers of two that divide them."""
    of_features = min(features & -features, 128)
    return min(rows & -rows, BLOCK // of_features), of_features


def _fire_plain(
    skip: jax.Array | None, decay: float, x: jax.Array, scale: jax.Array, bias: jax.Array, axis_name: str | None
) -> tuple[jax.Array, Statistics]:
    """Spikes, and the statistics of the batch, through which no gradient flows."""
    statistics = batch_statistics(x, axis_name)
    (spikes,) = _on_devices(partial(_spikes, decay), [*statistics, scale, bias], _given(x, skip), (BY_TIME,))
    return spikes, statistics


_fire = jax.custom_vjp(_fire_plain, nondiff_argnums=(1, 5))


def _forward(
    skip: jax.Array | None, decay: float, x: jax.Array, scale: jax.Array, bias: jax.Array, axis_name: str | None
) -> Any:
    spikes, statistics = _fire_plain(skip, decay, x, scale, bias, axis_name)
    return (spikes, statistics), (skip, x, statistics, scale, bias)


def _backward(decay: float, axis_name: str | None, residuals: Any, cotangents: Any) -> tuple[jax.Array | None, ...]:
    skip, x, statistics, scale, bias = residuals
    arrays, results = [cotangents[0], *_given(x, skip)], (BY_TIME, OF_PARTS, OF_PARTS)
    dy, *parts = _on_devices(partial(_current_gradients, decay), [*statistics, scale, bias], arrays, results)
    sums = parts[0].sum(0), parts[1].sum(0)
    dx, dscale, dbias = gradients(x, dy, sums, statistics, scale, axis_name)
    return None if skip is None else dy, dx, dscale.astype(scale.dtype), dbias.astype(bias.dtype)


_fire.defvjp(_forward, _backward)


def _given(*arrays: jax.Array | None) -> list[jax.Array]:
    return [array for array in arrays if array is not None]


def _on_devices(
    kernel: Callable[..., Any], vectors: list[jax.Array], arrays: list[jax.Array], results: tuple[PartitionSpec, ...]
) -> Any:
    """`kernel` of vectors as `[1, F]` and arrays as `[T, N, F]`; every device has its own examples of these."""

    def run(*args: jax.Array) -> Any:
        flat = [array[None] if array.ndim == 1 else array.reshape(len(array), -1, array.shape[-1]) for array in args]
        # Whoever brought the program to another device than the GPU gets the kernel step by step.
        compiled, interpreted = (partial(kernel, interpret=interpret) for interpret in (False, True))
        first, *parts = lax.platform_dependent(*flat, cuda=compiled, default=interpreted)
        return first.reshape(args[-1].shape), *parts

    own = [PER_FEATURE] * len(vectors) + [BY_TIME] * len(arrays)
    return on_own_part(run, own, results, batch=arrays[0].shape[1])(*vectors, *arrays)


def _spikes(decay: float, *args: jax.Array, interpret: bool) -> Sequence[jax.Array]:
    """The kernel of the forward pass: of mean, variance, scale, bias, x and, if there is one, skip."""

    def normalise_and_fire(*refs: Any) -> None:
        *given, spikes = refs
        for t, spike in enumerate(_lif(decay, _currents(*given))):
            spikes[t] = spike.astype(spikes.dtype)

    return _call(normalise_and_fire, args, [_like(args[4])], interpret)


def _current_gradients(decay: float, *args: jax.Array, interpret: bool) -> Sequence[jax.Array]:
    """The kernel of the backward pass: of the same, with the spikes' gradient before x.

    The gradient of the currents, `[T, N, F]`, and its sums and those of it times x, `[parts, F]`.
    """

    def normalise_and_fire_backward(*refs: Any) -> None:
        (mean, var, scale, bias, dspikes, x), (*skip, dy, dy_sum, dy_x_sum) = refs[:6], refs[6:]
        _, vjp = jax.vjp(partial(_lif, decay), _currents(mean, var, scale, bias, x, *skip))
        (dcurrents,) = vjp([dspikes[t].astype(dy_sum.dtype) for t in range(x.shape[0])])
        total = total_x = jnp.zeros(x.shape[1:], dy_sum.dtype)
        for t, dcurrent in enumerate(dcurrents):
            dy[t] = dcurrent
            total += dcurrent.astype(total.dtype)
            total_x += dcurrent.astype(total.dtype) * x[t].astype(total.dtype)
        dy_sum[...], dy_x_sum[...] = total.sum(0, keepdims=True), total_x.sum(0, keepdims=True)

    mean, x = args[0], args[5]
    _, rows, features = x.shape
    parts = jax.ShapeDtypeStruct((rows // _block(rows, features)[0], features), mean.dtype)
    return _call(normalise_and_fire_backward, args, [_like(x), parts, parts], interpret)


def _like(array: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


def _currents(mean: Any, var: Any, scale: Any, bias: Any, x: Any, *skip: Any) -> list[jax.Array]:
    """What the neurons of a block get at each timestep, in the dtype of x."""
    statistics, scale, bias = (mean[...], var[...]), scale[...], bias[...]
    currents = [normalised(x[t], statistics, scale, bias).astype(x.dtype) for t in range(x.shape[0])]
    return [sum((shortcut[t] for shortcut in skip), current) for t, current in enumerate(currents)]


def _lif(decay: float, currents: Sequence[jax.Array]) -> list[jax.Array]:
    """Spikes of each timestep, at least float32, as the membrane."""
    dtype = jnp.promote_types(currents[0].dtype, jnp.float32)
    v, spikes = jnp.zeros(currents[0].shape, dtype), []
    for current in currents:
        v, spike = lif_step(v, current.astype(dtype), decay)
        spikes.append(spike)
    return spikes


def _call(
    kernel: Callable[..., None], args: Sequence[jax.Array], results: list[jax.ShapeDtypeStruct], interpret: bool
) -> Sequence[jax.Array]:
    """Runs it for every block of rows and features: of `[1, F]` the latter, of `[parts, F]` one row of them."""
    from jax.experimental.pallas import triton  # here, where it is sure to be

    timesteps, rows, features = results[0].shape
    of_rows, of_features = _block(rows, features)
    whole = pl.BlockSpec((timesteps, of_rows, of_features), lambda i, j: (0, i, j))
    vector = pl.BlockSpec((1, of_features), lambda i, j: (0, j))
    part = pl.BlockSpec((1, of_features), lambda i, j: (i, j))
    return pl.pallas_call(
        kernel,
        results,
        grid=(rows // of_rows, features // of_features),
        in_specs=[whole if array.ndim == 3 else vector for array in args],
        out_specs=[whole if result.ndim == 3 else part for result in results],
        interpret=interpret,
        compiler_params=triton.CompilerParams(num_warps=4),
    )(*args)
