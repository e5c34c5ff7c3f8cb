"""The directory of a finished run whose predictions are given, and that of one with an untrained student."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sealkd_jax.diagnostics import accuracy_by_timestep, accuracy_of_timestep, by_class
from sealkd_jax.files import sha256, write_json
from sealkd_jax.models import Network, Variables, create_student
from sealkd_jax.programs.presets import PRESETS
from sealkd_jax.programs.runs import options_as_json
from sealkd_jax.weights.own import params_digest, save_weights


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


def write_student(
    directory: Path, shape: tuple[int, ...], student="spiking-conv", *, timesteps=3, frames=None, dataset="digits"
) -> tuple[Network, Variables]:
    """Write the files of a finished run that a user of its student reads: three classes, fresh weights, T timesteps.

    `shape` is `[H, W, C]`; `frames` is T for a run on recordings of events.
    """
    network = create_student(student, 3, width=0.25)
    variables = network.init(jax.random.key(0), jnp.zeros((1, *shape)))
    save_weights(directory / "weights.safetensors", variables, {"student": student})
    made = {"versions": {"jax": "1"}, "device": "cpu", "commit": None, "command": "train.distill"}
    options = replace(PRESETS["digits"].distill, student=student, width=0.25, epochs=2, teacher="convnet")
    options = replace(options, dataset=dataset, timesteps=timesteps)
    config = {"options": options_as_json("digits", options), **made}
    write_json(directory / "config.json", config | {"source": None, "data": "", "splits": "", "resumed": []})
    scale = {"mean": [0.5, 0.25, 0.375][: shape[-1]], "std": [0.2, 0.1, 0.125][: shape[-1]]}
    write_run(
        directory,
        np.zeros((timesteps, 40, 3), np.float32),
        np.repeat([0, 1], [30, 10]),
        **{"dataset": "digits", "preset": "digits", "method": "seal", "hyper": ["alpha=0.5"], "seed": 7},
        **{"val_accuracy": 0.8, "teacher": "convnet", "teacher_accuracy": None},
        input={"shape": list(shape), **scale, "frames": frames},
        params_digest=params_digest(variables),
    )
    return network, variables
