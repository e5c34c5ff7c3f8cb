"""Every method of the registry: one signature, sound values, the same answer on one device and many."""

import inspect
from functools import partial

import chex
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

    @jax.jit
    def run(s, t, y):
        found = METHODS["growing"](s, None, y, progress=0.5, lam=2.0), METHODS["imitate"](s, t, y)
        return found, (losses.ce_loss(s, y).mean(), losses.uniform_kd_loss(s, t).mean())

    s, t, y = problem()
    ((first, terms), (second, _)), (ce, kd) = run(s, t, y)
    assert terms.keys() == {"ce", "size", "wrong"}
    chex.assert_trees_all_close((first, second), (ce + (s**2).mean(), kd), rtol=1e-12)
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


def test_a_profile_names_each_term():
    for name, entry in METHODS.items():
        lowered = jax.jit(entry).lower(*problem(dtype="float32"))
        program, (_, terms) = lowered.as_text(debug_info=True), lowered.out_info
        assert [term for term in terms if f"/{term}/" not in program] == [], name


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


def test_the_ladder_is_made_of_its_losses(float64):
    """Each with its hyper-parameters; "seal" is `seal_kd_loss`."""
    s, t, y = problem()
    kd = {"temperature": 2.0}
    ela, sta = kd | {"top_k": 2, "correct_weight": 0.5}, kd | {"score_temperature": 0.4, "confidence_threshold": 0.3}
    options = {"none": {}, "mean_ce": {}, "uniform_kd": {"alpha": 0.3} | kd, "mean_kd": {"alpha": 0.3} | kd}
    options |= {"self_distillation": {"beta": 0.7} | kd, "ela": {"alpha": 0.3} | ela, "sta": {"beta": 0.7} | sta}
    options |= {"seal": {"alpha": 0.3, "beta": 0.7, "task": "mean"} | ela | sta}

    @jax.jit
    def both(s, t, y):
        ce, mean_ce = losses.ce_loss(s, y).mean(), losses.mean_ce_loss(s, y).mean()
        terms = {
            "none": {"ce": ce},
            "mean_ce": {"ce": mean_ce},
            "uniform_kd": {"ce": ce, "kd": losses.uniform_kd_loss(s, t, **kd).mean()},
            "mean_kd": {"ce": mean_ce, "kd": losses.mean_kd_loss(s, t, **kd).mean()},
            "self_distillation": {"ce": ce, "sd": losses.uniform_kd_loss(s, s.mean(0), **kd).mean()},
            "ela": {"ce": ce, "ela": losses.ela_loss(s, t, y, **ela).mean()},
            "sta": {"ce": ce, "sta": losses.sta_loss(s, **sta).mean()},
        }
        terms["seal"] = {"ce": mean_ce, "ela": terms["ela"]["ela"], "sta": terms["sta"]["sta"]}
        return {name: METHODS[name](s, t, y, **options[name]) for name in terms}, terms

    found, terms = both(s, t, y)
    weights = {"ce": 1.0, "kd": 0.3, "ela": 0.3, "sd": 0.7, "sta": 0.7}
    wrong = (s.argmax(axis=-1) != y).mean()
    expected = {
        name: (sum(weights[term] * value for term, value in parts.items()), parts | {"wrong": wrong})
        for name, parts in terms.items()
    }
    chex.assert_trees_all_close(found, expected, rtol=1e-12)
    direct = losses.seal_kd_loss(s, t, y, **options["seal"])
    np.testing.assert_allclose(found["seal"][0], direct.mean(), rtol=1e-12)


@pytest.mark.parametrize("name", ["mean_kd", "hta_kl", "dkd"])
def test_what_distils_the_mean_takes_that_of_a_teacher_with_timesteps(float64, name):
    s, t, y = problem()
    t = t + np.random.default_rng(1).normal(size=s.shape)
    program = jax.jit(lambda t: [METHODS[name](s, teacher, y)[0] for teacher in (t, t.mean(0), t[0])])
    value, of_mean, of_first = program(t)
    np.testing.assert_allclose(value, of_mean, rtol=1e-12)
    assert abs(value - of_first) > 1e-3


