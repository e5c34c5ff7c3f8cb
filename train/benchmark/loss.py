"""Time SeAl-KD's loss and its gradient, beside the authors' algorithm in PyTorch.

The floor is the time to read the logits and write their gradient once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from sealkd_jax.losses import seal_kd_loss
from sealkd_jax.programs.command_line import read_options
from sealkd_jax.typed import at_least
from train.benchmark.table import RESULTS_DIR, print_table, save
from train.benchmark.timing import in_turn, measure_floor, ratio, repeated

SHAPES = ((4, 128, 10), (4, 128, 100), (6, 128, 1000))


@dataclass(frozen=True)
class LossOptions:
    """The number of runs."""

    repeats: Annotated[int, at_least(1)] = 51
    """Number of measurements of each program."""
    calls: Annotated[int, at_least(1)] = 10
    """Number of calls in a measurement."""
    out: Path = RESULTS_DIR / "loss.json"
    """JSON file for the numbers."""


def works(shape: tuple[int, int, int], calls: int) -> dict[str, Callable[[], Any]]:
    """Our program, and PyTorch's if it is installed: `calls` gradients for logits `[T, B, C]`."""
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=shape).astype(np.float32), rng.normal(size=shape[1:]).astype(np.float32)
    labels = rng.integers(0, shape[-1], shape[1])
    gradient = jax.jit(jax.value_and_grad(lambda *args: seal_kd_loss(*args).mean()))
    arrays = [jnp.asarray(x) for x in (student, teacher, labels.astype(np.int32))]
    found: dict[str, Callable[[], Any]] = {"sealkd-jax": repeated(lambda: gradient(*arrays), calls)}
    if find_spec("torch"):
        import torch

        from train.benchmark import in_pytorch

        place = "cuda" if torch.cuda.is_available() else "cpu"
        tensors = [torch.from_numpy(x).to(place) for x in (student, teacher, labels)]
        tensors[0].requires_grad_()

        def by_torch() -> None:
            tensors[0].grad = None
            in_pytorch.seal_kd_loss(*tensors).backward()

        found["PyTorch"] = in_pytorch.synchronised(repeated(by_torch, calls))
    return found


def main(argv: list[str]) -> None:
    """Print a table and write JSON."""
    options = read_options(LossOptions, __doc__, argv, "benchmark loss")
    floor, rows, measured = measure_floor(), {}, {}
    for shape in SHAPES:
        timings = in_turn(works(shape, options.calls), options.repeats)
        nbytes = 4 * (2 * np.prod(shape) + np.prod(shape[1:]))
        least, ours = floor.seconds(0, nbytes), timings["sealkd-jax"]
        name = "×".join(map(str, shape))
        for who, timing in timings.items():
            of_peer = "" if who == "sealkd-jax" else f"{ratio(ours, timing):.2f}"
            rows[f"[{name}] {who}"] = (*timing.words("µs", options.calls), of_peer, f"{1e6 * least:.1f} µs")
            measured[f"{name} {who}"] = timing.wall
    missing = "" if find_spec("torch") else "PyTorch is not installed and was left out."
    print_table(
        "SeAl-KD's loss [T×B×C], forward and backward",
        ("median", "spread, µs", "ours ÷ this", "floor"),
        rows,
        missing,
    )
    save(options.out, {"seconds": measured, "calls": options.calls, "floor": floor._asdict()})
