"""Time a distillation step: a spiking ResNet-18 learns from a ResNet-34 by SeAl-KD.

Our teacher's logits are stored, and our steps are one program, as in an epoch. The authors' program, here in PyTorch
with SpikingJelly's neurons, takes one step after another and runs the teacher in each. The floor is the operations of
the convolutions, at the machine's speed of matrix products.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from sealkd_jax.losses import METHODS
from sealkd_jax.models import Network, Variables, create_student
from sealkd_jax.programs.command_line import read_options
from sealkd_jax.training import Batch, TrainState, create_optimizer, init_state, make_step
from sealkd_jax.typed import POSITIVE, at_least
from train.benchmark.table import RESULTS_DIR, print_table, save
from train.benchmark.timing import in_turn, measure_floor, ratio, repeated

CLASSES = 10


@dataclass(frozen=True)
class StepOptions:
    """The size, and the number of runs."""

    batch_size: Annotated[int, at_least(1)] = 16
    """Images per step."""
    timesteps: Annotated[int, at_least(1)] = 4
    """T, the number of timesteps."""
    width: Annotated[float, POSITIVE] = 1.0
    """Factor on the features of every layer, the teacher's included."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Type of our activations; PyTorch's are float32."""
    remat: Literal["none", "spikes", "full"] = "none"
    """What our backward pass recomputes."""
    repeats: Annotated[int, at_least(1)] = 9
    """Number of measurements of each program."""
    calls: Annotated[int, at_least(1)] = 3
    """Number of steps in a measurement."""
    out: Path = RESULTS_DIR / "step.json"
    """JSON file for the numbers."""


def ours(options: StepOptions) -> tuple[Callable[[], Any], float]:
    """A program of `calls` consecutive steps, and the operations of the convolutions of one."""
    network = create_student(
        "spiking-resnet18", CLASSES, width=options.width, precision=options.precision, remat=options.remat
    )
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(options.batch_size, 32, 32, 3)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, CLASSES, options.batch_size), jnp.int32)
    teacher = jnp.asarray(rng.normal(size=(options.batch_size, CLASSES)), jnp.float32)
    begun, step = seal_step(network, images, options.timesteps)
    batches = in_a_row(Batch(images, labels, teacher), options.calls)
    state, steps = [begun], jax.jit(as_in_an_epoch(step), donate_argnums=0)

    def work() -> Any:
        state[0], metrics = steps(state[0], *batches)
        return metrics

    return work, operations(network, state[0].variables, images.shape, options.timesteps)


def seal_step(network: Network, images: jax.Array, timesteps: int) -> tuple[TrainState, Callable[..., Any]]:
    """The initial state of a student, and its step by SeAl-KD with the optimiser of the paper's recipe."""
    optimizer = create_optimizer("sgd", lambda _: 0.1, weight_decay=5e-4)
    state = init_state(network, optimizer, jax.random.key(0), images[:1])
    return state, make_step(network, METHODS["seal"], optimizer, timesteps=timesteps)


def in_a_row(batch: Batch, steps: int) -> tuple[Batch, jax.Array]:
    """The same batch for S steps, `[S, ...]`, and the progress at each, `[S]`."""
    return jax.tree.map(lambda x: jnp.stack([x] * steps), batch), jnp.arange(steps) / steps


def as_in_an_epoch(step: Callable[..., Any]) -> Callable[..., Any]:
    """(state, batches `[S, ...]`, progress `[S]`) -> (state, metrics `[S]`): S steps, scanned in one program."""
    return lambda state, *steps: jax.lax.scan(lambda state, one: step(state, *one), state, steps)


def operations(network: Network, variables: Variables, shape: tuple[int, ...], timesteps: int) -> int:
    """Operations of the weights in a step with images `[B, H, W, C]`: forward, and gradients of inputs and weights."""
    layers = network.synapses(variables, shape[1:]).values()
    once = sum(layer.macs * (timesteps if layer.spikes else 1) for layer in layers)
    return 3 * 2 * once * shape[0]


def theirs(options: StepOptions) -> Callable[[], Any]:
    """A program of the same steps as the authors take them."""
    import torch

    from train.benchmark import in_pytorch
    from train.benchmark.torch_networks import make

    place = "cuda" if torch.cuda.is_available() else "cpu"
    student = make("spiking-resnet18", options.width, options.timesteps).float().to(place)
    teacher = make("resnet34", options.width, None).float().to(place).eval()
    optimizer = torch.optim.SGD(student.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    images = torch.randn(options.batch_size, 3, 32, 32, device=place)
    labels = torch.randint(0, CLASSES, (options.batch_size,), device=place)

    def work() -> None:
        optimizer.zero_grad()
        logits = student(images)
        with torch.no_grad():
            target = teacher(images)[0]
        in_pytorch.seal_kd_loss(logits, target, labels).backward()
        optimizer.step()

    return in_pytorch.synchronised(repeated(work, options.calls))


def main(argv: list[str]) -> None:
    """Print a table and write JSON."""
    options = read_options(StepOptions, __doc__, argv, "benchmark step")
    work, operations = ours(options)
    works = {f"sealkd-jax, {options.precision}": work}
    installed = find_spec("torch") and find_spec("spikingjelly")
    if installed:
        works["the authors' step in PyTorch"] = theirs(options)
    floor = measure_floor(jnp.dtype(options.precision))
    timings = in_turn(works, options.repeats, options.batch_size * options.calls)
    least, first = options.calls * floor.seconds(operations, 0), next(iter(timings.values()))
    rows = {
        who: (
            *timing.words("ms", options.calls),
            f"{timing.rate:.4g}",
            "" if timing is first else f"{ratio(first, timing):.2f}",
        )
        for who, timing in timings.items()
    }
    note = f"Floor by operations: {1e3 * least / options.calls:.4g} ms, {least / first.seconds:.0%} of ours."
    note += "" if installed else " PyTorch and SpikingJelly are not installed and were left out."
    title = f"A step of spiking ResNet-18, width {options.width}, T = {options.timesteps}, {options.batch_size} images"
    print_table(title, ("median", "spread, ms", "images/s", "ours ÷ this"), rows, note)
    save(
        options.out,
        {
            "seconds": {who: timing.wall for who, timing in timings.items()},
            "calls": options.calls,
            "batch_size": options.batch_size,
            "timesteps": options.timesteps,
            "width": options.width,
            "floor_seconds": least,
        },
    )
