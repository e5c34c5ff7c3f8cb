"""What the losses take and what they refuse: shapes, dtypes, labels, hyper-parameters, and the messages."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealkd_jax import losses
from sealkd_jax.losses import METHODS

sizes = st.integers(1, 6)
property_test = settings(deadline=None, max_examples=6)
LOSSES = {
    "ce_loss": lambda s, t, y: losses.ce_loss(s, y),
    "mean_ce_loss": lambda s, t, y: losses.mean_ce_loss(s, y),
    "ela_loss": losses.ela_loss,
    "seal_kd_loss": losses.seal_kd_loss,
    "card_seal_kd_loss": losses.card_seal_kd_loss,
    "uniform_kd_loss": lambda s, t, y: losses.uniform_kd_loss(s, t),
    "mean_kd_loss": lambda s, t, y: losses.mean_kd_loss(s, t),
    "sta_loss": lambda s, t, y: losses.sta_loss(s),
    "self_distillation_loss": lambda s, t, y: losses.self_distillation_loss(s),
}
RESULT = {name: "TB" for name in LOSSES} | {
    "mean_ce_loss": "B",
    "mean_kd_loss": "B",
    "seal_kd_loss": "B",
    "card_seal_kd_loss": "",
}
USES_TEACHER = ("ela_loss", "seal_kd_loss", "card_seal_kd_loss", "uniform_kd_loss", "mean_kd_loss")
USES_LABELS = ("ce_loss", "mean_ce_loss", "ela_loss", "seal_kd_loss", "card_seal_kd_loss")


def arguments(t=4, b=3, c=5, dtype="float32", per_timestep=False):
    return (
        np.ones((t, b, c), dtype),
        np.ones((t, b, c) if per_timestep else (b, c), dtype),
        np.zeros(b, "int32"),
    )


def message(name, s, t, y, error=ValueError):
    with pytest.raises(error) as raised:
        jax.eval_shape(LOSSES[name], s, t, y)
    return str(raised.value)


@pytest.mark.parametrize("name", LOSSES)
@given(t=sizes, b=sizes, c=st.integers(2, 6), per_timestep=st.booleans())
@property_test
def test_shapes(name, t, b, c, per_timestep):
    result = jax.eval_shape(LOSSES[name], *arguments(t, b, c, per_timestep=per_timestep))
    assert result.shape == tuple({"T": t, "B": b}[axis] for axis in RESULT[name])
    assert result.dtype == jnp.float32


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    ("given", "computed"),
    [("bfloat16", "float32"), ("float16", "float32"), ("float32", "float32"), ("float64", "float64")],
)
def test_dtypes(name, given, computed, float64):
    s, t, y = arguments(dtype=jnp.dtype(given))
    for labels in (y, y.astype("uint8"), y.astype("int64")):
        assert jax.eval_shape(LOSSES[name], s, t, labels).dtype == computed
        # The student decides: a teacher stored more coarsely or more finely does not change what is computed.
        assert jax.eval_shape(LOSSES[name], s, t.astype("float16"), labels).dtype == computed
        assert jax.eval_shape(LOSSES[name], s, t.astype("float64"), labels).dtype == computed


@pytest.mark.parametrize("wrong", ["logits.npz", [[1], [1, 2]], {"logits": 1}, np.array([None])], ids=str)
def test_what_is_no_array_of_numbers_is_named(wrong):
    s, t, y = arguments()
    calls = {"student_logits": (wrong, t, y), "teacher_logits": (s, wrong, y), "labels": (s, t, wrong)}
    for name, call in calls.items():
        with pytest.raises(TypeError, match=rf"{name}: expected .*, got (str|list|dict|object) that is no array"):
            losses.ela_loss(*call)


def test_bfloat16_is_computed_in_float32():
    rng = np.random.default_rng(0)
    s, t = (jnp.asarray(rng.normal(size=(4, 3, 5)), jnp.bfloat16) for _ in range(2))
    coarse, fine = (jax.jit(losses.seal_kd_loss)(a, t, np.zeros(3, "int32")) for a in (s, s.astype("float32")))
    np.testing.assert_allclose(coarse, fine, rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
@given(shape=st.lists(st.integers(0, 5), max_size=5).filter(lambda s: len(s) != 3 or 0 in s or s[2] < 2))
@property_test
def test_wrong_student(name, shape):
    _, t, y = arguments()
    text = message(name, np.ones(shape, "float32"), t, y)
    assert "student_logits: expected shape [T, B, C]" in text and f"got {shape}" in text


@pytest.mark.parametrize("name", USES_TEACHER)
@given(shape=st.lists(st.integers(0, 6), max_size=4).filter(lambda s: s not in ([4, 3, 5], [3, 5])))
@property_test
def test_wrong_teacher(name, shape):
    s, _, y = arguments()
    text = message(name, s, np.ones(shape, "float32"), y)
    assert "teacher_logits: expected shape [B, C] = [3, 5] or [T, B, C] = [4, 3, 5]" in text
    assert f"got {shape}" in text


@pytest.mark.parametrize("name", USES_LABELS)
@given(shape=st.lists(st.integers(0, 6), max_size=3).filter(lambda s: s != [3]))
@property_test
def test_wrong_labels(name, shape):
    s, t, _ = arguments()
    text = message(name, s, t, np.zeros(shape, "int32"))
    assert "labels: expected class indices of shape [B] = [3]" in text and f"got {shape}" in text


@pytest.mark.parametrize("name", USES_LABELS)
@pytest.mark.parametrize("label", [-1, 5, 255])
def test_label_out_of_range(name, label):
    """Known labels are checked, also where only the logits are traced."""
    s, t, _ = arguments()
    text = rf"labels: expected class indices in \[0, C\) = \[0, 5\), got {label}"
    for labels in (np.array([0, label, 4]), jnp.array([0, label, 4])):
        with pytest.raises(ValueError, match=text):
            LOSSES[name](s, t, labels)
        with pytest.raises(ValueError, match=text):
            jax.eval_shape(lambda s, t, labels=labels: LOSSES[name](s, t, labels), s, t)


@pytest.mark.parametrize("name", LOSSES)
def test_wrong_dtypes(name):
    s, t, y = arguments()
    assert "student_logits: expected a floating dtype, got int32" in message(name, s.astype("int32"), t, y, TypeError)
    if name in USES_TEACHER:
        text = message(name, s, t.astype("int8"), y, TypeError)
        assert "teacher_logits: expected a floating dtype, got int8" in text
    if name in USES_LABELS:
        text = message(name, s, t, y.astype("float32"), TypeError)
        assert "labels: expected an integer dtype, got float32" in text


@pytest.mark.parametrize("name", USES_TEACHER)
def test_no_teacher(name):
    s, _, y = arguments()
    with pytest.raises(ValueError, match=r"teacher_logits: expected logits of shape .*, got None"):
        LOSSES[name](s, None, y)


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", value) for value in (0.0, -1.0, float("nan"), np.float32(-2), jnp.array(-0.5))]
    + [("score_temperature", 0.0), ("score_temperature", -3)],
)
def test_temperatures_are_positive(name, value):
    with pytest.raises(ValueError, match=f"^{name}: expected a number above 0, got"):
        jax.eval_shape(lambda *a: losses.seal_kd_loss(*a, **{name: value}), *arguments())


def test_other_hyperparameters():
    with pytest.raises(ValueError, match=r"top_k: expected at least 1, got 0"):
        jax.eval_shape(partial(losses.ela_loss, top_k=0), *arguments())
    with pytest.raises(TypeError, match=r"top_k: expected a plain integer, got 1\.5"):
        jax.eval_shape(partial(losses.ela_loss, top_k=1.5), *arguments())
    with pytest.raises(ValueError, match=r"alpha: expected a scalar, got shape \[2\]"):
        jax.eval_shape(partial(losses.seal_kd_loss, alpha=np.ones(2)), *arguments())
    with pytest.raises(ValueError, match=r"task: expected one of 'timestep', 'mean', got 'last'"):
        jax.eval_shape(partial(losses.seal_kd_loss, task="last"), *arguments())


@pytest.mark.parametrize("scalar", [0.5, np.float64(0.5), np.float32(0.5), jnp.float32(0.5)], ids=repr)
def test_hyperparameters_do_not_change_the_dtype(scalar, float64):
    knobs = ("alpha", "beta", "temperature", "correct_weight", "score_temperature", "confidence_threshold")
    for dtype in ("float32", "float64"):
        result = jax.eval_shape(
            lambda *a: losses.seal_kd_loss(*a, **dict.fromkeys(knobs, scalar)), *arguments(dtype=dtype)
        )
        assert result.dtype == dtype


def test_hyperparameters_can_be_traced():
    def loss(temperature):
        s, t, y = arguments()
        s = s * np.arange(5, dtype="float32")
        return losses.seal_kd_loss(s, t, y, temperature=temperature).mean()

    taus, one = np.array([1.0, 2.0], "float32"), jax.jit(loss)
    np.testing.assert_allclose(jax.jit(jax.vmap(loss))(taus), [one(tau) for tau in taus], rtol=1e-6)


def test_unknown_method():
    for function in (losses.needs_teacher, losses.hyperparameters):
        with pytest.raises(ValueError, match=r"method: expected one of 'none', .*, got 'sael'"):
            function("sael")
    with pytest.raises(TypeError, match="temprature"):
        METHODS["seal"](*arguments(), temprature=1.0)


@pytest.mark.parametrize("name", [*USES_LABELS, "ela_loss top_k=2"])
def test_a_label_out_of_range_that_only_the_device_sees_gives_nan(name):
    """A trace cannot refuse it; a plausible number would be worse than none."""
    s, t, _ = arguments()
    loss = partial(losses.ela_loss, top_k=2) if name == "ela_loss top_k=2" else LOSSES[name]
    result = jax.jit(loss)(s, t, jnp.array([0, 5, 1]))
    bad = jnp.moveaxis(result, -1, 0)[1] if result.ndim else result
    assert jnp.isnan(bad).all()
