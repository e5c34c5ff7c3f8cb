"""BatchNorm with LIF as GPU kernels, interpreted on a CPU: they give what the layers give, also in training."""

import sys
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.experimental import pallas as pl
from jax.sharding import AbstractDevice, AbstractMesh

from sealkd_jax._checks import at_least_float32
from sealkd_jax.layers import gpu_kernels
from sealkd_jax.layers.batch_norm import BatchNorm
from sealkd_jax.layers.neurons import IAF, LIF, PLIF, NeuronFactory
from sealkd_jax.models import create_student
from sealkd_jax.parallel.sharding import Parallel
from sealkd_jax.training import on_devices, prepare, train_seeds
from tests.helpers.devices import first_devices
from tests.helpers.small_training import CLASSES, make_dataset, make_plan, one_device

FORWARD, BACKWARD = "normalise_and_fire", "normalise_and_fire_backward"


class Layer(nn.Module):
    """BatchNorm and neurons by `gpu_kernels.fire`."""

    timesteps: int
    neuron: NeuronFactory = LIF
    train: bool = True
    dtype: object = jnp.float64

    @nn.compact
    def __call__(self, x, skip=None):
        wide = at_least_float32(self.dtype)
        batch_norm = BatchNorm(self.train, None, self.dtype, wide, name="batch_norm")
        skips = [] if skip is None else [skip]
        return gpu_kernels.fire(batch_norm, self.neuron(name="neuron"), x, self.timesteps, *skips)


@pytest.fixture
def kernels(monkeypatch):
    """Runs kernels wherever there are some, compiled on a GPU. Its value is the set of their names so far."""
    pytest.importorskip("jax.experimental.pallas.triton", reason="this JAX does not compile Pallas through Triton")
    names, pallas_call = set(), pl.pallas_call

    def noted(*args, name, **kwargs):
        names.add(name)
        return pallas_call(*args, name=name, **kwargs)

    monkeypatch.setattr(pl, "pallas_call", noted)
    monkeypatch.setattr(gpu_kernels, "MODE", "interpret")
    return names


def in_mode(mode, function, *args, **kwargs):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu_kernels, "MODE", mode)
        return function(*args, **kwargs)


def some(seed, *shape):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) * rng.uniform(0.5, 2, shape[-1]) + rng.normal(0.5, 0.5, shape[-1])


def pullback(x, skip, dspikes, **kwargs):
    """Spikes and new statistics; the gradients of scale, bias, x and skip."""
    layer, features, wide = Layer(len(x), **kwargs), x.shape[-1], at_least_float32(x.dtype)
    params = {"batch_norm": {"scale": some(1, features).astype(wide), "bias": some(2, features).astype(wide)}}
    statistics = {"batch_norm": {"mean": np.zeros(features, wide), "var": np.ones(features, wide)}}

    @jax.jit
    def run(params, x, skip, dspikes):
        def fire(params, x, skip):
            return layer.apply({"params": params, "batch_stats": statistics}, x, skip, mutable=["batch_stats"])

        spikes, back, statistics_after = jax.vjp(fire, params, x, skip, has_aux=True)
        return spikes, statistics_after, back(dspikes)

    return run(params, x, skip, dspikes)


@pytest.mark.parametrize(
    ("timesteps", "examples", "features", "decay", "skips"),
    [(1, 1, 256, 0.0, False), (4, 3, 48, 0.5, True), (8, 4, 16, 0.2, True)],
)
def test_a_kernel_gives_what_the_layers_give(float64, kernels, timesteps, examples, features, decay, skips):
    """So does its code for a CPU beside a GPU, without blocks (`on`)."""
    shape = timesteps, examples, 4, 4, features
    x, dspikes = some(0, *shape), some(1, *shape)
    skip = (some(2, *shape) > 1).astype(x.dtype) if skips else None
    compute = partial(pullback, x, skip, dspikes, neuron=partial(LIF, decay=decay))
    expected, *found = (in_mode(mode, compute) for mode in ("off", "interpret", "on"))
    assert kernels == {FORWARD, BACKWARD}
    for one in found:
        np.testing.assert_array_equal(one[0], expected[0])
        chex.assert_trees_all_close(one, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("timesteps", "skips"), [(2, False), (6, True)])
