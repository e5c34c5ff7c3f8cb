"""Time the LIF neuron and its gradient, beside PyTorch, SpikingJelly, snnTorch, spyx and jaxpike.

The floor is the time to read the currents and write spikes and gradients once. snnTorch, spyx and jaxpike fire above
the threshold, not at it; spyx and jaxpike reset by subtraction.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from sealkd_jax.errors import InputError
from sealkd_jax.neurons import lif
from sealkd_jax.programs.command_line import read_options
from sealkd_jax.typed import at_least
from train.benchmark.table import RESULTS_DIR, print_table, save
from train.benchmark.timing import in_turn, measure_floor, ratio, repeated

PEERS = {
    "PyTorch": "torch",
    "SpikingJelly": "spikingjelly",
    "snnTorch": "snntorch",
    "spyx": "spyx",
    "jaxpike": "jaxpike",
}


@dataclass(frozen=True)
class LifOptions:
    """The size, and the number of runs."""

    shape: tuple[int, ...] = (4, 128, 32, 32, 64)
    """Shape of the currents, time first."""
    repeats: Annotated[int, at_least(1)] = 9
    """Number of measurements of each program."""
    calls: Annotated[int, at_least(1)] = 1
    """Number of calls in a measurement."""
    out: Path = RESULTS_DIR / "lif.json"
    """JSON file for the numbers."""


def works(shape: tuple[int, ...], calls: int) -> dict[str, Callable[[], Any]]:
    """A program for each package that is installed: `calls` gradients of a weighted sum of a layer's spikes."""
    rng = np.random.default_rng(0)
    currents, weights = (rng.normal(0.5, 1, shape).astype(np.float32) for _ in range(2))
    x, w = jnp.asarray(currents), jnp.asarray(weights)

    def in_jax(layer: Callable[[jax.Array], jax.Array]) -> Callable[[], Any]:
        gradient = jax.jit(jax.value_and_grad(lambda x: (layer(x) * w).sum()))
        return repeated(lambda: gradient(x), calls)

    found = {"sealkd-jax": in_jax(lambda x: lif(x)[0])}
    if find_spec("torch"):
        found |= in_torch(currents, weights, calls)
    if find_spec("spyx"):
        import spyx
        from flax import nnx

        neuron = spyx.nn.LIF(shape[2:], beta=0.5, rngs=nnx.Rngs(0))

        def by_spyx(x: jax.Array) -> jax.Array:
            def step(v: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
                spikes, v = neuron(x, v)
                return v, spikes

            return jax.lax.scan(step, jnp.zeros(shape[1:]), x)[1]

        found["spyx"] = in_jax(by_spyx)
    if find_spec("jaxpike"):
        import jaxpike

        net = jaxpike.Sequential(jaxpike.LIF(tau=2.0))
        found["jaxpike"] = in_jax(lambda x: jaxpike.unroll(net, x)[0])
    return found


def in_torch(currents: np.ndarray, weights: np.ndarray, calls: int) -> dict[str, Callable[[], Any]]:
    """Plain PyTorch, and if they are installed SpikingJelly, with its PyTorch backend, and snnTorch."""
    import torch

    from train.benchmark import in_pytorch

    place = "cuda" if torch.cuda.is_available() else "cpu"
    x, w = (torch.from_numpy(array).to(place) for array in (currents, weights))
    x.requires_grad_()

    def gradient(layer: Callable[[Any], Any]) -> Callable[[], None]:
        def work() -> None:
            x.grad = None
            (layer(x) * w).sum().backward()

        return in_pytorch.synchronised(repeated(work, calls))

    found = {"PyTorch": gradient(in_pytorch.lif)}
    if find_spec("spikingjelly"):
        from spikingjelly.activation_based import functional, neuron, surrogate

        theirs = neuron.LIFNode(2.0, False, surrogate_function=surrogate.Sigmoid(4.0), step_mode="m")

        def by_spikingjelly(x: torch.Tensor) -> torch.Tensor:
            functional.reset_net(theirs)
            return theirs(x)

        found["SpikingJelly"] = gradient(by_spikingjelly)
    if find_spec("snntorch"):
        import snntorch

        leaky = snntorch.Leaky(0.5, spike_grad=snntorch.surrogate.sigmoid(slope=4), reset_mechanism="zero")

        def by_snntorch(x: torch.Tensor) -> torch.Tensor:
            v, spikes = leaky.init_leaky(), []
            for current in x:
                spike, v = leaky(current, v)
                spikes.append(spike)
            return torch.stack(spikes)

        found["snnTorch"] = gradient(by_snntorch)
    return found


def main(argv: list[str]) -> None:
    """Print a table and write JSON."""
    options = read_options(LifOptions, __doc__, argv, "benchmark lif")
    if len(options.shape) < 2 or min(options.shape) < 1:
        raise InputError(f"--shape {' '.join(map(str, options.shape))}: expected at least 1 each, time first")
    floor, timings = measure_floor(), in_turn(works(options.shape, options.calls), options.repeats)
    ours, numbers = timings["sealkd-jax"], int(np.prod(options.shape))
    rows = {
        who: (*timing.words("ms", options.calls), "" if who == "sealkd-jax" else f"{ratio(ours, timing):.3f}")
        for who, timing in timings.items()
    }
    # read currents; write spikes; read weights and currents again; write the gradient
    least = floor.seconds(0, 4 * 5 * numbers)
    missing = [who for who, module in PEERS.items() if not find_spec(module)]
    note = f"Floor by bandwidth: {1e3 * least:.3g} ms."
    note += f" Not installed and left out: {', '.join(missing)}." if missing else ""
    shape = "×".join(map(str, options.shape))
    print_table(f"LIF, forward and backward, {shape}", ("median", "spread, ms", "ours ÷ this"), rows, note)
    measured = {who: timing.wall for who, timing in timings.items()}
    save(
        options.out,
        {"seconds": measured, "calls": options.calls, "shape": options.shape, "floor_seconds": options.calls * least},
    )
