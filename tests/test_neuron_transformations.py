"""The neurons under JAX's transformations: batched, sharded, differentiated twice and forwards, computed again."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from sealkd_jax.neurons import UNROLL, UNROLL_ON_CPU, lif
from sealkd_jax.surrogates import sigmoid
from tests.helpers.compiling import fused_jit
from tests.helpers.devices import first_devices
from tests.helpers.gradients import pullback, random

LONG = (UNROLL + 1, UNROLL_ON_CPU + 1)


@jax.jit
def value_and_grads(x, decay):
    def loss(x, decay):
        spikes, v = lif(x, decay=decay, threshold=0.8)
        return (spikes @ jnp.arange(1.0, 1 + x.shape[-1])).sum() + (v * v).sum()

    return jax.value_and_grad(loss, (0, 1))(x, decay)


assert_close = partial(chex.assert_trees_all_close, rtol=1e-7, atol=1e-11)


def test_vmap_and_pmap_agree_with_jit(float64):
    x, decay = jnp.asarray(random(4, 8, 3)), jnp.asarray([0.3, 0.5, 0.9])
    value, (gx, gd) = value_and_grads(x, decay)
    values, (gxs, gds) = jax.jit(jax.vmap(value_and_grads, (1, None), (0, (1, 0))))(x, decay)
    assert_close((values.sum(), (gxs, gds.sum(0))), (value, (gx, gd)))

    devices = jax.pmap(value_and_grads, in_axes=(0, None), devices=first_devices(8))(
        jnp.moveaxis(x, 1, 0)[:, :, None], decay
    )
    assert_close(devices, (values, (jnp.moveaxis(gxs, 1, 0)[:, :, None], gds)))

    one = [value_and_grads(x, jnp.full((3,), d)) for d in (0.2, 0.7)]
    many = jax.jit(jax.vmap(value_and_grads, (None, 0)))(x, jnp.full((3, 2), jnp.array([0.2, 0.7])).T)
    assert_close(many, jax.tree.map(lambda *leaves: jnp.stack(leaves), *one))


@pytest.mark.parametrize(("timesteps", "checked"), [(LONG[0], True), (LONG[1], False)])
def test_shard_map_agrees(float64, checked, timesteps):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,), devices=first_devices(8))
    x, decay, batch = jnp.asarray(random(timesteps, 8, 3)), jnp.asarray([0.3, 0.5, 0.9]), P(None, "data")

    def local(x, decay):
        value, (gx, gd) = value_and_grads(x, decay)
        # Where shard_map tracks what is replicated, it has summed the gradient of the shared decay itself.
        return jax.lax.psum(value, "data"), (gx, gd if checked else jax.lax.psum(gd, "data"))

    sharded = jax.shard_map(local, mesh=mesh, in_specs=(batch, P()), out_specs=(P(), (batch, P())), check_vma=checked)
    assert_close(jax.jit(sharded)(x, decay), value_and_grads(x, decay))


@pytest.mark.parametrize(("timesteps", "kind"), [(LONG[0], AxisType.Auto), (LONG[1], AxisType.Explicit)])
def test_sharded_arrays_agree(float64, kind, timesteps):
    x, decay = jnp.asarray(random(timesteps, 8, 3)), jnp.asarray([0.3, 0.5, 0.9])
    expected = value_and_grads(x, decay)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,), devices=first_devices(8))
    with jax.set_mesh(mesh):
        sharded = jax.device_put(x, jax.NamedSharding(mesh, P(None, "data")))
        assert_close(value_and_grads(sharded, decay), expected)


def test_jvp_is_the_transpose_of_vjp(float64):
    x, dx, g, gv = jnp.asarray(random(6, 4)), random(6, 4, seed=1), random(6, 4, seed=2), random(4, seed=3)
    _, (ds, dv) = jax.jit(lambda x, dx: jax.jvp(lif, (x,), (dx,)))(x, jnp.asarray(dx))
    _, (gx,) = pullback(lif, (g, gv), x)
    np.testing.assert_allclose((ds * g).sum() + (dv * gv).sum(), (gx * dx).sum(), rtol=1e-12)


@pytest.mark.parametrize("timesteps", [4, *(pytest.param(timesteps, marks=pytest.mark.slow) for timesteps in LONG)])
def test_second_derivatives(float64, timesteps):
    """Against the equations written out, with the surrogate as derivative of each spike."""
    x, w = (jnp.asarray(random(timesteps, 3, seed=seed)) for seed in (0, 1))

    @jax.custom_jvp
    def fire(x):
        return (x >= 0).astype(x.dtype)

    @fire.defjvp
    def _(primals, tangents):
        return fire(*primals), sigmoid(4.0)(*primals) * tangents[0]

    def written_out(x, decay):
        v, spikes = jnp.zeros(3), []
        for current in x:
            h = decay * v + current
            spikes.append(fire(h - 1))
            v = (1 - spikes[-1]) * h
        return jnp.stack(spikes), v

    def curvature(run):
        def loss(x, decay):
            spikes, v = run(x, decay)
            return (spikes * w).sum() + (v * v).sum()

        def slope(x, decay):
            dx, ddecay = jax.grad(loss, (0, 1))(x, decay)
            return (dx * w).sum() + ddecay

        return jax.jit(jax.grad(slope, (0, 1)))(x, jnp.asarray(0.6))

    expected = curvature(written_out)
    assert_close(curvature(lambda x, decay: lif(x, decay=decay)), expected)
    assert np.abs(expected[0]).max() > 0.1


@pytest.mark.parametrize("timesteps", LONG)
def test_long_runs_have_no_forward_mode_and_say_so(timesteps):
    x = jnp.asarray(random(timesteps, 3))
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lif, (x,), (x,))


@pytest.mark.parametrize(
    ("timesteps", "loops"),
    [(UNROLL, set()), (UNROLL + 1, {"cuda", "tpu"}), (UNROLL_ON_CPU + 1, {"cpu", "cuda", "tpu"})],
)
def test_where_a_program_has_a_loop(timesteps, loops):
    def gradient(x):
        return jax.grad(lambda x: lif(x)[0].sum())(x)

    traced = jax.jit(gradient).trace(jnp.zeros((timesteps, 3)))
    programs = {p: traced.lower(lowering_platforms=(p,)).as_text() for p in ("cpu", "cuda", "tpu")}
    assert {platform for platform, program in programs.items() if "stablehlo.while" in program} == loops


def test_the_gradient_of_a_long_run_takes_the_place_of_the_membranes():
    """So that besides it, what the backward pass takes does not grow with T; by XLA's own account."""

    def temporary(timesteps):
        def gradient(x, dspikes):
            return jax.vjp(lambda x: lif(x)[0], x)[1](dspikes)

        x = jax.ShapeDtypeStruct((timesteps, 16, 256), jnp.float32)
        return fused_jit(gradient).lower(x, x).compile().memory_analysis().temp_size_in_bytes

    short, long = UNROLL_ON_CPU + 1, 256
    assert temporary(long) - temporary(short) < 0.01 * (long - short) * 16 * 256 * 4


