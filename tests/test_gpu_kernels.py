"""BatchNorm with LIF as kernels, interpreted on a CPU: they give what the layers give, however one trains."""

from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AbstractDevice, AbstractMesh

from sealkd_jax.layers import gpu_kernels
from sealkd_jax.layers.batch_norm import BatchNorm
from sealkd_jax.layers.neurons import IAF, LIF, PLIF
from sealkd_jax.models import create_student
from sealkd_jax.parallel.sharding import Parallel
from sealkd_jax.training import on_devices, prepare, train_seeds
from tests.helpers.devices import first_devices
from tests.helpers.small_training import CLASSES, make_dataset, make_plan, one_device


class Layer(nn.Module):
    """BatchNorm and neuron; `together`: by `gpu_kernels.fire`."""

    together: bool
    timesteps: int
    decay: float = 0.5
    kind: type = LIF
    train: bool = True
    dtype: object = jnp.float64
    more: tuple = ()

    @nn.compact
    def __call__(self, x, skip=None):
        wide = jnp.promote_types(self.dtype, jnp.float32)
        normalise = BatchNorm(self.train, None, self.dtype, wide, name="normalise")
        neuron = self.kind(self.decay, name="neuron", **dict(self.more))
        if self.together:
            return gpu_kernels.fire(normalise, neuron, x, self.timesteps, *[] if skip is None else [skip])
        y = normalise(x)
        return neuron(y if skip is None else y + skip)


@contextmanager
def as_kernels():
    """Has every layer that could be a kernel be one, compiled on a GPU; gives a set that has each one's name."""
    pytest.importorskip("jax.experimental.pallas.triton", reason="this JAX does not compile Pallas through Triton")
    made, by_blocks = set(), gpu_kernels._by_blocks

    def noted(function, *args, interpret=False):
        made.add(function.func.__name__)
        return by_blocks(function, *args, interpret=interpret)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu_kernels, "runs_here", lambda: True)
        patch.setattr(gpu_kernels, "_by_blocks", noted)
        patch.setattr(gpu_kernels, "_at_once", partial(noted, interpret=True))
        yield made


@pytest.fixture
def kernels():
    with as_kernels() as made:
        yield made


def some(seed, *shape):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) * rng.uniform(0.5, 2, shape[-1]) + rng.normal(0.5, 0.5, shape[-1])


def pullback(together, x, skip, dspikes, **kwargs):
    """Spikes and new statistics; the gradients of scale, bias, x and skip."""
    layer = Layer(together, len(x), **kwargs)
    features = x.shape[-1]
    params = {"normalise": {"scale": some(1, features), "bias": some(2, features)}}
    statistics = {"normalise": {"mean": np.zeros(features), "var": np.ones(features)}}

    @jax.jit
    def run(params, x, skip, dspikes):
        def fire(params, x, skip):
            return layer.apply({"params": params, "batch_stats": statistics}, x, skip, mutable=["batch_stats"])

        spikes, back, statistics_after = jax.vjp(fire, params, x, skip, has_aux=True)
        return spikes, statistics_after, back(dspikes)

    return run(params, x, skip, dspikes)


@settings(deadline=None, max_examples=10)
@given(
    timesteps=st.integers(1, 8),
    examples=st.sampled_from([1, 3, 4]),
    features=st.sampled_from([16, 48, 256]),
    decay=st.sampled_from([0.0, 0.2, 0.5, 1.0]),
    skips=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_kernel_gives_what_the_layers_give(timesteps, examples, features, decay, skips, seed):
    shape = timesteps, examples, 4, 4, features
    x, dspikes = some(seed, *shape), some(seed + 100, *shape)
    skip = (some(seed + 200, *shape) > 1).astype(x.dtype) if skips else None
    with jax.enable_x64(True), pytest.MonkeyPatch.context() as patch:
        one_by_one = pullback(False, x, skip, dspikes, decay=decay)
        with as_kernels() as made:
            by_blocks = pullback(True, x, skip, dspikes, decay=decay)
        assert made == {"_spikes", "_current_gradients"}
        patch.setattr(gpu_kernels, "runs_here", lambda: True)
        at_once = pullback(True, x, skip, dspikes, decay=decay)  # on a CPU beside a GPU
    for found in (by_blocks, at_once):
        np.testing.assert_array_equal(found[0], one_by_one[0])
        assert jax.tree.structure(found) == jax.tree.structure(one_by_one)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), found, one_by_one)


@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("timesteps", [2, 6])
def test_in_float32_spikes_are_the_same_and_gradients_to_1e_5(kernels, timesteps, skips):
    shape = timesteps, 4, 8, 8, 32
    x, dspikes = (some(seed, *shape).astype(np.float32) for seed in (0, 1))
    skip = (some(2, *shape) > 1).astype(np.float32) if skips else None
    one_by_one = pullback(False, x, skip, dspikes, dtype=jnp.float32)
    assert not kernels
    together = pullback(True, x, skip, dspikes, dtype=jnp.float32)
    assert kernels == {"_spikes", "_current_gradients"}
    assert np.mean(together[0] != one_by_one[0]) <= (0 if jax.default_backend() == "cpu" else 1e-4)  # a GPU fuses
    for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(one_by_one), strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b)


