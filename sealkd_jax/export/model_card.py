"""The model card of a run: what a user of the weights has to know, as JSON."""

from collections.abc import Mapping
from datetime import date
from importlib.metadata import version
from typing import Any

FORMAT = 1


def model_card(config: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Any]:
    """Data, method, accuracy, T and energy of a finished run.

    Args:
        config: the content of the run's `config.json`.
        summary: the content of its `summary.json`.

    Returns:
        A dict for JSON. Accuracies are fractions, of the logits accumulated over timesteps. `input` has the mean and
        deviation for the input of the network, `(pixels / 255 - mean) / std`, or one frame a timestep of a recording.

    Raises:
        KeyError: if the run lacks one of these entries.
    """
    options, energy = config["options"], summary["energy"]
    height, width, channels = summary["input"]["shape"]
    normalised = {"mean": summary["input"]["mean"], "std": summary["input"]["std"]}
    return {
        "format": FORMAT,
        "model": {name: options[name] for name in ("student", "width", "neuron", "decay", "precision")},
        "data": {name: summary[name] for name in ("dataset", "preset", "classes")},
        "input": {"height": height, "width": width, "channels": channels, "frames": summary["input"]["frames"]}
        | normalised,
        "timesteps": summary["timesteps"],
        "method": {"name": summary["method"], "hyper": summary["hyper"], "seed": summary["seed"]}
        | {"epochs": options["epochs"], "teacher": summary.get("teacher", options["teacher"])},
        "accuracy": {
            "test": summary["test_accuracy"],
            "by_timestep": summary["accuracy_by_timestep"],
            "examples": summary["n_test"],
            "validation": summary["val_accuracy"],
            "teacher": summary["teacher_accuracy"],
        },
        "energy": {
            "picojoule_per_example": energy["snn_picojoule"],
            "ann_of_the_same_layers": energy["ann_picojoule"],
            "how": "4.6 pJ per MAC, 0.9 pJ per accumulate; arithmetic alone, an estimate",
        },
        "firing_rate": summary["firing_rate"],
        "params_digest": summary["params_digest"],
        "made_with": {name: config[name] for name in ("versions", "device", "commit", "command")},
    }


def describe_file(card: Mapping[str, Any], *, to: str, pixels: bool, today: date, **made: Any) -> dict[str, Any]:
    """What the card says of one exported file, in its entry `files`.

    Args:
        card: of the run.
        to: format of the file: nir, onnx, onnx-step, stablehlo or safetensors.
        pixels: whether a program takes raw images; weights alone are no program.
        today: the day on which it is made.
        made: what else says how the file was made, such as the dialect of a NIR graph.
    """
    raw = pixels and to != "safetensors"
    what = "counts of events" if card["input"]["frames"] else "pixels from 0 to 255"
    normalised = f"{what}, normalised: (x / 255 - mean) / std with those of input"
    about = {"to": to, "pixels": pixels, **made, "input": f"{what}, as they are" if raw else normalised}
    return about | {"made": today.isoformat()} | ({"lifetime": lifetime(today)} if to == "stablehlo" else {})


def lifetime(today: date) -> dict[str, str]:
    """How long JAX promises to read what `jax.export` writes now.

    The six months count from the release of jaxlib, which does not know its date: they end at the latest six months
    from today. https://docs.jax.dev/en/latest/export/export.html#compatibility-guarantees
    """
    month = today.month + 6
    year, month = today.year + (month > 12), (month - 1) % 12 + 1
    until = date(year, month, min(today.day, 28))  # every month has 28 days
    jaxlib = version("jaxlib")
    rule = f"jaxlib up to 6 months newer, or 3 weeks older, than {jaxlib}"
    return {"jaxlib": jaxlib, "from": today.isoformat(), "until": until.isoformat(), "rule": rule}
