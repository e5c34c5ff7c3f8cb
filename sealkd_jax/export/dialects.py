r"""What each reader of NIR takes from a node: the same equations, written as it reads them.

A neuron of ours is $h = d\,v + x$ with a spike at $h \ge \theta$. NIR's LIF, $\tau\,\dot v = (v_{leak} - v) + R\,I$, is
$v \leftarrow (1 - \Delta t/\tau)\,v + (\Delta t/\tau)\,R\,I$ in Euler steps of $\Delta t$. They are equal for

$$\tau = \frac{\Delta t}{1 - d}, \qquad R = \frac{\tau}{\Delta t} = \frac{1}{1 - d}$$

and NIR's IF, $\dot v = R\,I$, has $R = 1/\Delta t$. NIR fires at $v > v_{thr}$. So $v_{thr}$ is the largest number
below $\theta$, and both fire at the same membranes of that precision. Readers that take R as 1 get the threshold
$(1 - d)\,\theta$ in its place, for membranes that are smaller by the same factor. Those that fire at the threshold get
$\theta$.

Reference: Pedersen et al., Neuromorphic intermediate representation, Nature Communications 2024; each reader's code.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from sealkd_jax.errors import InputError, did_you_mean
from sealkd_jax.models.graph import Conv, Fire, Graph, Node, Pool

DT = 1e-4
"""Length of a timestep, in seconds."""
NO_LEAK = 2.0**30
"""The time constant that stands for none, in timesteps: 1 - 2**-30 is 1 in float32."""

Written = tuple[str, dict[str, float], float]
"""A class of NIR, its arguments but for the threshold, and the factor on the threshold."""


@dataclass(frozen=True)
class Dialect:
    """How a reader of NIR reads.

    Attributes:
        reader: its name and version, as tested.
        neuron: writes a neuron.
        resets: which resets it can do: hard, soft.
        pool: the class of NIR for a mean, or a sum that the weights after it are divided for.
        fires_at: fires at the threshold, not only above it.
        chain: reads each layer after the one before it, without sums of several.
        images: reads convolutions and pooling.
        leaky: has our leaky neurons.
        leak_in_images: reads leaky neurons of images.
        by_rows: flattens an image as `[H, W, C]`.
    """

    reader: str
    neuron: Callable[[Fire], Written]
    resets: tuple[str, ...] = ("hard",)
    pool: str = "SumPool2d"
    fires_at: bool = False
    chain: bool = False
    images: bool = True
    leaky: bool = True
    leak_in_images: bool = True
    by_rows: bool = False


def _euler(fire: Fire) -> Written:
    """NIR's own equations."""
    if fire.decay == 1:
        return "IF", {"r": 1 / DT}, 1.0
    return "LIF", {"tau": DT / (1 - fire.decay), "r": 1 / (1 - fire.decay), "v_leak": 0.0}, 1.0


def _snntorch(fire: Fire) -> Written:
    """Its IF is a leaky neuron that raises an error when called: a time constant without end stands for it."""
    if fire.decay < 1:
        return _euler(fire)
    return "LIF", {"tau": DT * NO_LEAK, "r": NO_LEAK, "v_leak": 0.0}, 1.0


def _without_r(fire: Fire) -> Written:
    """For readers that take R as 1, and add the currents to an IF as they are."""
    if fire.decay == 1:
        return "IF", {"r": 1.0}, 1.0
    return "LIF", {"tau": DT / (1 - fire.decay), "r": 1.0, "v_leak": 0.0}, 1 - fire.decay


def _spyx(fire: Fire) -> Written:
    """Its spikes come a timestep after the currents, and its reset a whole threshold after the leak.

    An "or", which leaks all, keeps x minus the threshold after a spike: it has to be below half of a spike.
    """
    return _without_r(fire)[:2] + ((1.0,) if fire.decay else (0.8,))