def test_in_bfloat16_the_currents_are_rounded_as_the_layers_round_them(kernels):
    """The membrane is float32. XLA may leave the rounding out, so a spike in a thousand may differ."""
    shape = 4, 4, 8, 8, 32
    x, dspikes = (jnp.asarray(some(seed, *shape), jnp.bfloat16) for seed in (0, 1))
    one_by_one, together = (pullback(on, x, None, dspikes, dtype=jnp.bfloat16) for on in (False, True))
    assert kernels and together[0].dtype == jnp.bfloat16
    assert np.mean(together[0] != one_by_one[0]) < 1e-3
    for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(one_by_one), strict=True):
        assert a.dtype == b.dtype
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        assert np.linalg.norm(a - b) <= 0.03 * np.linalg.norm(b)


@pytest.mark.parametrize(
    "layer",
    [
        {"kind": IAF},
        {"kind": PLIF},
        {"more": (("threshold", 0.5),)},
        {"more": (("v_reset", None),)},
        {"more": (("detach_reset", True),)},
        {"train": False},
        {"shape": (9, 4, 8, 8, 32)},  # a loop
        {"shape": (2, 4, 8, 8, 24)},  # eight features in a row are too few
        {"shape": (2, 3, 1, 32)},  # nor is there a block of three rows
        {"dtype": jnp.float32},  # of what comes after float64
    ],
)
def test_what_there_is_no_kernel_for_is_left_to_xla(float64, kernels, layer):
    kwargs = dict(layer)
    x = jnp.asarray(some(0, *kwargs.pop("shape", (2, 4, 8, 8, 32))))
    network = Layer(True, len(x), **kwargs)
    variables = network.init(jax.random.key(0), x)
    network.apply({k: variables[k] for k in ("params", "batch_stats")}, x, mutable=["batch_stats"])
    assert not kernels


def test_spikes_and_membranes_can_be_read_and_given_as_ever(float64, kernels):
    x, layer = jnp.asarray(some(0, 2, 4, 8, 8, 32)), Layer(True, 2)
    made = layer.init(jax.random.key(0), x)
    variables = {k: made[k] for k in ("params", "batch_stats")}
    _, seen = layer.apply(variables, x, mutable=["batch_stats", "spikes", "membranes"])
    assert set(seen) == {"batch_stats", "spikes", "membranes"} and not kernels
    from_there, _ = layer.apply(variables | {"membranes": seen["membranes"]}, x, mutable=["batch_stats"])
    assert not kernels
    from_rest, _ = layer.apply(variables, x, mutable=["batch_stats"])
    assert kernels and (from_there != from_rest).any()


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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu_kernels, "runs_here", lambda: False)
        expected = trained(student, parallel, remat)
    assert not kernels
    found = trained(student, parallel, remat)
    assert "_current_gradients" in kernels
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-10), found, expected)


def test_their_spikes_have_the_name_that_a_checkpoint_can_save(float64, kernels):
    x, layer = jnp.asarray(some(0, 2, 4, 8, 8, 32)), Layer(True, 2)
    variables = layer.init(jax.random.key(0), x)
    given = {k: variables[k] for k in ("params", "batch_stats")}
    fire = partial(layer.apply, given, mutable=["batch_stats"])
    policy = jax.checkpoint_policies.save_only_these_names("spikes")

    def loss(x):
        return jnp.square(jax.checkpoint(lambda x: fire(x)[0], policy=policy)(x)).sum()

    _, vjp = jax.vjp(loss, x)
    assert kernels and any(r.shape == x.shape for r in jax.tree.leaves(vjp))


@pytest.mark.slow
def test_seeds_side_by_side_train_as_one_after_another(float64, kernels):
    network = create_student("spiking-conv", CLASSES)
    network = replace(network, module=network.module.clone(dtype=jnp.float64, param_dtype=jnp.float64))
    plan = replace(make_plan(), network=network, spec=make_plan().spec._replace(epochs=1))
    dataset = make_dataset(examples=32)
    by_one, by_two = (train_seeds(plan, [0, 1], dataset, one_device(), at_once=at_once) for at_once in (1, 2))
    assert kernels
    for one, two in zip(by_one, by_two, strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-10), one.variables, two.variables)


@pytest.mark.parametrize(
    ("timesteps", "features", "dtype", "skips"),
    [(1, 512, "float32", True), (4, 64, "bfloat16", True), (6, 16, "float32", False), (8, 48, "float16", True)],
)
def test_kernels_are_lowered_for_a_gpu_that_is_not_there(kernels, timesteps, features, dtype, skips):
    layer, vector = Layer(True, timesteps, dtype=jnp.dtype(dtype)), jax.ShapeDtypeStruct((features,), jnp.float32)
    x = jax.ShapeDtypeStruct((timesteps, 4, 8, 8, features), dtype)
    params = {"normalise": {"scale": vector, "bias": vector}}
    statistics = {"normalise": {"mean": vector, "var": vector}}

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
    monkeypatch.setattr(gpu_kernels, "find_spec", lambda module: None)  # a JAX that has dropped it
    assert not gpu_kernels.runs_here()
