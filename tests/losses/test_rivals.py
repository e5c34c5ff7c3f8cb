"""The losses of other papers: against vectors of the authors' code, a naive reading of the formulas, their edges."""

from functools import partial
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from sealkd_jax.losses import METHODS, UNCONFIRMED
from tests.losses import reference

GOLDEN = Path(__file__).parents[1] / "golden" / "rivals"
FILES = sorted(
    path for name in ("tet", "uniform_kd", "mean_kd", "twkd", "tks", "dkd") for path in GOLDEN.glob(f"{name}_*")
)
HYPERPARAMETERS = ("alpha", "beta", "temperature", "lam", "phi", "progress")
OPTIONS = {"twkd_code": {"target": "correct_mean"}, "twkd_paper": {"target": "ensemble"}}
NAMES = ("tet", "twkd", "tser", "hta_kl", "tks", "dkd")


def problem(timesteps=4, batch=6, classes=5, seed=0):
    rng = np.random.default_rng(seed)
    s, t = 3 * rng.normal(size=(2, timesteps, batch, classes))
    return s, t[0], rng.integers(0, classes, batch)


def run(name, *problem, **options):
    return jax.jit(partial(METHODS[name], **options))(*problem)


def test_the_vectors_are_there():
    assert len(FILES) == 33


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_golden(path, float64):
    with np.load(path) as file:
        golden = {key: file[key] for key in file}
    stem = path.stem
    name = next(name for name in METHODS if stem.startswith(f"{name}_"))
    options = {key: float(golden[key]) for key in HYPERPARAMETERS if key in golden}
    if name == "dkd":
        options |= {"warmup": 0.2, "progress": 0.2 * float(golden["warmup_factor"])}
    options |= next((extra for start, extra in OPTIONS.items() if stem.startswith(start)), {})

    s, t, y = (golden[key] for key in ("student", "teacher", "labels"))
    loss = jax.jit(jax.value_and_grad(lambda s: METHODS[name](s, t, y, **options)[0]))
    value, grad = loss(s)
    np.testing.assert_allclose(value, golden["loss"], rtol=1e-9)
    np.testing.assert_allclose(grad, golden["grad"], rtol=0, atol=1e-9)


# The formulas read naively, one example at a time.


def softmax(x):
    return np.exp(reference.log_softmax(x))


def tser(s, t, y, lam, gamma, temperature, ce_temperature):
    entropies = [-(softmax(step / temperature) * reference.log_softmax(step / temperature)).sum() for step in s]
    ce = reference.ce(s / ce_temperature, y).mean()
    kd = np.mean([reference.kd(step, t[0], temperature) for step in s])
    return (1 - lam) * ce + lam * kd - gamma * np.mean(entropies)


def hta_kl(s, t, y, lam, delta, temperature, head_inclusive):
    p, q = softmax(t[0] / temperature), softmax(s.mean(axis=0) / temperature)
    head, cumulated = [], 0.0
    for c in sorted(range(len(p)), key=lambda c: -p[c]):
        if (cumulated if head_inclusive else cumulated + p[c]) < delta:
            head.append(c)
        cumulated += p[c]
    gap = np.abs(p - q)
    weight = gap[head].sum() / gap.sum()
    forward, reverse = (p * np.log(p / q)).sum(), (q * np.log(q / p)).sum()
    divergence = temperature**2 * (weight * forward + (1 - weight) * reverse)
    return reference.ce(s.mean(axis=0, keepdims=True), y)[0] + lam * divergence


@pytest.mark.parametrize("ce_temperature", [1.0, 2.5])
def test_tser(ce_temperature, float64):
    s, t, y = problem()
    options = {"lam": 0.3, "gamma": 0.2, "temperature": 2.0, "ce_temperature": ce_temperature}
    expected = reference.over_batch(tser, s, t[None], y, **options).mean()
    np.testing.assert_allclose(run("tser", s, t, y, **options)[0], expected, rtol=1e-12)