def test_the_teacher_gets_no_gradient():
    """But in the card's loss."""
    s, t, y = problem(dtype="float32")
    names = [name for name in METHODS if needs_teacher(name)]
    gradients = jax.jit(lambda t: {n: jax.grad(lambda t, n=n: METHODS[n](s, t, y)[0])(t) for n in names})(t)
    assert [name for name, gradient in gradients.items() if gradient.any()] == ["card"]


@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 3, 2)], ids=str)
def test_finite_at_huge_and_zero_logits(shape):
    s, t, y = problem(*shape, dtype="float32")
    program = jax.jit(every_method)
    for scale in (1e4, 0):
        chex.assert_tree_all_finite(program(*(np.float32(scale) * np.sign(x) for x in (s, t)), y))


@pytest.mark.slow
def test_a_teacher_may_have_timesteps(float64):
    """One that says the same at each is the same teacher."""
    s, t, y = problem()
    program = jax.jit(lambda s, t, y: {name: METHODS[name](s, t, y) for name in METHODS if needs_teacher(name)})
    once, tiled = program(s, t, y), program(s, np.stack([t] * 3), y)
    chex.assert_trees_all_close(tiled, once, rtol=1e-11, atol=1e-13)


@pytest.fixture(scope="module")
def whole():
    s, t, y = problem()
    with jax.enable_x64(True):
        return s, t, y, jax.jit(every_method)(s, t, y)


DEVICES = 8


def split(x, axis):
    return np.stack(np.split(x, DEVICES, axis=axis))


def agree(shards, expected):
    """Means over the axis are the whole; each device has the gradient of its own mean in its part of the logits."""
    for name, (values, terms, grads) in shards.items():
        value, whole_terms, grad = expected[name]
        np.testing.assert_allclose(values.mean(), value, rtol=1e-12, err_msg=name)
        for term, whole_term in whole_terms.items():
            np.testing.assert_allclose(terms[term].mean(), whole_term, rtol=1e-12, err_msg=f"{name} {term}")
        np.testing.assert_allclose(np.concatenate(grads, axis=1) / DEVICES, grad, atol=1e-12, err_msg=name)


def test_shard_map(whole, float64):
    s, t, y, expected = whole
    mesh = Mesh(np.array(first_devices(DEVICES)), ("data",))
    specs = P(None, "data"), P("data"), P("data")

    def one_device(s, t, y):
        return jax.tree.map(lambda x: x[None], every_method(s, t, y, axis_name="data"))

    mapped = jax.shard_map(one_device, mesh=mesh, in_specs=specs, out_specs=P("data"))
    agree(jax.jit(mapped)(s, t, y), expected)


def test_pmap(whole, float64):
    """One method that gathers the batch, one that does not; pmap takes no options that would compile it quickly."""
    s, t, y, expected = whole
    program = partial(every_method, names=("seal", "card"), axis_name="data")
    step = jax.pmap(program, axis_name="data", devices=first_devices(DEVICES))
    agree(step(split(s, 1), split(t, 0), split(y, 0)), expected)


def test_vmap(float64):
    """Over a stack of batches, each answer is that of its own batch."""
    batches = [problem(seed=seed) for seed in (1, 2)]
    program = lambda s, t, y: {name: method(s, t, y)[0] for name, method in METHODS.items()}  # noqa: E731
    stacked = jax.jit(jax.vmap(program))(*map(np.stack, zip(*batches, strict=True)))
    single = jax.jit(program)
    for i, batch in enumerate(batches):
        chex.assert_trees_all_close(jax.tree.map(lambda x, i=i: x[i], stacked), single(*batch), rtol=1e-12)
