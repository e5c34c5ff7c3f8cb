"""What training adds to a loss, in whole runs on the digits."""

import shutil

import pytest

from sealkd_jax import programs

KEYWORDS = {"epochs": 2, "student": "spiking-mlp", "views": 2, "devices": 1, "timesteps": 3}


@pytest.mark.slow
def test_a_run_with_every_option_of_training_resumes_as_if_it_had_not_stopped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {
        "mixup": 0.3,
        "label_smoothing": 0.1,
        "class_weights": "balanced",
        "clip_norm": 1.0,
        "ema": 0.9,
        "decay_all": True,
        "spike_rate": "0.1=1",
    }
    whole = programs.distill("digits", method="esd", out="trained-whole", **KEYWORDS, **options)
    shutil.copytree("trained-whole", "trained-half")
    shutil.rmtree("trained-half/checkpoints/2")
    half = programs.distill("digits", method="esd", out="trained-half", resume=True, **KEYWORDS, **options)
    assert half.summary["params_digest"] == whole.summary["params_digest"]
    (cell,) = programs.compare("digits", methods="esd", seeds=1, out="cell", **KEYWORDS, **options).comparison["rows"]
    assert cell["test_accuracy"] == [whole.summary["test_accuracy"]]