def _sinabs(fire: Fire) -> Written:
    """Its membranes keep exp(-1/τ) of themselves, with τ in timesteps, and the currents are added as they are."""
    if fire.decay == 1:
        return "IF", {"r": 1.0}, 1.0
    return "LIF", {"tau": -1 / math.log(fire.decay), "r": 1.0, "v_leak": 0.0}, 1.0


def _rockpool(fire: Fire) -> Written:
    """Its reader of LIF fails, so this is the current-based neuron; Δt = τ / (1 + R), and decay exp(-Δt/τ).

    A synapse decays before the membrane takes its current: it passes on a millionth, and forgets the rest.
    """
    tau, left = (-1 / math.log(fire.decay) if fire.decay < 1 else NO_LEAK), 1e-6
    return "CubaLIF", {"tau_syn": -DT / math.log(left), "tau_mem": DT * tau, "r": tau - 1, "v_leak": 0.0}, left


DIALECTS: dict[str, Dialect] = {
    "generic": Dialect("NIR 1.0.8", _euler, pool="AvgPool2d"),
    "snntorch": Dialect("snnTorch 1.0.0", _snntorch, pool="AvgPool2d"),
    "spikingjelly": Dialect("SpikingJelly 2.0.0", _euler, pool="AvgPool2d", fires_at=True),
    "norse": Dialect("Norse 1.1.0", _without_r, chain=True),
    "spyx": Dialect("Spyx 1.0.0", _spyx, resets=("soft",), chain=True, by_rows=True, leaky=False),
    "sinabs": Dialect(
        "Sinabs 3.1.3", _sinabs, resets=("hard", "soft"), fires_at=True, chain=True, leak_in_images=False
    ),
    "rockpool": Dialect("Rockpool 3.1.0", _rockpool, resets=("soft",), fires_at=True, chain=True, images=False),
}
"""Every dialect by its name."""


def check_dialect(name: str, graph: Graph) -> Dialect:
    """The dialect, if its reader can read and run the graph.

    Raises:
        InputError: for an unknown name, or a graph with a part that the reader does not have.
    """
    if name not in DIALECTS:
        raise InputError(f"for {name}: unknown; expected one of {', '.join(DIALECTS)}{did_you_mean(name, DIALECTS)}")
    dialect = DIALECTS[name]
    for node in graph.nodes:
        if problem := _problem(dialect, graph, node):
            raise InputError(f"{node.name}: {problem}")
    return dialect


def _problem(dialect: Dialect, graph: Graph, node: Node) -> str | None:
    """What the reader cannot do with a layer, and what it can."""
    layer, reader = node.layer, dialect.reader
    if isinstance(layer, Fire) and ("soft" if layer.soft_reset else "hard") not in dialect.resets:
        kind, wanted = ("soft", "v_reset=0") if layer.soft_reset else ("hard", "v_reset=None")
        return f"a {kind} reset, and {reader} has none; expected a student with {wanted}, or {_others('resets', kind)}"
    if dialect.chain and (len(node.sources) > 1 or len(graph.consumers(node.name)) > 1):
        return f"part of a sum, which {reader} misreads; expected no residuals, or {_others('chain', False)}"
    if not dialect.images and isinstance(layer, Conv | Pool):
        return f"{reader} reads dense layers alone; expected spiking-mlp"
    if isinstance(layer, Fire) and layer.decay < 1 and not dialect.leaky:
        return f"{reader} resets after the leak, our leaky neurons before it; expected neuron iaf"
    if isinstance(layer, Fire) and layer.decay < 1 and not dialect.leak_in_images and len(graph.shapes[node.name]) > 1:
        return f"{reader} reads no leaky neurons of images; expected neuron iaf, or spiking-mlp"
    if isinstance(layer, Pool) and any(layer.padding) and dialect.pool == "SumPool2d":
        return f"{reader} reads no padding of pools; expected images below 96 pixels"
    return None


def _others(attribute: str, wanted: object) -> str:
    values = {name: getattr(dialect, attribute) for name, dialect in DIALECTS.items()}
    fitting = [name for name, value in values.items() if value == wanted or (attribute == "resets" and wanted in value)]
    return f"a reader such as {', '.join(fitting)}"
