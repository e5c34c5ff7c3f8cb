"""The losses of features: against vectors of the authors' code, on several devices, and what they refuse."""

import re
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from sealkd_jax.losses import (
    attention_transfer_loss,
    bkd_loss,
    hint_loss,
    kdsnn_feature_loss,
    lasnn_feature_loss,
    samd_loss,
)
from tests.helpers.devices import first_devices

GOLDEN = Path(__file__).parents[1] / "golden" / "rivals"
FILES = sorted(
    path for name in ("hint", "at", "kdsnn", "lasnn", "bkd", "samd") for path in GOLDEN.glob(f"{name}_*.npz")
)
LAYERS = ("conv", "norm", "align", "generate1", "generate2")


def layers(golden, start=""):
    """The arrays of each layer in a file, or their gradients."""
    found = {}
    for key, value in golden.items():
        layer, _, array = key.removeprefix(start).rpartition("_")
        if key.startswith(start) and layer in LAYERS:
            found.setdefault(layer, {})[array] = value
    return found


def loss_of(stem, golden):
    """(student, params) -> the loss of a file."""
    on = {"on": "timestep" if "timestep" in stem else "mean"}
    t, weight = golden.get("teacher"), {name: float(golden[name]) for name in ("weight",) if name in golden}
    shape = {name: int(golden[name]) for name in ("stride", "padding") if name in golden}
    match stem.split("_")[0]:
        case "hint":
            return lambda s, params: hint_loss(s, t, params=params or None, **shape, **on)
        case "at":
            return lambda s, params: attention_transfer_loss(s, t, **on)
        case "kdsnn":
            return lambda s, params: kdsnn_feature_loss(s, t, params=params, **weight)
        case "lasnn":
            return lambda s, params: lasnn_feature_loss(s, [golden["teacher0"], golden["teacher1"]], **weight)
        case "bkd":
            return lambda s, params: bkd_loss(
                s, t, params=params, mask=golden["mask"], rescale=bool(golden["rescale"]), **weight
            )
    given = {"teacher_logits": golden["teacher_logits"], "classifier": golden["classifier"]}
    return lambda s, params: samd_loss(s, t, **given, temperature=float(golden["temperature"]))


def test_the_vectors_are_there():
    assert len(FILES) == 30


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_golden(path, float64):
    with np.load(path) as file:
        golden = {key: file[key] for key in file}
    several = "student0" in golden
    student = [golden["student0"], golden["student1"]] if several else golden["student"]
    program = jax.jit(jax.value_and_grad(loss_of(path.stem, golden), (0, 1)))
    value, (grad, of_layers) = program(student, layers(golden))
    np.testing.assert_allclose(value, golden["loss"], rtol=1e-9)
    grads = zip([golden["grad0"], golden["grad1"]], grad, strict=True) if several else [(golden["grad"], grad)]
    for expected, found in grads:
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.abs(expected).max())
    highest = max(np.abs(value).max() for key, value in golden.items() if key.startswith("grad"))
    expected = layers(golden, "grad_")
    assert expected.keys() == of_layers.keys()
    # The bias before a BatchNorm has no gradient but rounding.
    chex.assert_trees_all_close(of_layers, expected, rtol=0, atol=1e-9 * max(highest, 1e-3))


def test_a_silent_student_has_finite_gradients():
    s, t = np.zeros((2, 3, 4, 4, 5), "float32"), np.ones((3, 4, 4, 5), "float32")
    kernel = np.ones((5, 7), "float32")

    def total(s):
        maps = samd_loss(s, t, teacher_logits=kernel[:3], classifier=kernel)
        return maps + attention_transfer_loss(s, t) + hint_loss(s, t) + kdsnn_feature_loss(s, t)

    with jax.debug_nans(True):
        chex.assert_tree_all_finite(jax.jit(jax.value_and_grad(total))(s))


def test_eight_devices_agree_with_one(float64):
    """Also where maxima and statistics are of the whole batch, and where its numbers tie."""
    rng = np.random.default_rng(0)
    s, t = rng.integers(0, 2, (2, 8, 2, 2, 3)).astype(float), rng.normal(size=(8, 2, 2, 3))
    mask, logits, classifier = np.ones((8, 3)), rng.normal(size=(8, 4)), rng.normal(size=(3, 4))
    three = {"kernel": rng.normal(size=(3, 3, 3, 3)), "bias": rng.normal(size=3)}
    params = {"generate1": three, "generate2": three, "norm": {"scale": np.ones(3), "bias": np.ones(3)}, "conv": three}

    def gradients(s, t, mask, logits, axis_name=None):
        axis = {"axis_name": axis_name}

        def total(s):
            bkd = bkd_loss(s, t, params=params, mask=mask, rescale=True, weight=1.0, **axis)
            maps = samd_loss(s, t, teacher_logits=logits, classifier=classifier, **axis)
            return jnp.stack([bkd, maps, hint_loss(s, t, params=params, padding=1, **axis)])

        values, pull = jax.vjp(total, s)
        return values[None], jnp.stack([pull(one)[0] for one in jnp.eye(3)])

    mesh = Mesh(np.array(first_devices(8)), ("data",))
    specs = (P(None, "data"), P("data"), P("data"), P("data"))
    mapped = jax.shard_map(
        lambda *args: gradients(*args, axis_name="data"),
        mesh=mesh,
        in_specs=specs,
        out_specs=(P("data"), P(None, None, "data")),
        check_vma=False,
    )
    values, grads = jax.jit(mapped)(s, t, mask, logits)
    expected, expected_grads = jax.jit(gradients)(s, t, mask, logits)
    np.testing.assert_allclose(values.mean(0), expected[0], rtol=1e-12)
    np.testing.assert_allclose(grads / 8, expected_grads, atol=1e-12)


def test_what_does_not_fit_is_refused():
    s, t = np.ones((2, 3, 4, 4, 5), "float32"), np.ones((3, 4, 4, 5), "float32")
    with pytest.raises(ValueError, match=r"student_features: expected shape \[T, B, H, W, C\], got \[3, 4, 4, 5\]"):
        hint_loss(t, t)
    with pytest.raises(
        ValueError, match=r"teacher_features: expected shape \[B, H, W, D\] with B = 3, got \[2, 4, 4, 5\]"
    ):
        attention_transfer_loss(s, t[:2])
    with pytest.raises(ValueError, match=r"teacher_features: .* \[3, 4, 4, 5\], as the student's, got \[3, 4, 4, 7\]"):
        kdsnn_feature_loss(s, np.ones((3, 4, 4, 7), "float32"))
    with pytest.raises(ValueError, match="expected a size whose ratio to the student's is a whole number"):
        attention_transfer_loss(s, np.ones((3, 3, 3, 5), "float32"))
    with pytest.raises(ValueError, match="params: expected generate1 with kernel and bias, got nothing"):
        bkd_loss(s, t, params={}, mask=np.ones((3, 5), "float32"))
    with pytest.raises(TypeError, match="student_features: expected a floating dtype, got int32"):
        hint_loss(s.astype("int32"), t)


def test_the_code_of_the_docs_gives_gradients_of_the_regressor():
    page = (Path(__file__).parents[2] / "docs" / "method.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    (code,) = [block for block in blocks if "hint_loss" in block]
    names = {}
    exec(compile(code, "method.md", "exec"), names)
    assert names["gradients"].keys() == {"conv", "norm"} and np.isfinite(names["loss"])