def test_in_float32_spikes_are_the_same_and_gradients_to_1e_5(kernels, timesteps, skips):
    shape = timesteps, 4, 8, 8, 32
    x, dspikes = (some(seed, *shape).astype(np.float32) for seed in (0, 1))
    skip = (some(2, *shape) > 1).astype(np.float32) if skips else None
    expected = in_mode("off", pullback, x, skip, dspikes, dtype=jnp.float32)
    assert not kernels
    found = pullback(x, skip, dspikes, dtype=jnp.float32)
    assert kernels == {FORWARD, BACKWARD}
    assert np.mean(found[0] != expected[0]) <= (0 if jax.default_backend() == "cpu" else 1e-4)  # a GPU fuses
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b)


def test_in_bfloat16_the_currents_are_rounded_as_the_layers_round_them(kernels):
    """The membrane is float32. XLA may leave the rounding out, so a spike in a thousand may differ."""
    shape = 4, 4, 8, 8, 32
    x, dspikes = (jnp.asarray(some(seed, *shape), jnp.bfloat16) for seed in (0, 1))
    expected = in_mode("off", pullback, x, None, dspikes, dtype=jnp.bfloat16)
    found = pullback(x, None, dspikes, dtype=jnp.bfloat16)
    assert kernels and found[0].dtype == jnp.bfloat16
    chex.assert_trees_all_equal_shapes_and_dtypes(found, expected)
    assert np.mean(found[0] != expected[0]) < 1e-3
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        assert np.linalg.norm(a - b) <= 0.03 * np.linalg.norm(b)


def apply(layer, variables, x, mutable=("batch_stats",)):
    """Traces the layer alone: shapes of its result and collections."""
    return jax.eval_shape(partial(layer.apply, mutable=list(mutable)), variables, x)


def fresh(layer, x):
    """Shapes of the layer's variables."""
    variables = jax.eval_shape(layer.init, jax.random.key(0), x)
    return {name: variables[name] for name in ("params", "batch_stats")}


@pytest.mark.parametrize(
    "layer",
    [
        {"neuron": IAF},
        {"neuron": PLIF},
        {"neuron": partial(LIF, threshold=0.5)},
        {"neuron": partial(LIF, v_reset=None)},
        {"neuron": partial(LIF, detach_reset=True)},
        {"train": False},
        {"shape": (9, 4, 8, 8, 32)},  # a loop
        {"shape": (2, 4, 8, 8, 24)},  # eight features in a row are too few
        {"shape": (2, 3, 1, 32)},  # no block divides three rows
        {"dtype": jnp.float32},  # after a layer in float64
    ],
    ids=lambda layer: "-".join(f"{key}" for key in layer),
)
def test_layers_that_no_kernel_covers_are_left_to_xla(float64, kernels, layer):
    kwargs = dict(layer)
    x = jax.ShapeDtypeStruct(kwargs.pop("shape", (2, 4, 8, 8, 32)), jnp.float64)
    network = Layer(x.shape[0], **kwargs)
    apply(network, fresh(network, x), x)
    assert not kernels


def test_spikes_and_membranes_can_be_read_and_given(float64, kernels):
    x, layer = jax.ShapeDtypeStruct((2, 4, 8, 8, 32), jnp.float64), Layer(2)
    variables = fresh(layer, x)
    _, seen = apply(layer, variables, x, ("batch_stats", "spikes", "membranes"))
    assert set(seen) == {"batch_stats", "spikes", "membranes"} and not kernels
    apply(layer, variables | {"membranes": seen["membranes"]}, x)
    assert not kernels
    apply(layer, variables, x)
    assert kernels == {FORWARD}


def trained(student, parallel, remat):
    """Variables after an epoch of a spiking network: a stage with the shape of its input, and one that changes it."""
    dataset = make_dataset(examples=32)
    network = create_student(student, CLASSES, remat=remat)
    module = network.module.clone(depths=(1, 1), features=(64, 32), dtype=jnp.float64, param_dtype=jnp.float64)
    spec = make_plan().spec._replace(views=1, batch_size=16, epochs=1)
    plan = replace(make_plan(), network=replace(network, module=module), spec=spec)
    data, program = on_devices(dataset.train, parallel), prepare(plan, dataset, parallel)
    state, key = program.begin(0)
    state, _ = parallel.compile_epoch(program.epoch)(parallel.put(state), data, key, jnp.int32(0))
    return jax.tree.map(np.asarray, state.variables)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("student", "mode", "remat"),
    [
        ("sew-resnet18", "jit", "none"),
        ("spiking-resnet34", "pmap", "full"),
        ("spiking-resnet18", "one device", "spikes"),
    ],
)
def test_a_network_trains_as_without_on_one_device_and_eight(float64, kernels, student, mode, remat):
    parallel = one_device() if mode == "one device" else Parallel(mode, first_devices(8))
    expected = in_mode("off", trained, student, parallel, remat)
    assert not kernels
    found = trained(student, parallel, remat)
    assert BACKWARD in kernels
    chex.assert_trees_all_close(found, expected, rtol=0, atol=1e-10)