SPIKES = jax.checkpoint_policies.save_only_these_names("spikes")


@pytest.mark.parametrize(("timesteps", "policy"), [(4, None), (LONG[0], SPIKES), (LONG[1], SPIKES)])
def test_rematerialisation_changes_nothing(float64, policy, timesteps):
    weights = [jnp.asarray(random(5, 5, seed=s, scale=0.8)) for s in range(2)]

    def network(weights, x):
        for w in weights:
            x, _ = lif(x @ w)
        return (x * x).sum()

    x = jnp.asarray(random(timesteps, 6, 5))
    rematerialised = jax.checkpoint(network, policy=policy)
    assert_close(*(jax.jit(jax.grad(f))(weights, x) for f in (rematerialised, network)))


def test_a_policy_can_keep_just_the_spikes(capsys):
    def layer(x):
        return lif(jnp.sin(x))[0].sum()

    two = jax.checkpoint(lambda x: layer(layer(x) * x), policy=SPIKES)
    jax.ad_checkpoint.print_saved_residuals(two, jnp.ones((4, 3)))
    kept = [line for line in capsys.readouterr().out.splitlines() if "from the argument" not in line]
    assert kept
    assert all("named 'spikes'" in line for line in kept)


@pytest.mark.slow  # compiles nested transformations for a quarter of a minute
@pytest.mark.parametrize("timesteps", [2, UNROLL_ON_CPU + 1])
def test_a_surrogate_may_close_over_traced_values(float64, timesteps):
    """Under every transformation the gradient is that of the same numbers written out, and no tracer leaks."""

    def loss(x, k, power):
        spikes, v = lif(x, surrogate=lambda u: k * jnp.exp(-(jnp.abs(u) ** power)), threshold=0.8)
        return (spikes @ jnp.arange(1.0, 4)).sum() + (v * v).sum()

    def scanned(x, k, power):
        return jax.lax.scan(lambda total, k: (total + loss(x, k, power), None), jnp.zeros(()), jnp.stack([k, k]))[0] / 2

    @jax.jit
    def gradients(x, k, power):
        plain = [jax.grad(f, (0, 1))(x, k, power) for f in (loss, jax.checkpoint(loss), scanned)]
        return [*plain, jax.vmap(jax.grad(loss, (0, 1)), (None, 0, None))(x, jnp.stack([k]), power)]

    x = jnp.asarray(random(timesteps, 3))
    expected = jax.jit(jax.grad(lambda x: loss(x, 0.7, 2)))(x)
    with jax.checking_leaks():
        for gradient, of_k in gradients(x, jnp.asarray(0.7), jnp.asarray(2)):
            np.testing.assert_allclose(gradient.reshape(x.shape), expected, rtol=1e-12)
            assert not of_k.any()  # a surrogate stands in the backward pass alone
