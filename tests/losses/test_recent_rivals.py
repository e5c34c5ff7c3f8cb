"""More losses of other papers: against vectors of the authors' code, and at their edges."""

from functools import partial
from pathlib import Path

import chex
import jax
import numpy as np
import pytest

from sealkd_jax import losses
from sealkd_jax.losses import METHODS, hyperparameters
from tests.losses.test_rivals import problem

NAMES = ("nld", "esd", "logit_std_kd", "dist", "hsd", "wsld")
GOLDEN = Path(__file__).parents[1] / "golden" / "rivals"
FILES = sorted(path for name in NAMES for path in GOLDEN.glob(f"{name}_*.npz"))


def run(name, *problem, **options):
    return jax.jit(lambda *problem: METHODS[name](*problem, **options)[1])(*problem)


def test_the_vectors_are_there():
    assert len(FILES) == 32


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_golden(path, float64):
    name = next(name for name in NAMES if path.stem.startswith(f"{name}_"))
    with np.load(path) as file:
        golden = {key: file[key] for key in file}
    options = {key: float(golden[key]) for key in hyperparameters(name) if key in golden}
    options |= {"noise": golden["noise"]} if "noise" in golden else {}
    options |= {"on": path.stem.removeprefix(f"{name}_").split("_")[0]} if "on" in hyperparameters(name) else {}
    s, t, y = (golden[key] for key in ("student", "teacher", "labels"))
    value, grad = jax.jit(jax.value_and_grad(lambda s: METHODS[name](s, t, y, **options)[0]))(s)
    np.testing.assert_allclose(value, golden["loss"], rtol=1e-9)
    scale = np.abs(golden["grad"]).max()
    np.testing.assert_allclose(grad, golden["grad"], rtol=0, atol=1e-9 * max(scale, 1e-3))


def test_nld_without_noise_is_plain_distillation(float64):
    s, t, y = problem()
    program = jax.jit(
        lambda s: jax.value_and_grad(lambda s: METHODS["nld"](s, t, y, mixture=1.0, temperature=4.0)[0])(s)
    )
    plain = jax.jit(jax.value_and_grad(lambda s: METHODS["mean_kd"](s, t, y, temperature=4.0)[0]))
    with jax.debug_nans(True):
        chex.assert_trees_all_close(program(s), plain(s), rtol=1e-12)


def test_the_noise_of_nld_follows_from_the_key(float64):
    s, t, y = problem()
    loss = partial(METHODS["nld"], s, t, y, mixture=0.5)
    key, other = jax.random.key(7), jax.random.key(8)
    given = loss(noise=jax.random.normal(key, s.shape[1:]))[0]
    drawn, drawn_otherwise = jax.jit(lambda keys: [loss(key=key)[0] for key in keys])((key, other))
    np.testing.assert_allclose(drawn, given, rtol=1e-12)
    assert abs(drawn - drawn_otherwise) > 1e-3
    with pytest.raises(ValueError, match=r"noise: expected shape \[1, 6, 5\] or \[6, 5\], got \[4, 6, 5\]"):
        loss(noise=np.zeros(s.shape))


def test_where_nld_is_finite_in_float32():
    """Logits that spread over 2,000: the authors' logarithm of a sum of probabilities is infinite there."""
    s, t, y = (np.float32(300) * np.float32(problem()[0]), np.float32(problem()[1]), problem()[2])
    chex.assert_tree_all_finite(jax.jit(jax.value_and_grad(lambda s: METHODS["nld"](s, t, y)[0]))(s))


def test_esd_where_every_timestep_is_right_distils_the_mean(float64):
    s, _, y = problem()
    s[:, np.arange(len(y)), y] = s.max() + 1
    terms = run("esd", s, None, y)
    np.testing.assert_allclose(terms["sd"], losses.self_distillation_loss(s, temperature=3.0).mean(), rtol=1e-12)


def test_esd_leaves_examples_without_a_target_out(float64):
    s, _, y = problem()
    wrong = 2
    s[:, wrong, y[wrong]] = s.min() - 1
    s[:, np.arange(len(y)) != wrong, y[np.arange(len(y)) != wrong]] += 9  # the others are right at some timestep
    keep = np.arange(len(y)) != wrong
    np.testing.assert_allclose(run("esd", s, None, y)["sd"], run("esd", s[:, keep], None, y[keep])["sd"], rtol=1e-12)


def test_hsd_is_uniform_distillation_divided_by_the_number_of_classes(float64):
    s, t, y = problem()
    kd = losses.uniform_kd_loss(s, t, temperature=2.0).mean()
    np.testing.assert_allclose(run("hsd", s, t, y)["kd"], kd / s.shape[-1], rtol=1e-12)


def test_dist_is_the_correlation_of_rows_and_columns(float64):
    """At temperature 1, against numpy's own correlation, which lacks the 1e-8."""
    s, t, y = problem()
    terms = run("dist", s, t, y)
    p, a = (np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in (s.mean(0), t))
    for term, (u, v) in {"inter": (p, a), "intra": (p.T, a.T)}.items():
        rho = np.mean([np.corrcoef(one, other)[0, 1] for one, other in zip(u, v, strict=True)])
        np.testing.assert_allclose(terms[term], 1 - rho, rtol=1e-6)


def test_logit_std_kd_does_not_see_the_scale_of_the_logits(float64):
    s, t, y = problem()
    scaled = 5 * s + np.random.default_rng(1).normal(size=(4, 6, 1))
    kd = [run("logit_std_kd", x, t, y, on="timestep")["kd"] for x in (s, scaled)]
    np.testing.assert_allclose(*kd, rtol=1e-6)
    t[0, 0] = -np.inf
    with pytest.raises(ValueError, match=r"teacher_logits: expected finite logits, got -inf: .* such as -30"):
        METHODS["logit_std_kd"](s, t, y)


def test_what_is_no_choice_is_refused():
    with pytest.raises(ValueError, match="on: expected one of 'mean', 'timestep', got 'last'"):
        METHODS["dist"](*problem(), on="last")
    with pytest.raises(ValueError, match=r"mixture: expected a number in \[0, 1\], got 1\.5"):
        METHODS["nld"](*problem(), mixture=1.5)
