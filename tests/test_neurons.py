"""The neurons against the authors' (golden vectors), and against a NumPy loop with a hand-written backward pass."""

from functools import partial
from operator import itemgetter
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from sealkd_jax.neurons import UNROLL, UNROLL_ON_CPU, iaf, lif
from sealkd_jax.surrogates import arctan, sigmoid, triangle
from tests.helpers.gradients import pullback, random

GOLDEN = sorted((Path(__file__).parent / "golden").glob("lif_*.npz"))
RESETS = [{}, {"v_reset": None}, {"v_reset": 0.25}, {"v_reset": -0.5, "detach_reset": True}]
RESETS += [{"v_reset": None, "detach_reset": True}]
LEAKS = [{"decay": 0.5}, {"decay": 0.8}, {"decay": 0.7, "decay_input": True}]
LEARNED = [{"decay_input": True}, {"v_reset": None}, {"v_reset": 0.2}]


def reference(
    x,
    g,
    v=None,
    gv=0.0,
    *,
    decay=0.5,
    threshold=1.0,
    v_reset=0.0,
    detach_reset=False,
    decay_input=False,
    slope=4.0,
):
    """One neuron per element in NumPy. `g`, `gv`: cotangents of the spikes and of the final membrane.

    Returns the spikes, the final membrane, and the gradients of currents, initial membrane, decay and
    threshold (the last two per element). `decay=None`: no leak (IAF).
    """
    r = 0.0 if v_reset is None else v_reset
    leak = 0.0 if decay is None else 1 - decay
    v = np.full(x.shape[1:], r) if v is None else v
    before, charged, spikes = [], [], []
    for current in x:
        h = v + leak * (current - (v - r)) if decay_input else v - leak * (v - r) + current
        spike = np.where(h - threshold >= 0, 1.0, 0.0)
        before, charged, spikes = [*before, v], [*charged, h], [*spikes, spike]
        v = h - spike * threshold if v_reset is None else (1 - spike) * h + spike * v_reset
    gv = np.broadcast_to(gv, v.shape)
    gx, g_decay, g_threshold = np.zeros_like(x), np.zeros_like(v), np.zeros_like(v)
    for i in reversed(range(len(x))):
        h, spike = charged[i], spikes[i]
        s = 1 / (1 + np.exp(-slope * (h - threshold)))
        gs = g[i] + (0 if detach_reset else gv * (-threshold if v_reset is None else v_reset - h))
        gh = gs * slope * s * (1 - s) + gv * (1 if v_reset is None else 1 - spike)
        g_threshold = g_threshold - gs * slope * s * (1 - s) - (gv * spike if v_reset is None else 0)
        g_decay = g_decay + gh * ((before[i] - r) - (x[i] if decay_input else 0))
        gx[i] = gh * (leak if decay_input else 1)
        gv = gh * (1 - leak)
    return np.stack(spikes), v, gx, gv, g_decay, g_threshold


