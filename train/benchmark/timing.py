"""Times of repeated runs, taken until their arrays are ready; and the best that the machine can do."""

import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike


class Timing(NamedTuple):
    """Seconds of every repetition, by the clock and summed over cores, and the number of examples in one."""

    wall: list[float]
    cores: list[float]
    handled: int

    @property
    def seconds(self) -> float:
        """Median by the clock."""
        return float(np.median(self.wall))

    @property
    def rate(self) -> float:
        """Examples per second."""
        return self.handled / self.seconds

    @property
    def rate_of_a_core(self) -> float:
        """Examples per second of one core's time."""
        return self.handled / float(np.median(self.cores))

    def words(self, unit: Literal["s", "ms", "µs"], calls: int = 1) -> tuple[str, str]:
        """Median and spread of one of `calls` that a repetition lasts."""
        scale = {"s": 1, "ms": 1e3, "µs": 1e6}[unit] / calls
        ends = "–".join(f"{scale * end:.4g}" for end in (min(self.wall), max(self.wall)))
        return f"{scale * self.seconds:.4g} {unit}", ends


def measure(work: Callable[[], Any], handled: int, repeats: int, warm_up: bool = True) -> Timing:
    """Time `work` until its arrays are ready."""
    if warm_up:
        jax.block_until_ready(work())
    wall, cores = [], []
    for _ in range(repeats):
        start, start_cores = time.perf_counter(), time.process_time()
        jax.block_until_ready(work())
        wall.append(time.perf_counter() - start)
        cores.append(time.process_time() - start_cores)
    return Timing(wall, cores, handled)


def in_turn(works: dict[str, Callable[[], Any]], repeats: int, handled: int = 1) -> dict[str, Timing]:
    """Time each of them once a round, after a round that does not count."""
    for work in works.values():
        jax.block_until_ready(work())
    rounds = [{name: measure(work, handled, 1, warm_up=False) for name, work in works.items()} for _ in range(repeats)]
    return {
        name: Timing([r[name].wall[0] for r in rounds], [r[name].cores[0] for r in rounds], handled) for name in works
    }


def repeated(work: Callable[[], Any], calls: int) -> Callable[[], Any]:
    """A function that calls `work` that often and returns the last result. Earlier results are freed.

    An accelerator starts a call while the one before it runs, so several calls hide the time that the host takes.
    """

    def together() -> Any:
        for _ in range(calls):
            last = work()
        return last

    return together


def ratio(ours: Timing, theirs: Timing) -> float:
    """Median over the rounds of our time divided by theirs."""
    return float(np.median(np.divide(ours.wall, theirs.wall)))


class Floor(NamedTuple):
    """The machine's best per second: operations of matrix products, and bytes read and written."""

    operations: float
    bytes: float

    def seconds(self, operations: float, nbytes: float) -> float:
        """The least time of a program with that many operations that moves that many bytes."""
        return max(operations / self.operations, nbytes / self.bytes)


def measure_floor(dtype: DTypeLike = jnp.float32) -> Floor:
    """The best of five products of matrices of `dtype`, and of five passes over an array larger than any cache.

    The products have JAX's default precision, as in a network: an accelerator may round float32 operands to fewer bits.
    The array is read and written in place: a CPU's system takes several times as long for new memory.
    """
    side, size, calls = (8192, 2**30, 10) if jax.default_backend() != "cpu" else (2048, 2**26, 1)
    a, x = jax.random.normal(jax.random.key(0), (side, side), dtype), [jnp.ones(size)]
    product, add = jax.jit(jnp.matmul), jax.jit(lambda x: x + 1, donate_argnums=0)

    def in_place() -> jax.Array:
        x[0] = add(x[0])
        return x[0]

    best = [min(measure(repeated(work, calls), 1, 5).wall) / calls for work in (lambda: product(a, a), in_place)]
    return Floor(2 * side**3 / best[0], 2 * x[0].nbytes / best[1])