@pytest.mark.parametrize("head_inclusive", [False, True])
@pytest.mark.parametrize("delta", [0.3, 0.5, 0.9])
def test_hta_kl(head_inclusive, delta, float64):
    s, t, y = problem()
    options = {"lam": 0.7, "delta": delta, "temperature": 2.0, "head_inclusive": head_inclusive}
    expected = reference.over_batch(hta_kl, s, t[None], y, **options).mean()
    np.testing.assert_allclose(run("hta_kl", s, t, y, **options)[0], expected, rtol=1e-12)


def test_the_weights_of_hta_kl_have_no_gradient(float64):
    s, t, y = problem()
    tau, delta = 2.0, 0.5
    p, q = softmax_rows(t / tau), softmax_rows(s.mean(axis=0) / tau)
    weights = []
    for one, gap in zip(p, np.abs(p - q), strict=True):
        order = np.argsort(-one)
        weights.append(gap[order[np.cumsum(one[order]) < delta]].sum() / gap.sum())
    weight = np.array(weights)  # constant

    def with_constants(s):
        log_q = jax.nn.log_softmax(s.mean(axis=0) / tau)
        forward, reverse = (p * (np.log(p) - log_q)).sum(-1), (jnp.exp(log_q) * (log_q - np.log(p))).sum(-1)
        return tau**2 * (weight * forward + (1 - weight) * reverse).mean()

    of_method = lambda s: METHODS["hta_kl"](s, t, y, delta=delta, temperature=tau)[1]["hta"]  # noqa: E731
    assert weight.max() > 0
    chex.assert_trees_all_close(
        *jax.jit(lambda s: (jax.grad(of_method)(s), jax.grad(with_constants)(s)))(s), atol=1e-13
    )


def test_hta_kl_of_a_confident_teacher_is_the_reverse_divergence(float64):
    """Its first class alone reaches δ: without it the head is empty, with it the head is that class."""
    s, _, y = problem()
    t = 20 * np.eye(s.shape[-1])[y]
    _, strict_terms = run("hta_kl", s, t, y, temperature=1.0)
    p, q = softmax_rows(t), softmax_rows(s.mean(axis=0))
    np.testing.assert_allclose(strict_terms["hta"], (q * np.log(q / p)).sum(axis=-1).mean(), rtol=1e-12)
    _, inclusive_terms = run("hta_kl", s, t, y, temperature=1.0, head_inclusive=True)
    weight = np.abs(p - q)[np.arange(len(y)), y] / np.abs(p - q).sum(axis=-1)
    forward, reverse = (p * np.log(p / q)).sum(axis=-1), (q * np.log(q / p)).sum(axis=-1)
    np.testing.assert_allclose(inclusive_terms["hta"], (weight * forward + (1 - weight) * reverse).mean(), rtol=1e-12)


def softmax_rows(x):
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


def test_hta_kl_task(float64):
    s, t, y = problem()
    ce = reference.over_batch(reference.ce, s, y).mean()
    np.testing.assert_allclose(run("hta_kl", s, t, y, task="timestep")[1]["ce"], ce, rtol=1e-12)


def test_twkd_without_a_correct_timestep_pulls_to_uniform(float64):
    s, t, _ = problem()
    y = s.mean(axis=0).argmin(axis=-1)
    s[:, np.arange(len(y)), y] = s.min(axis=-1) - 1
    _, terms = run("twkd", s, t, y)
    uniform = reference.over_batch(lambda s: np.array([reference.kd(step, 0 * step, 3.0) for step in s]), s)
    np.testing.assert_allclose(terms["sd"], uniform.mean(), rtol=1e-12)


def test_twkd_of_one_timestep(float64):
    """It is its own ensemble."""
    s, t, y = problem(timesteps=1)
    np.testing.assert_allclose(run("twkd", s, t, y, target="ensemble")[1]["sd"], 0, atol=1e-14)


