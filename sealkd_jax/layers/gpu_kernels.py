"""BatchNorm, shortcut and LIF in one kernel each for the forward and the backward pass, on NVIDIA GPUs.

XLA makes several kernels of these layers, which together read an array several times. These kernels read each array
once, keep the membranes in registers and recompute them in the backward pass. XLA still computes the statistics of the
batch and what follows from the sums of the gradients. The mathematics are those of `batch_norm` and `neurons`, called
for one timestep at a time. Only first derivatives exist, and `jax.export` refuses programs with such kernels.
docs/speed.md has measurements.

JAX has announced that it will drop Pallas's backend Triton, which compiles the kernels. Without it, XLA makes the
kernels.

Axis legend: T timesteps, B batch, N rows (the pixels of all examples), F features.
"""

from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl
from jax.sharding import PartitionSpec
from jax.typing import DTypeLike

from sealkd_jax._checks import at_least_float32
from sealkd_jax.layers.batch_norm import BatchNorm, Statistics, batch_statistics, gradients, normalise
from sealkd_jax.layers.neurons import LIF, Neuron
from sealkd_jax.layers.time import BY_TIME, IN_A_ROW, repeat_over_time
from sealkd_jax.neurons import UNROLL, lif_step
from sealkd_jax.parallel.sharding import per_shard

MODE = "auto"
"""Where kernels run, read while JAX traces. `auto`: on suitable GPUs; `off`: nowhere, as `jax.export` needs; `on`:
everywhere, to compile for a GPU of another machine; `interpret`: everywhere, without a GPU in Pallas's interpreter."""
BLOCK = 512
"""Numbers of one timestep in a block of a kernel. 1,024 and 2,048 were no faster on an H200."""

Skips = tuple[jax.Array, ...]  # what is added before the neurons: one array `[T, B, ..., F]`, or none


def fire(batch_norm: BatchNorm, neuron: Neuron, x: jax.Array, timesteps: int, *skips: jax.Array) -> jax.Array:
    """`neuron(batch_norm(x) + skip)`, by kernels where there are any for these layers.

    Args:
        batch_norm: applied to x.
        neuron: applied to the sum.
        x: `[T, B, ..., F]`, or `[1, B, ..., F]` for a static input.
        timesteps: T.
        *skips: one array `[T, B, ..., F]` to add before the neurons, or none.

    Returns:
        Spikes `[T, B, ..., F]`.
    """
    if runs_here() and _covers_layers(batch_norm, neuron) and _covers_arrays(batch_norm.dtype, x, timesteps, skips):
        with jax.named_scope(str(neuron.name)):
            spikes = batch_norm(x, lambda *args: _normalise_and_fire(skips, neuron.decay, *args))
        return checkpoint_name(spikes, "spikes")
    return neuron(repeat_over_time(sum(skips, batch_norm(x)), timesteps))


def runs_here() -> bool:
    """Whether JAX's device is an NVIDIA GPU from Ampere (2020) on, and JAX still compiles Pallas through Triton.

    `MODE` other than `auto` decides without looking.
    """
    if MODE != "auto":
        return MODE != "off"
    device = jax.devices()[0]
    if not device.device_kind.startswith("NVIDIA") or float(device.compute_capability) < 8:
        return False
    return find_spec("jax.experimental.pallas.triton") is not None


def _covers_layers(batch_norm: BatchNorm, neuron: Neuron) -> bool:
    """Training of plain LIF neurons that start at rest, and whose spikes and membranes no caller reads."""
    parameters = (neuron.threshold, neuron.v_reset, neuron.detach_reset, neuron.decay_input)
    plain = type(neuron) is LIF and parameters == (1.0, 0.0, False, False)  # the defaults, as in `lif_step`
    observed = any(map(neuron.is_mutable_collection, ("spikes", "membranes")))
    return batch_norm.train and plain and not observed and not neuron.has_variable("membranes", "v")