# --- the equations ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", GOLDEN, ids=lambda p: p.stem)
def test_is_the_authors_neuron(float64, path):
    z = np.load(path)
    kwargs = {
        "threshold": float(z["v_threshold"]),
        "v_reset": None if z["soft_reset"] else float(z["v_reset"]),
        "detach_reset": bool(z["detach_reset"]),
        "surrogate": sigmoid(float(z["surrogate_alpha"])),
    }
    if z["kind"] == "lif":
        kwargs |= {"decay": 1 - 1 / float(z["tau"]), "decay_input": bool(z["decay_input"])}
    neuron = lif if z["kind"] == "lif" else iaf
    x = jnp.asarray(z["current"])

    (spikes, v), (grad,) = pullback(lambda x: neuron(x, **kwargs), (z["cotangent"], z["v_after_reset"][-1] * 0), x)
    np.testing.assert_array_equal(spikes, z["spikes"])
    np.testing.assert_allclose(grad, z["grad_current"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(v, z["v_after_reset"][-1], rtol=0, atol=1e-12)

    @jax.jit
    def step(x, v):  # a threshold out of reach shows the membrane before the reset
        return neuron(x[None], v, **kwargs | {"threshold": 1e9})[1], neuron(x[None], v, **kwargs)[1]

    v = jnp.full(x.shape[1:], kwargs["v_reset"] or 0.0)
    for i in range(len(x)):
        before, v = step(x[i], v)
        np.testing.assert_allclose(before, z["v_before_reset"][i], rtol=0, atol=1e-12)
        np.testing.assert_allclose(v, z["v_after_reset"][i], rtol=0, atol=1e-12)


def test_golden_vectors_are_there():
    assert len(GOLDEN) == 9


@pytest.mark.parametrize(
    ("leak", "reset"),
    [(LEAKS[2], reset) for reset in RESETS] + [(leak, RESETS[3]) for leak in (*LEAKS[:2], None)],
    ids=repr,
)
def test_equals_a_loop_with_a_hand_written_backward_pass(float64, leak, reset):
    x, v, g, gv = random(6, 4, 5), random(4, 5, seed=1), random(6, 4, 5, seed=2), random(4, 5, seed=3)
    kwargs = reset | {"threshold": 0.9, "surrogate": sigmoid(3.0)}
    neuron = iaf if leak is None else lif
    outputs, grads = pullback(
        lambda x, v: neuron(x, v, **kwargs, **(leak or {})), (g, gv), jnp.asarray(x), jnp.asarray(v)
    )
    expected = reference(x, g, v, gv, **reset, **(leak or {"decay": None}), threshold=0.9, slope=3.0)
    chex.assert_trees_all_close((*outputs, *grads), expected[:4], atol=1e-12)
    assert 0.02 < outputs[0].mean() < 0.98


@pytest.mark.parametrize("leak", LEAKS[1:], ids=repr)
@pytest.mark.parametrize("timesteps", [UNROLL + 1, UNROLL_ON_CPU + 1, 300])
def test_long_sequences(float64, timesteps, leak):
    x, g = random(timesteps, 7), random(timesteps, 7, seed=1)
    outputs, grads = pullback(lambda x: lif(x, **leak), (g, np.zeros(7)), jnp.asarray(x))
    spikes, v, gx, *_ = reference(x, g, **leak)
    np.testing.assert_array_equal(outputs[0], spikes)
    chex.assert_trees_all_close((outputs[1], grads[0]), (v, gx), atol=1e-10)


@pytest.mark.parametrize("timesteps", [UNROLL + 1, UNROLL_ON_CPU + 1])
def test_a_long_sequence_gives_the_membrane_that_it_starts_from_a_gradient(float64, timesteps):
    x, v = random(timesteps, 7), random(7, seed=1)
    g, gv = random(timesteps, 7, seed=2), random(7, seed=3)
    outputs, grads = pullback(lambda x, v: lif(x, v), (g, gv), jnp.asarray(x), jnp.asarray(v))
    chex.assert_trees_all_close((*outputs, *grads), reference(x, g, v, gv)[:4], atol=1e-11)


def test_a_reset_that_is_learned_has_a_gradient(float64):
    """It is rest, from which a membrane starts and to which it leaks, and what a spike leaves behind."""

    def final(reset, currents):
        return lif(currents, v_reset=reset, threshold=50.0)[1].sum()  # far from all membranes: no surrogate

    gradient = jax.jit(jax.grad(final))
    silent = gradient(jnp.array([0.25]), jnp.array([[0.1], [0.1]]))  # v - r does not depend on r
    np.testing.assert_allclose(silent, [1.0], rtol=1e-12)
    fired = gradient(jnp.array([0.25]), jnp.array([[500.0], [0.1]]))
    np.testing.assert_allclose(fired, [1.0], rtol=1e-12)


BAD = [  # error, message, arguments of lif
    (ValueError, "currents: expected an array of shape .*, got None", {"currents": None}),
    (ValueError, "currents: expected shape", {"currents": jnp.zeros(())}),
    (ValueError, "currents: expected shape", {"currents": jnp.zeros((0, 3))}),
    (TypeError, "currents: expected a floating dtype, got int32", {"currents": jnp.zeros((4, 3), "int32")}),
    (TypeError, "currents: expected a floating dtype, got complex64", {"currents": jnp.zeros((4, 3), "complex64")}),
    (ValueError, r"v: expected the shape of one timestep of currents, \(3,\), got \(1,\)", {"v": jnp.zeros(1)}),
    (ValueError, r"v: expected .* got \(4, 3\)", {"v": jnp.zeros((4, 3))}),
    (TypeError, "v: expected a floating dtype, got int32", {"v": jnp.zeros(3, "int32")}),
    (ValueError, "threshold: expected a finite number above 0 and", {"threshold": 0.0}),
    (ValueError, "threshold: expected a finite number above 0 and", {"threshold": np.array([1.0, -1.0, 1.0])}),
    (ValueError, "threshold: expected a finite number above 0 and", {"threshold": 0.5, "v_reset": 0.5}),
    (
        ValueError,
        "threshold: expected a finite number above 0 and v_reset",
        {"threshold": float("nan"), "v_reset": None},
    ),
    (ValueError, r"threshold: expected an array that broadcasts .* got \(2,\)", {"threshold": jnp.ones(2)}),
    (ValueError, r"decay: expected a number in \[0, 1\], got -0.1", {"decay": -0.1}),
    (ValueError, r"decay: expected a number in \[0, 1\], got nan", {"decay": float("nan")}),
    (ValueError, r"decay: expected a number in \[0, 1\]", {"decay": jnp.array([0.5, 2.0, 0.5])}),
    (
        ValueError,
        r"decay: expected an array that broadcasts against one timestep, \(3,\), got \(4, 3\)",
        {"decay": np.ones((4, 3))},
    ),
    (ValueError, r"decay: expected an array that broadcasts .* got \(2,\)", {"decay": jnp.ones(2)}),
    # What people write who know another library: the message says what to write here.
    (ValueError, "decay: .*, got 2.0; for a time constant tau, .* write decay=1 - 1/tau", {"decay": 2.0}),
    (ValueError, r"decay: expected a number in \[0, 1\], got '0.5'; for a time constant tau", {"decay": "0.5"}),
    (ValueError, r"decay: expected a number in \[0, 1\], got None", {"decay": None}),
    (ValueError, "threshold: expected a finite number .*, got '1'", {"threshold": "1"}),
    (ValueError, "threshold: expected a finite number .*, got inf", {"threshold": float("inf"), "v_reset": None}),
    (ValueError, "v_reset: expected a finite number, or None, got '0'", {"v_reset": "0"}),
    (ValueError, "v_reset: expected a finite number, or None, got nan", {"v_reset": float("nan")}),
    (TypeError, r"got int32; write currents.astype\('float32'\)", {"currents": jnp.ones((4, 3), "int32")}),
    (TypeError, r"got bool; write currents.astype\('float32'\)", {"currents": jnp.ones((4, 3), bool)}),
    (TypeError, r"got the class arctan; call it: surrogate=surrogates.arctan\(\)", {"surrogate": arctan}),
    (TypeError, r"got 'atan'; write surrogate=surrogates.arctan\(\)", {"surrogate": "atan"}),
    (TypeError, r"got 4.0; write surrogate=surrogates.sigmoid\(\)", {"surrogate": 4.0}),
    (TypeError, r"got None; write surrogate=surrogates.sigmoid\(\)", {"surrogate": None}),
    (TypeError, "surrogate: expected a function x -> derivative .* raises ValueError", {"surrogate": partial(arctan)}),
    (TypeError, r"surrogate: .* keeps x, float32 \[3\]; .* raises", {"surrogate": itemgetter(slice(2))}),
]

HAND = [  # neuron, currents, arguments, spikes, final membrane
    (lif, [0.75, 0.75, 0.75], {}, [0, 1, 0], 0.75),  # h = 0.75, 1.125, 0.75
    (lif, [2.5, 0.0, 0.5], {"v_reset": None}, [1, 0, 0], 0.875),  # h = 2.5, 0.75, 0.875
    (lif, [2.5, 0.0, 0.5], {"v_reset": 0.5}, [1, 0, 1], 0.5),  # starts at 0.5: h = 3, 0.5, 1
    (lif, [2.0, 3.0], {"decay_input": True}, [1, 1], 0),  # h = 1, 1.5
    (iaf, [0.75, 0.75, 0.75], {"v_reset": None}, [0, 1, 1], 0.25),  # h = 0.75, 1.5, 1.25
    (lif, [1.0, 1.0], {"v": -4.0, "decay": 0}, [1, 1], 0),  # no memory at all
    (lif, [0.5, 0.5], {"decay": 1}, [0, 1], 0),  # no leak at all
]


class EveryMode(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True, with_device=True, with_pmap=True)
    def test_hand_values(self):
        def run(currents):
            return [neuron(x, **arguments) for (neuron, _, arguments, *_), x in zip(HAND, currents, strict=True)]

        found = self.variant(run)([np.array(currents, "float32") for _, currents, *_ in HAND])
        expected = [(np.array(spikes, "float32"), np.float32(v)) for *_, spikes, v in HAND]
        chex.assert_trees_all_equal(found, expected)

    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.parameters(*BAD)
    def test_bad_input_is_named(self, error, message, change):
        arguments = {"currents": np.ones((4, 3), "float32")} | change
        for neuron in [lif] if "decay" in change else [lif, iaf]:
            with pytest.raises(error, match=message):
                self.variant(partial(neuron, **arguments))()


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_equality_fires(float64, dtype):
    below = (
        jnp.nextafter(jnp.asarray(1, "float64"), 0).astype(dtype) if dtype == "float64" else jnp.asarray(0.99, dtype)
    )
    assert lif(jnp.stack([jnp.asarray(1, dtype), below]), decay=0.0)[0].tolist() == [1, 0]


@pytest.mark.parametrize("surrogate", [sigmoid(4.0), arctan(), triangle(), lambda x: jnp.exp(-x * x)])
def test_the_surrogate_is_the_derivative_of_the_spike(float64, surrogate):
    h = jnp.asarray(random(50))
    for derivative in (jax.grad, jax.jacfwd):
        spike = derivative(lambda x: lif(x[None], threshold=0.7, surrogate=surrogate)[0][0])
        grad = jax.jit(jax.vmap(spike))(h)
        np.testing.assert_allclose(grad, surrogate(h - 0.7), atol=1e-15)


@pytest.mark.parametrize("neuron", [lif, iaf])
def test_a_profile_names_the_neuron(neuron):
    assert f"/{neuron.__name__}/" in jax.jit(neuron).lower(np.ones((4, 3), "float32")).as_text(debug_info=True)


# --- learnable parameters, state ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timesteps", "shape", "kwargs"),
    [(6, (4, 1), kwargs) for kwargs in LEARNED]
    + [(T, shape, {"v_reset": 0.2}) for T, shape in ((6, ()), (UNROLL + 1, (5,)), (UNROLL_ON_CPU + 1, (5,)))],
)
def test_gradient_of_a_learnable_decay_and_threshold(float64, timesteps, shape, kwargs):
    x, g, gv = random(timesteps, 4, 5), random(timesteps, 4, 5, seed=1), random(4, 5, seed=2)
    decay, threshold = (np.random.default_rng(seed).uniform(0.4, 0.9, shape) for seed in (3, 4))
    outputs, grads = pullback(
        lambda d, t: lif(jnp.asarray(x), decay=d, threshold=t, **kwargs),
        (g, gv),
        jnp.asarray(decay),
        jnp.asarray(threshold),
    )
    spikes, v, _, _, g_decay, g_threshold = reference(x, g, gv=gv, decay=decay, threshold=threshold, **kwargs)
    np.testing.assert_array_equal(outputs[0], spikes)
    np.testing.assert_allclose(outputs[1], v, atol=1e-12)
    for grad, per_element in zip(grads, (g_decay, g_threshold), strict=True):
        padded = (1,) * (2 - len(shape)) + shape
        summed = per_element.sum(tuple(i for i, n in enumerate(padded) if n == 1), keepdims=True).reshape(shape)
        np.testing.assert_allclose(grad, summed, atol=1e-11)


def test_gradient_of_decay_below_threshold_is_the_finite_difference(float64):
    x = jnp.abs(jnp.asarray(random(5, 3, scale=0.2)))

    def membrane(decay):
        return lif(x, decay=decay, threshold=100.0)[1].sum()

    step, membrane = 1e-6, jax.jit(membrane)
    slope = (membrane(0.6 + step) - membrane(0.6 - step)) / (2 * step)
    np.testing.assert_allclose(jax.jit(jax.grad(membrane))(0.6), slope, rtol=1e-8)


@pytest.mark.parametrize("reset", RESETS, ids=repr)
def test_two_halves_are_the_whole(float64, reset):
    x, g, gv = jnp.asarray(random(6, 4)), random(6, 4, seed=1), random(4, seed=2)

    def halves(x):
        first, v = lif(x[:2], **reset)
        second, v = lif(x[2:], v, **reset)
        return jnp.concatenate([first, second]), v

    whole = pullback(lambda x: lif(x, **reset), (g, gv), x)
    chex.assert_trees_all_close(pullback(halves, (g, gv), x), whole, atol=1e-14)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_currents_have_a_float32_membrane(dtype):
    x = jnp.asarray(random(6, 40), dtype)
    g = jnp.asarray(random(6, 40, seed=1), dtype)
    decay = jnp.full((40,), 0.6, dtype)
    (spikes, v), (grad,) = pullback(lambda x: lif(x, decay=decay), (g, np.zeros(40)), x)
    assert (spikes.dtype, v.dtype, grad.dtype) == (x.dtype, jnp.float32, x.dtype)
    exact, v32 = jax.jit(lambda x, decay: lif(x, decay=decay))(x.astype(jnp.float32), decay.astype(jnp.float32))
    np.testing.assert_array_equal(spikes.astype(jnp.float32), exact)
    np.testing.assert_allclose(v, v32, rtol=1e-6)
    assert jax.eval_shape(lif, x, v.astype(dtype))[1].dtype == jnp.float32


@pytest.mark.parametrize(
    ("shape", "dtype", "reset"),
    [((1,), "float32", 0.0), ((3, 0, 2), "float32", None), ((4, 2), "bfloat16", None), ((5, 2, 1, 2), "bfloat16", 0.0)],
)
def test_any_shape(shape, dtype, reset):
    x = jnp.asarray(random(*shape), dtype)
    spikes, v = jax.jit(lambda x: lif(x, v_reset=reset))(x)
    assert (spikes.shape, spikes.dtype, v.shape, v.dtype) == (x.shape, x.dtype, x.shape[1:], jnp.float32)
    x = np.asarray(x, "float32")
    expected, v_expected, *_ = reference(x, x, v_reset=reset)
    np.testing.assert_array_equal(np.asarray(spikes, "float32"), expected)
    np.testing.assert_allclose(v, v_expected, atol=1e-6)