def test_tks_detached_has_the_same_value_and_no_gradient_through_its_target(float64):
    """With the target constant, d/ds = τ² (1 − w) (softmax(s) − softmax(g/τ)) / (T B), plus that of the task loss."""
    s, _, y = problem()
    free, detached = (
        jax.jit(jax.value_and_grad(lambda s, d=d: METHODS["tks"](s, None, y, detach_target=d)[0]))(s)
        for d in (False, True)
    )
    np.testing.assert_allclose(free[0], detached[0], rtol=1e-14)
    correct = s.argmax(axis=-1) == y
    target = softmax_rows((s * correct[..., None]).sum(axis=0) / 3)
    task = (softmax_rows(s.mean(axis=0)) - np.eye(s.shape[-1])[y]) / s[..., 0].size
    expected = 9 * 0.7 * (softmax_rows(s) - target) / s[..., 0].size + 0.3 * task
    np.testing.assert_allclose(detached[1], expected, atol=1e-14)
    assert np.abs(free[1] - detached[1]).max() > 1e-2


@pytest.mark.parametrize(
    ("progress", "warmup", "factor"), [(0, 0.5, 0), (0.1, 0.5, 0.2), (0.7, 0.5, 1), (0, 0, 1), (0.3, 1, 0.3)]
)
def test_dkd_warms_up(progress, warmup, factor, float64):
    s, t, y = problem()
    loss = jax.jit(lambda progress: METHODS["dkd"](s, t, y, progress=progress, warmup=warmup))
    value, terms = loss(float(progress))
    np.testing.assert_allclose(value, terms["ce"] + factor * (terms["tckd"] + 8 * terms["nckd"]), rtol=1e-12)


def test_dkd_with_two_classes_has_nothing_among_the_others(float64):
    s, t, y = problem(classes=2)
    assert run("dkd", s, t, y)[1]["nckd"] == 0


def test_dkd_ignores_what_the_label_does_among_the_others(float64):
    s, t, y = problem()
    changed = s.copy()
    changed[:, np.arange(len(y)), y] += 7
    loss = jax.jit(METHODS["dkd"])
    np.testing.assert_allclose(loss(changed, t, y)[1]["nckd"], loss(s, t, y)[1]["nckd"], rtol=1e-12)


def test_a_student_that_equals_its_teacher_has_nothing_to_learn(float64):
    _, t, y = problem()
    s = np.stack([t] * 4)
    terms = jax.jit(lambda s, t, y: {name: METHODS[name](s, t, y)[1] for name in NAMES})(s, t, y)
    for name, term in (("twkd", "kd"), ("tser", "kd"), ("hta_kl", "hta"), ("dkd", "tckd"), ("dkd", "nckd")):
        np.testing.assert_allclose(terms[name][term], 0, atol=1e-13, err_msg=name)


def test_permuting_the_classes_changes_nothing(float64):
    s, t, y = problem()
    order = np.random.default_rng(1).permutation(s.shape[-1])
    everything = jax.jit(lambda s, t, y: {name: METHODS[name](s, t, y)[0] for name in NAMES})
    before, after = everything(s, t, y), everything(s[..., order], t[..., order], np.argsort(order)[y])
    chex.assert_trees_all_close(after, before, rtol=1e-12)


def test_numerical_gradients(float64):
    """Of the losses without a detached part; the weights of HTA-KL and the target of TWKD are detached."""
    s, t, y = problem(timesteps=2, batch=3)
    everything = jax.jit(lambda s: [METHODS[name](s, t, y)[0] for name in ("tet", "tser", "tks", "dkd")])
    check_grads(everything, (jnp.asarray(s),), order=1, modes=["rev"], rtol=1e-7)


def test_progress_and_shares_are_checked():
    s, t, y = problem()
    for name in ("tks", "dkd"):
        with pytest.raises(ValueError, match=r"progress: expected a number in \[0, 1\], got 1\.5"):
            jax.eval_shape(partial(METHODS[name], progress=1.5), s, t, y)
    with pytest.raises(ValueError, match=r"target: expected one of 'correct_mean', 'ensemble', got 'mean'"):
        jax.eval_shape(partial(METHODS["twkd"], target="mean"), s, t, y)


def test_unconfirmed_formulas_say_so():
    assert set(METHODS) > UNCONFIRMED
    for name in NAMES:
        first_line = METHODS[name].__doc__.split("\n")[0]
        assert ("(unconfirmed)" in first_line) == (name in UNCONFIRMED)