def _covers_arrays(dtype: DTypeLike, x: jax.Array, timesteps: int, skips: Skips) -> bool:
    """Arrays of one dtype and all timesteps, with blocks that are large enough to be worth a kernel."""
    rows, features = _block(x.size // len(x) // x.shape[-1], x.shape[-1])
    alike = x.dtype == dtype and all((skip.shape, skip.dtype) == (x.shape, x.dtype) for skip in skips)
    large = features >= 16 and rows * features >= BLOCK // 2  # features lie in a row in memory
    return alike and large and len(x) == timesteps <= UNROLL


def _block(rows: int, features: int) -> tuple[int, int]:
    """Rows and features of a block: powers of two that divide both numbers."""
    of_features = min(features & -features, 128)
    return min(rows & -rows, BLOCK // of_features), of_features


def _plain(
    skips: Skips, decay: float, x: jax.Array, scale: jax.Array, bias: jax.Array, axis_name: str | None
) -> tuple[jax.Array, Statistics]:
    statistics = batch_statistics(x, axis_name)
    (spikes,) = _on_devices(partial(_spikes, decay), [*statistics, scale, bias], [x, *skips], sums=0)
    return spikes, statistics


# Returns spikes and the statistics of the batch, through which no gradient flows.
_normalise_and_fire = jax.custom_vjp(_plain, nondiff_argnums=(1, 5))


def _forward(skips: Skips, decay: float, x: jax.Array, scale: jax.Array, bias: jax.Array, axis_name: str | None) -> Any:
    spikes, statistics = _plain(skips, decay, x, scale, bias, axis_name)
    return (spikes, statistics), (skips, x, statistics, scale, bias)


def _backward(decay: float, axis_name: str | None, residuals: Any, cotangents: Any) -> tuple[Any, ...]:
    skips, x, statistics, scale, bias = residuals
    vectors, arrays = [*statistics, scale, bias], [cotangents[0], x, *skips]
    dy, *sums = _on_devices(partial(_current_gradients, decay), vectors, arrays, sums=2)
    return (dy,) * len(skips), *gradients(x, dy, (sums[0].sum(0), sums[1].sum(0)), statistics, scale, axis_name)


_normalise_and_fire.defvjp(_forward, _backward)


def _spikes(decay: float, mean: Any, var: Any, scale: Any, bias: Any, x: Any, *skips: Any) -> tuple[list[jax.Array]]:
    """The spikes of each timestep, for x `[T, N, F]` or a block of it."""
    return (_lif(decay, _currents(mean, var, scale, bias, x, *skips)),)


def _current_gradients(
    decay: float, mean: Any, var: Any, scale: Any, bias: Any, dspikes: Any, x: Any, *skips: Any
) -> tuple[list[jax.Array], jax.Array, jax.Array]:
    """The gradient of the currents of each timestep, and the sums over time of it and of it times x, `[N, F]`."""
    _, vjp = jax.vjp(partial(_lif, decay), _currents(mean, var, scale, bias, x, *skips))
    (dcurrents,) = vjp([dspikes[t].astype(mean.dtype) for t in range(x.shape[0])])
    total = total_x = jnp.zeros(x.shape[1:], mean.dtype)
    for t, dcurrent in enumerate(dcurrents):
        total += dcurrent.astype(total.dtype)
        total_x += dcurrent.astype(total.dtype) * x[t].astype(total.dtype)
    return dcurrents, total, total_x


def _currents(mean: Any, var: Any, scale: Any, bias: Any, x: Any, *skips: Any) -> list[jax.Array]:
    """The currents into the neurons at each timestep, in the dtype of x."""
    statistics, scale, bias = (mean[...], var[...]), scale[...], bias[...]
    currents = [normalise(x[t], statistics, scale, bias).astype(x.dtype) for t in range(x.shape[0])]
    return [sum((skip[t] for skip in skips), current) for t, current in enumerate(currents)]


def _lif(decay: float, currents: Sequence[jax.Array]) -> list[jax.Array]:
    """The spikes of each timestep, in the dtype of the membrane."""
    dtype = at_least_float32(currents[0].dtype)
    v, spikes = jnp.zeros(currents[0].shape, dtype), []
    for current in currents:
        v, spike = lif_step(v, current.astype(dtype), decay)
        spikes.append(spike)
    return spikes


def _on_devices(function: Callable[..., Any], vectors: list[jax.Array], arrays: list[jax.Array], *, sums: int) -> Any:
    """Applies `function` to vectors as `[1, F]` and arrays as `[T, N, F]`, on each device to its own examples.

    `function` returns a list of T arrays `[N, F]`, which becomes one array `[T, B, ..., F]`, and `sums` arrays
    `[N, F]`, which become `[devices, F]`, summed over the rows of each device.
    """

    def run(*args: jax.Array) -> Any:
        flat = [array[None] if array.ndim == 1 else array.reshape(len(array), -1, array.shape[-1]) for array in args]
        by_blocks, at_once = partial(_by_blocks, function, sums), partial(_at_once, function, sums)
        elsewhere = partial(by_blocks, interpret=True) if MODE == "interpret" else at_once
        # A machine with a GPU may run the program on another device.
        array, *totals = lax.platform_dependent(*flat, cuda=by_blocks, default=elsewhere)
        return array.reshape(args[-1].shape), *totals

    own = [PartitionSpec()] * len(vectors) + [BY_TIME] * len(arrays)
    results = (BY_TIME, *[IN_A_ROW] * sums)
    return per_shard(run, own, results, batch=arrays[0].shape[1])(*vectors, *arrays)


def _at_once(function: Callable[..., Any], _sums: int, *args: jax.Array) -> tuple[jax.Array, ...]:
    """Applies `function` to whole arrays: an array like the last argument, and its sums `[1, F]`."""
    each, *totals = function(*args)
    return jnp.stack(each).astype(args[-1].dtype), *[total.sum(0, keepdims=True) for total in totals]


def _by_blocks(
    function: Callable[..., Any], sums: int, *args: jax.Array, interpret: bool = False
) -> tuple[jax.Array, ...]:
    """The same by a kernel, which applies `function` to one block of rows and features at a time."""
    from jax.experimental.pallas import triton  # here, because a later JAX may lack it

    timesteps, rows, features = args[-1].shape
    of_rows, of_features = _block(rows, features)
    whole = pl.BlockSpec((timesteps, of_rows, of_features), lambda i, j: (0, i, j))
    vector = pl.BlockSpec((1, of_features), lambda i, j: (0, j))
    part = pl.BlockSpec((1, of_features), lambda i, j: (i, j))
    parts = jax.ShapeDtypeStruct((rows // of_rows, features), args[0].dtype)

    def kernel(*refs: Any) -> None:
        given, (array, *totals) = refs[: len(args)], refs[len(args) :]
        each, *values = function(*given)
        for t, value in enumerate(each):
            array[t] = value.astype(array.dtype)
        for total, value in zip(totals, values, strict=True):
            total[...] = value.sum(0, keepdims=True)

    array, *totals = pl.pallas_call(
        kernel,
        [jax.ShapeDtypeStruct(args[-1].shape, args[-1].dtype), *[parts] * sums],
        grid=(rows // of_rows, features // of_features),
        in_specs=[whole if array.ndim == 3 else vector for array in args],
        out_specs=[whole, *[part] * sums],
        interpret=interpret,
        compiler_params=triton.CompilerParams(num_warps=4),
        name="normalise_and_fire" + "_backward" * bool(sums),
    )(*args)
    return array, *[total.sum(0, keepdims=True) for total in totals]
