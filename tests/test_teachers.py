"""Teachers that cannot teach, and logits that cannot be theirs: refused or warned of, before any training."""

from types import SimpleNamespace

import numpy as np
import pytest

from sealkd_jax.data import load
from sealkd_jax.errors import InputError
from sealkd_jax.programs import teachers
from sealkd_jax.programs.command_line import choose
from sealkd_jax.programs.logits import own_logits
from sealkd_jax.programs.options import DistillOptions
from sealkd_jax.programs.presets import PRESETS
from sealkd_jax.programs.ready_teacher import check_test_logits

N, C = 300, 4
LABELS = np.arange(N) % C
LOGITS = (4 * np.eye(C, dtype=np.float32))[LABELS] + np.random.default_rng(0).normal(size=(N, C)).astype(np.float32)


def test_a_teacher_that_says_the_same_of_every_image(tmp_path, capsys):
    check_test_logits(tmp_path, LOGITS[None])
    check_test_logits(tmp_path, LOGITS[None, :1])  # of one image
    assert capsys.readouterr().err == ""
    same = np.tile(LOGITS[:1], (2, N, 1))
    for logits in (same, same * (1 + 1e-8 * np.arange(N)[:, None]), np.zeros_like(same)):
        check_test_logits(tmp_path, logits)
        assert "the teacher says the same of every image" in capsys.readouterr().err


def test_a_teacher_with_nan_in_its_logits(tmp_path):
    logits = LOGITS[None].copy()
    logits[0, 5, 2] = np.nan
    with pytest.raises(InputError, match="the teacher's logits for the test split are not finite"):
        check_test_logits(tmp_path, logits)


def test_logits_in_another_order(tmp_path, capsys):
    """Shuffled, or with the classes in another order, they are right as often as by chance, or never."""
    data = SimpleNamespace(
        train=SimpleNamespace(labels=LABELS), classes=[str(c) for c in range(C)], fingerprint="data", mean=0, std=1
    )

    options = SimpleNamespace(augment="", view_seed=0, timesteps=4, views=1, log="auto")

    def said(logits):
        np.savez(tmp_path / "own.npz", logits=logits)
        own_logits(tmp_path / "own.npz", options, data)
        return capsys.readouterr().err

    assert said(LOGITS) == ""
    for logits in (np.random.default_rng(1).permutation(LOGITS), np.roll(LOGITS, 1, axis=1), np.ones_like(LOGITS)):
        assert "right on the training labels, no better than chance; expected the logits" in said(logits)


def test_a_teacher_trained_for_a_student_has_the_epochs_asked_for_or_its_presets(monkeypatch):
    made = []
    monkeypatch.setattr(teachers, "obtain_teacher", lambda recipe, *_: made.append(recipe.epochs))
    data = load("digits")
    for options in ({"epochs": 3}, {"epochs": 3, "teacher_epochs": 7}):
        teachers.pick_teacher(choose(DistillOptions, "digits", options), "digits", data, None)
    assert made == [PRESETS["digits"].teacher.epochs, 7]
