"""Many seeds in one program, and the comparison of methods as a user runs it."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sealkd_jax.sharding import Parallel
from sealkd_jax.teacher_logits import TeacherLogits
from sealkd_jax.training import train, train_seeds
from tests.test_training import CLASSES, make_dataset, make_network, make_plan, one_device

# ---- many seeds


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Plan, data, teacher, and the students of seeds 0 and 7 trained one by one on one device, in float64."""
    folder = tmp_path_factory.mktemp("alone")
    with jax.enable_x64(True):
        dataset, rng = make_dataset(), np.random.default_rng(0)
        np.savez(folder / "own.npz", logits=rng.normal(size=(2, 40, CLASSES)).astype(np.float32))
        teacher = TeacherLogits(folder / "own.npz", examples=40, classes=CLASSES, timesteps=2, views=2)
        plan = replace(make_plan("seal"), network=make_network(dtype=jnp.float64, param_dtype=jnp.float64))
        students = {}
        for seed in (0, 7):
            (folder / str(seed)).mkdir()
            students[seed] = train(
                replace(plan, seed=seed), dataset, folder / str(seed), one_device(), teacher_logits=teacher
            )
        yield plan, dataset, teacher, students


@pytest.mark.parametrize(("mode", "devices", "at_once"), [("jit", 2, 2), ("pmap", 2, 1)])
def test_seeds_together_are_seeds_one_by_one(float64, alone, mode, devices, at_once):
    """Whatever is side by side or one after the other: parameters, statistics, the choice of the epoch, records."""
    plan, dataset, teacher, students = alone
    seen, parallel = [], Parallel(mode, jax.devices()[:devices])
    together = train_seeds(
        plan, list(students), dataset, parallel, teacher_logits=teacher, at_once=at_once, on_epoch=seen.append
    )
    assert [[record["epoch"] for record in epoch] for epoch in seen] == [[1, 1], [2, 2], [3, 3], [4, 4]]
    for student, by_itself, records in zip(together, students.values(), zip(*seen, strict=True), strict=True):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-10), student.variables, by_itself.variables
        )
        assert student.best["epoch"] == by_itself.best["epoch"] and list(records) == student.records
        for a, b in zip(student.records, by_itself.records, strict=True):
            for name in ("loss", "val_accuracy", "learning_rate", "grad_norm"):
                assert a[name] == pytest.approx(b[name], abs=1e-10)


def test_a_seed_that_goes_nan_is_named():
    def method(student_logits, teacher_logits, labels, *, progress, axis_name):
        return student_logits.sum() * jnp.where(progress > 0.3, jnp.nan, 1.0), {"fine": jnp.zeros(())}

    with pytest.raises(FloatingPointError, match=r"seed 5, epoch 2, step \d: total loss is nan"):
        train_seeds(make_plan(method), (5, 6), make_dataset(), one_device())