def test_a_checkpoint_can_save_their_spikes_by_name(float64, kernels):
    x, layer = jnp.asarray(some(0, 2, 4, 8, 8, 32)), Layer(2)
    variables = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), fresh(layer, x))
    policy = jax.checkpoint_policies.save_only_these_names("spikes")

    @partial(jax.checkpoint, policy=policy)
    def fire(x):
        return layer.apply(variables, x, mutable=["batch_stats"])[0]

    _, vjp = jax.vjp(lambda x: jnp.square(fire(x)).sum(), x)
    assert kernels and any(kept.shape == x.shape for kept in jax.tree.leaves(vjp))


@pytest.mark.slow
def test_seeds_side_by_side_train_as_one_after_another(float64, kernels):
    network = create_student("spiking-conv", CLASSES)
    network = replace(network, module=network.module.clone(dtype=jnp.float64, param_dtype=jnp.float64))
    plan = replace(make_plan(), network=network, spec=make_plan().spec._replace(epochs=1))
    dataset = make_dataset(examples=32)
    by_one, by_two = (train_seeds(plan, [0, 1], dataset, one_device(), at_once=at_once) for at_once in (1, 2))
    assert kernels
    for one, two in zip(by_one, by_two, strict=True):
        chex.assert_trees_all_close(one.variables, two.variables, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("timesteps", "features", "dtype", "skips"),
    [(1, 512, "float32", True), (4, 64, "bfloat16", True), (6, 16, "float32", False), (8, 48, "float16", True)],
)
def test_kernels_are_lowered_for_a_gpu_that_is_not_there(kernels, timesteps, features, dtype, skips):
    layer, vector = Layer(timesteps, dtype=jnp.dtype(dtype)), jax.ShapeDtypeStruct((features,), jnp.float32)
    x = jax.ShapeDtypeStruct((timesteps, 4, 8, 8, features), dtype)
    params = {"batch_norm": {"scale": vector, "bias": vector}}
    statistics = {"batch_norm": {"mean": vector, "var": vector}}

    def total(params, statistics, x, skip):
        spikes, _ = layer.apply({"params": params, "batch_stats": statistics}, x, skip, mutable=["batch_stats"])
        return spikes.astype(jnp.float32).sum()

    gpu = AbstractMesh((1,), ("one",), abstract_device=AbstractDevice("NVIDIA H200", 132, "gpu"))
    with jax.sharding.use_abstract_mesh(gpu):
        traced = jax.jit(jax.value_and_grad(total, (0, 2))).trace(params, statistics, x, x if skips else None)
        text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("__gpu$xla.gpu.triton") == len(kernels) == 2  # the spikes and the gradients


@pytest.mark.parametrize(
    ("kind", "capability", "runs"),
    [
        ("NVIDIA H200", "9.0", True),
        ("NVIDIA GeForce RTX 5090", "12.0", True),
        ("NVIDIA T400", "7.5", False),  # which Triton no longer compiles for
        ("Tesla T4", "7.5", False),
        ("AMD Instinct MI300X", "gfx942", False),
        ("cpu", None, False),
        ("TPU v5 lite", None, False),
    ],
)
def test_kernels_are_for_nvidia_gpus_that_triton_compiles_for(monkeypatch, kind, capability, runs):
    device = SimpleNamespace(device_kind=kind)
    if capability:
        device.compute_capability = capability
    monkeypatch.setattr(jax, "devices", lambda: [device])
    assert gpu_kernels.runs_here() is runs
    monkeypatch.setitem(sys.modules, "jax.experimental.pallas.triton", None)  # a JAX that has dropped it
    assert not gpu_kernels.runs_here()
