"""The model card as people's hubs read it: a README with YAML at its head."""

from collections.abc import Mapping
from typing import Any

import yaml

DATA_LICENCES = {
    "digits": "cc-by-4.0",
    "fashion-mnist": "mit",
    "nmnist": "cc-by-sa-4.0",
    "dvs-gesture": "cc-by-4.0",
}
"""Licence of a data set, as its authors publish it. Others state none, or terms of their own."""
UNKNOWN = "not stated; see the authors' page"


def hub_card(card: Mapping[str, Any]) -> str:
    """A README for the files of an export: YAML for machines, then the same as text.

    Args:
        card: what `model_card` returns, with the entry `files` of an export.
    """
    model, data, accuracy = card["model"], card["data"], card["accuracy"]
    method, energy = card["method"], card["energy"]
    name = f"{model['student']}-{data['dataset']}-T{card['timesteps']}"
    licence = DATA_LICENCES.get(data["dataset"], UNKNOWN)
    hyper = ", ".join(method["hyper"]) or "no hyper-parameters"
    snn, ann = (energy[kind] / 1e6 for kind in ("picojoule_per_example", "ann_of_the_same_layers"))
    rows = "\n".join(f"| {t} | {share:.2%} |" for t, share in enumerate(accuracy["by_timestep"], 1))
    files = "\n".join(f"- `{file}`: {_about(about)}" for file, about in card.get("files", {}).items())
    return f"""---
{_front_matter(card, name, licence)}---

# {name}

A spiking neural network, trained with [sealkd-jax](https://arxiv.org/abs/2605.14252) by the method `{method["name"]}`
({hyper}; {method["epochs"]} epochs, seed {method["seed"]}) with the teacher `{method["teacher"]}`.

| timesteps | accuracy on {accuracy["examples"]} test examples |
|---|---|
{rows}

The epoch was chosen on validation examples ({accuracy["validation"]:.2%}). Energy: {snn:.3g} µJ for an example;
an ordinary network of the same layers takes {ann:.3g} µJ ({energy["how"]}).

Data: {data["dataset"]}, {len(data["classes"])} classes. Licence of the data: {licence}.

{files}

`model_card.json` has the rest: classes, input, versions.
"""


def _front_matter(card: Mapping[str, Any], name: str, licence: str) -> str:
    dataset, tags = card["data"]["dataset"], ["spiking-neural-network", "knowledge-distillation", "jax"]
    head = {
        "library_name": "sealkd-jax",
        "pipeline_tag": "image-classification",
        "tags": tags + ["event-camera"] * bool(card["input"]["frames"]),
        "datasets": [dataset],
        "data_license": licence,
        "metrics": ["accuracy"],
        "method": card["method"]["name"],
        "energy_picojoule_per_example": card["energy"]["picojoule_per_example"],
        "model-index": [{"name": name, "results": [_result(card)]}],
    }
    return yaml.safe_dump(head, sort_keys=False, allow_unicode=True)


def _result(card: Mapping[str, Any]) -> dict[str, Any]:
    """The accuracies after 1 to T timesteps, as an entry of `model-index`."""
    dataset = card["data"]["dataset"]
    metrics = [
        {"type": "accuracy", "value": share, "name": f"accuracy after {t} of {card['timesteps']} timesteps"}
        for t, share in enumerate(card["accuracy"]["by_timestep"], 1)
    ]
    return {
        "task": {"type": "image-classification"},
        "dataset": {"type": dataset, "name": dataset, "split": "test"},
        "metrics": metrics[::-1],  # the final answer first
    }


def _about(about: Mapping[str, Any]) -> str:
    life = about.get("lifetime")
    until = f"; readable until {life['until']} at the latest: {life['rule']}" if life else ""
    return f"takes {about['input']}; made on {about['made']}{until}"
