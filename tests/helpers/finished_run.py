"""The directory of a finished run whose predictions are given."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from sealkd_jax.diagnostics import accuracy_by_timestep, accuracy_of_timestep, by_class
from sealkd_jax.files import sha256


def write_run(directory: Path, logits, labels, teacher_logits=None, **changes: Any) -> Path:
    """Write `summary.json` and `predictions.npz` of logits `[T, N, C]`; `changes` are of the summary."""
    timesteps, examples, classes = logits.shape
    labels = np.asarray(labels, np.int32)
    by_timestep, of_timestep = (
        np.asarray(measure(logits, labels)).tolist() for measure in (accuracy_by_timestep, accuracy_of_timestep)
    )
    summary = {
        **dict.fromkeys(("preset", "method", "dataset"), "thirds"),
        **{"seed": 0, "hyper": [], "timesteps": timesteps, "n_test": examples, "epochs_done": 2, "best_epoch": 1},
        **{"val_accuracy": 0.5, "test_accuracy": by_timestep[-1], "teacher": "convnet", "teacher_accuracy": 1.0},
        **{"accuracy_by_timestep": by_timestep, "accuracy_of_timestep": of_timestep},
        **by_class(logits, labels),
        **{"train_seconds": 1.0, "examples_per_second": 10.0, "firing_rate": 0.25},
        "firing_rates": {"stem": [0.25] * timesteps},
        "dead_share": {"stem": 0.125},
        "saturated_share": {"stem": 0.0625},
        "energy": {"snn_picojoule": 500.0, "ann_picojoule": 2e6, "layers": {"c": 500.0}, "macs": {"c": 4000}},
        "classes": list("abcdefghij")[:classes] if classes <= 10 else list(map(str, range(classes))),
        "input": {"shape": [6, 6, 1], "mean": [0.5], "std": [0.25], "frames": None},
        "params_digest": "0" * 64,
    }
    teacher = {} if teacher_logits is None else {"teacher_logits": teacher_logits}
    np.savez(directory / "predictions.npz", logits=logits, labels=labels, **teacher)
    summary["predictions_sha256"] = sha256(directory / "predictions.npz")
    (directory / "summary.json").write_text(json.dumps(summary | changes))
    return directory
