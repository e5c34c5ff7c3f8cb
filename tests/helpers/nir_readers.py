"""Readers of NIR: each takes a graph and inputs, and returns outputs and spikes, timestep by timestep.

Axis legend: T timesteps, B batch, C channels or classes, H height, W width.
"""

import warnings

import numpy as np
import pytest

from sealkd_jax.export.dialects import DT


def run_reader(name, graph, frames, soft_reset=False):
    """Outputs `[T, B, C]` and the spikes of each neuron by its name, `[T, B, ...]`, for frames `[T, B, C, H, W]`."""
    kwargs = {"soft_reset": soft_reset} if name == "sinabs" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return READERS[name](graph, frames, **kwargs)


def _by_steps(module, neurons, frames, step):
    """Calls `step(frame, state)`, which returns an output and the state, and records what `neurons` return."""
    import torch

    spikes = {}
    for name, child in module.named_modules():
        if isinstance(child, neurons):
            child.register_forward_hook(lambda _m, _x, out, name=name: spikes.setdefault(name, []).append(_first(out)))
    outputs, state = [], None
    with torch.no_grad():
        for frame in frames:
            out, state = step(torch.from_numpy(np.array(frame)), state)
            outputs.append(out.numpy())
    return np.stack(outputs), {name: torch.stack(fired).numpy() for name, fired in spikes.items()}


def _first(out):
    return out[0] if isinstance(out, tuple) else out


def _snntorch(graph, frames):
    pytest.importorskip("torch", reason="without PyTorch: see the extra parity")
    why = "without snnTorch: pip install --no-deps snntorch==1.0.0"
    read = pytest.importorskip("snntorch.import_nir", reason=why).import_from_nir
    import snntorch

    module = read(graph)
    return _by_steps(module, snntorch.Leaky, frames, lambda x, state: module(x))


def _spikingjelly(graph, frames):
    why = "without SpikingJelly 2: pip install --no-deps spikingjelly==2.0.0"
    read = pytest.importorskip("spikingjelly.activation_based.nir_exchange", reason=why).import_from_nir
    from spikingjelly.activation_based.nir_exchange.from_nir import _NIRStatefulModule

    module = read(graph, dt=DT)
    return _by_steps(module, _NIRStatefulModule, frames, lambda x, state: module(x, state))


def _norse(graph, frames):
    norse = pytest.importorskip("norse.torch", reason="without Norse: pip install --no-deps norse==1.1.0")
    from norse.torch.module.iaf import IAFCell
    from norse.torch.module.lif_box import LIFBoxCell

    module = norse.from_nir(graph, dt=DT)
    return _by_steps(module, (LIFBoxCell, IAFCell), frames, lambda x, state: module(x, state))


def _sinabs(graph, frames, soft_reset):
    """Whose neurons spike several times a timestep and reset softly, unless they are told otherwise."""
    read = pytest.importorskip("sinabs.nir", reason="without Sinabs: pip install --no-deps sinabs==3.1.3").from_nir
    import torch
    from sinabs.activation import MembraneReset, SingleSpike
    from sinabs.layers import LIF

    timesteps, batch = frames.shape[:2]
    module = read(graph, batch_size=batch)
    spikes = {}
    for name, child in module.named_modules():
        if isinstance(child, LIF):
            child.spike_fn, child.min_v_mem = SingleSpike, None
            if not soft_reset:
                child.reset_fn = MembraneReset()
            child.register_forward_hook(lambda _m, _x, out, name=name: spikes.setdefault(name, out))
    with torch.no_grad():
        # Sinabs has the examples first, and the timesteps of each in a row.
        out, _ = module(torch.from_numpy(np.array(frames).swapaxes(0, 1).reshape(-1, *frames.shape[2:])))

    def by_time(x):
        return x.numpy().reshape(batch, timesteps, *x.shape[1:]).swapaxes(0, 1)

    return by_time(out), {name: by_time(fired) for name, fired in spikes.items()}


def _rockpool(graph, frames):
    why = "without Rockpool: pip install --no-deps rockpool==3.1.0"
    read = pytest.importorskip("rockpool.nn.modules.torch.nir", reason=why).from_nir
    import torch

    module = read(graph)
    spikes = {}
    for name, child in module.named_modules():
        if hasattr(child, "max_spikes_per_dt"):
            child.max_spikes_per_dt = torch.tensor(1.0)
            child.register_forward_hook(lambda _m, _x, out, name=name: spikes.setdefault(name, out))
    with torch.no_grad():
        flat = torch.from_numpy(np.array(frames).swapaxes(0, 1).reshape(*frames.shape[1::-1], -1))
        out, _ = module(flat)
    return out.numpy().swapaxes(0, 1), {name: fired.numpy().swapaxes(0, 1) for name, fired in spikes.items()}


def _spyx(graph, frames):
    """Whose spikes come a timestep later in every layer of neurons."""
    read = pytest.importorskip("spyx.nir", reason="without Spyx: pip install --no-deps spyx==1.0.0").from_nir
    import jax.numpy as jnp

    x = jnp.asarray(np.moveaxis(np.array(frames), 2, -1)) if frames.ndim == 5 else jnp.asarray(frames)
    _, out = read(graph, x, dt=DT)
    return np.asarray(out), {}


READERS = {
    "snntorch": _snntorch,
    "spikingjelly": _spikingjelly,
    "norse": _norse,
    "sinabs": _sinabs,
    "rockpool": _rockpool,
    "spyx": _spyx,
}
