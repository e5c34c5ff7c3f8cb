"""Every method of the registry: one signature, sound values, the same answer on one device and many."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from sealkd_jax import losses
from sealkd_jax.losses import METHODS, UNCONFIRMED, hyperparameters, method, needs_teacher
from tests.helpers.devices import first_devices


def problem(timesteps=3, batch=8, classes=5, scale=3.0, dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    s = (scale * rng.normal(size=(timesteps, batch, classes))).astype(dtype)
    t = (scale * rng.normal(size=(batch, classes))).astype(dtype)
    return s, t, rng.integers(0, classes, batch)


def every_method(s, t, y, names=tuple(METHODS), **common):
    """Value, terms and gradient of all methods, as one program."""

    def one(method):
        (value, terms), grad = jax.value_and_grad(partial(method, **common), has_aux=True)(s, t, y)
        return value, terms, grad

    return {name: one(METHODS[name]) for name in names}


def test_names():
    ladder = ["none", "mean_ce", "uniform_kd", "mean_kd", "self_distillation", "ela", "sta", "seal", "card"]
    assert set(ladder) <= set(METHODS)
    assert hyperparameters("uniform_kd") == {"alpha": 0.6, "temperature": 3.0}
    assert hyperparameters("seal") == {
        "alpha": 0.6,
        "beta": 0.15,
        "temperature": 3.0,
        "top_k": 1,
        "correct_weight": 1.0,
        "score_temperature": 1.0,
        "confidence_threshold": 0.0,
        "task": "timestep",
    }


@pytest.fixture
def registry():
    """What a test registers is gone after it."""
    methods, unconfirmed = METHODS.copy(), UNCONFIRMED.copy()
    yield
    METHODS.clear()
    METHODS.update(methods)
    UNCONFIRMED.intersection_update(unconfirmed)


def test_a_method_is_one_function(registry, float64):
    """It declares the arguments it uses and its hyper-parameters; the registry knows the rest from that."""

    @method(unconfirmed=True)
    def growing(student_logits, labels, *, progress, lam=0.25):
        return {"ce": (1.0, losses.ce_loss(student_logits, labels)), "size": (lam * progress, student_logits**2)}

    @method
    def imitate(student_logits, teacher_logits):
        return {"kd": (1.0, losses.uniform_kd_loss(student_logits, teacher_logits))}

    assert METHODS.keys() >= {"growing", "imitate"}
    assert "growing" in UNCONFIRMED and "imitate" not in UNCONFIRMED
    assert (needs_teacher("growing"), needs_teacher("imitate")) == (False, True)
    assert (hyperparameters("growing"), hyperparameters("imitate")) == ({"lam": 0.25}, {})

    s, t, y = problem()
    loss, terms = METHODS["growing"](s, None, y, progress=0.5, lam=2.0)
    assert terms.keys() == {"ce", "size", "wrong"}
    np.testing.assert_allclose(loss, losses.ce_loss(s, y).mean() + (s**2).mean(), rtol=1e-12)
    np.testing.assert_allclose(METHODS["imitate"](s, t, y)[0], losses.uniform_kd_loss(s, t).mean(), rtol=1e-12)
    with pytest.raises(TypeError, match="lamb"):
        METHODS["growing"](s, None, y, lamb=1.0)


def test_a_function_with_the_whole_signature_is_a_method_too(registry):
    def own(student_logits, teacher_logits, labels, *, progress=1.0, axis_name=None, alpha=0.6):
        return student_logits.sum(), {}

    METHODS["own"] = own
    assert needs_teacher("own") and hyperparameters("own") == {"alpha": 0.6}


def test_a_hyperparameter_needs_a_default(registry):
    with pytest.raises(TypeError, match="method late: hyper-parameter alpha: expected a default value"):

        @method
        def late(student_logits, labels, *, alpha):
            return {}


@pytest.mark.parametrize("name", METHODS)
def test_signature(name):
    """The CLI offers the keyword parameters: all have a default, a type and a name of their own."""
    parameters = list(inspect.signature(METHODS[name]).parameters.values())
    assert [p.name for p in parameters[:3]] == ["student_logits", "teacher_logits", "labels"]
    assert [p.name for p in parameters[3:5]] == ["progress", "axis_name"]
    assert all(p.kind is p.KEYWORD_ONLY and p.default is not p.empty for p in parameters[3:])
    assert all(p.annotation is not p.empty for p in parameters)


@pytest.mark.parametrize("name", METHODS)
def test_the_teacher_is_used_or_not(name):
    s, _, y = problem(dtype="float32")
    if needs_teacher(name):
        with pytest.raises(ValueError, match=r"teacher_logits: .* got None"):
            METHODS[name](s, None, y)
    else:
        result = jax.eval_shape(lambda s, y: METHODS[name](s, None, y)[0], s, y)
        assert result.shape == () and result.dtype == jnp.float32


def test_the_ladder_is_made_of_its_terms(float64, strict):
    s, t, y = problem()

    @jax.jit
    def both(s, t, y):
        totals = {name: METHODS[name](s, t, y) for name in ("none", "ela", "sta", "seal")}
        return totals, losses.ela_loss(s, t, y).mean(), losses.sta_loss(s).mean(), losses.ce_loss(s, y).mean()

    methods, ela, sta, ce = both(s, t, y)
    expected = {
        "none": ce,
        "ela": ce + 0.6 * ela,
        "sta": ce + 0.15 * sta,
        "seal": ce + 0.6 * ela + 0.15 * sta,
    }
    for name, total in expected.items():
        np.testing.assert_allclose(methods[name][0], total, rtol=1e-13)
        np.testing.assert_allclose(methods[name][1]["ce"], ce, rtol=1e-13)
    np.testing.assert_allclose(methods["seal"][1]["ela"], ela, rtol=1e-13)
    np.testing.assert_allclose(methods["seal"][1]["sta"], sta, rtol=1e-13)
    wrong = (s.argmax(axis=-1) != y).mean()
    for name, (_, terms) in methods.items():
        np.testing.assert_allclose(terms["wrong"], wrong, rtol=1e-13, err_msg=name)


@pytest.mark.parametrize("name", ["mean_ce", "self_distillation", "uniform_kd", "ela", "sta"])
def test_each_is_its_terms_with_its_options(float64, name):
    s, t, y = problem()
    ela = {"temperature": 2.0, "top_k": 2, "correct_weight": 0.5}
    sta = {"temperature": 2.0, "score_temperature": 0.4, "confidence_threshold": 0.3}
    ce = losses.ce_loss(s, y).mean()
    options, expected = {
        "mean_ce": ({}, losses.mean_ce_loss(s, y).mean()),
        "self_distillation": (
            {"beta": 0.7, "temperature": 2.0},
            ce + 0.7 * losses.uniform_kd_loss(s, s.mean(0), temperature=2.0).mean(),
        ),
        "uniform_kd": (
            {"alpha": 0.3, "temperature": 2.0},
            ce + 0.3 * losses.uniform_kd_loss(s, t, temperature=2.0).mean(),
        ),
        "ela": ({"alpha": 0.3} | ela, ce + 0.3 * losses.ela_loss(s, t, y, **ela).mean()),
        "sta": ({"beta": 0.3} | sta, ce + 0.3 * losses.sta_loss(s, **sta).mean()),
    }[name]
    np.testing.assert_allclose(METHODS[name](s, t, y, **options)[0], expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["mean_kd", "hta_kl", "dkd"])
def test_what_distils_the_mean_takes_that_of_a_teacher_with_timesteps(float64, name):
    s, t, y = problem()
    t = t + np.random.default_rng(1).normal(size=s.shape)
    value, of_mean, of_first = (METHODS[name](s, teacher, y)[0] for teacher in (t, t.mean(0), t[0]))
    np.testing.assert_allclose(value, of_mean, rtol=1e-12)
    assert abs(value - of_first) > 1e-3


@pytest.mark.parametrize("name", [name for name in METHODS if needs_teacher(name) and name != "card"])
def test_the_teacher_gets_no_gradient(name):
    s, t, y = problem(dtype="float32")
    assert not jax.jit(jax.grad(lambda t: METHODS[name](s, t, y)[0]))(t).any()


def test_seal_passes_its_options_on(float64):
    s, t, y = problem()
    options = {
        "alpha": 0.2,
        "beta": 0.7,
        "temperature": 2.0,
        "top_k": 2,
        "correct_weight": 0.5,
        "task": "mean",
    }
    options |= {"score_temperature": 0.5, "confidence_threshold": 0.2}
    value, _ = jax.jit(partial(METHODS["seal"], **options))(s, t, y)
    direct = jax.jit(partial(losses.seal_kd_loss, **options))(s, t, y)
    np.testing.assert_allclose(value, direct.mean(), rtol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 3, 2)], ids=str)
def test_finite_at_huge_and_zero_logits(dtype, shape, float64, strict):
    s, t, y = problem(*shape, dtype=dtype)
    program = jax.jit(every_method)
    for scale in (1e4, 0):
        logits = [(scale * np.sign(x)).astype(dtype) for x in (s, t)]
        for name, (value, terms, grad) in program(*logits, y).items():
            assert value.dtype == grad.dtype == dtype, name
            assert np.isfinite(value) and np.isfinite(grad).all(), name
            assert all(np.isfinite(term) for term in terms.values()), name


def test_a_teacher_may_have_timesteps(float64, strict):
    """One that says the same at each is the same teacher."""
    s, t, y = problem()
    program = jax.jit(lambda s, t, y: {name: METHODS[name](s, t, y) for name in METHODS if needs_teacher(name)})
    once, tiled = program(s, t, y), program(s, np.stack([t] * 3), y)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-11, atol=1e-13), tiled, once)


@pytest.fixture
def whole(float64):
    s, t, y = problem()
    return s, t, y, jax.jit(every_method)(s, t, y)


def split(x, axis):
    return np.stack(np.split(x, 4, axis=axis))


def agree(shards, expected):
    """Means over the axis are the whole; each device has the gradient of its own mean in its part of the logits."""
    for name, (values, terms, grads) in shards.items():
        value, whole_terms, grad = expected[name]
        np.testing.assert_allclose(values.mean(), value, rtol=1e-12, err_msg=name)
        for term, whole_term in whole_terms.items():
            np.testing.assert_allclose(terms[term].mean(), whole_term, rtol=1e-12, err_msg=f"{name} {term}")
        np.testing.assert_allclose(np.concatenate(grads, axis=1) / 4, grad, atol=1e-12, err_msg=name)


def test_shard_map(whole):
    s, t, y, expected = whole
    mesh = Mesh(np.array(first_devices(4)), ("data",))
    specs = P(None, "data"), P("data"), P("data")

    def one_device(s, t, y):
        return jax.tree.map(lambda x: x[None], every_method(s, t, y, axis_name="data"))

    mapped = jax.shard_map(one_device, mesh=mesh, in_specs=specs, out_specs=P("data"))
    agree(jax.jit(mapped)(s, t, y), expected)


def test_pmap(whole):
    """One method that gathers the batch, one that does not; pmap takes no options that would compile it quickly."""
    s, t, y, expected = whole
    program = partial(every_method, names=("seal", "card"), axis_name="data")
    step = jax.pmap(program, axis_name="data", devices=first_devices(4))
    agree(step(split(s, 1), split(t, 0), split(y, 0)), expected)


def test_vmap(float64):
    """Over a stack of batches, each answer is that of its own batch."""
    batches = [problem(seed=seed) for seed in (1, 2)]
    program = lambda s, t, y: {name: method(s, t, y)[0] for name, method in METHODS.items()}  # noqa: E731
    stacked = jax.jit(jax.vmap(program))(*map(np.stack, zip(*batches, strict=True)))
    single = jax.jit(program)
    for i, batch in enumerate(batches):
        for name, value in single(*batch).items():
            np.testing.assert_allclose(stacked[name][i], value, rtol=1e-12, err_msg=name)
