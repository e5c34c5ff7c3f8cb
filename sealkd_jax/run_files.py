"""The files of a finished run, as types: what a reader may rely on, even in files from another person.

Axis legend: T timesteps, N test examples, C classes.
"""

from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypedDict

import numpy as np

from sealkd_jax.diagnostics import accuracy_by_timestep
from sealkd_jax.errors import InputError
from sealkd_jax.files import read_npz, sha256
from sealkd_jax.typed import NOT_NEGATIVE, POSITIVE, SHARE, at_least, parse_json, read_json, read_text

Count = Annotated[int, at_least(1)]
Share = Annotated[float, SHARE]
Shares = Annotated[list[float], SHARE]
Amount = Annotated[float, NOT_NEGATIVE]


class Started(TypedDict):
    """What made a file."""

    versions: dict[str, str]
    device: str
    commit: str | None
    command: str


class Config(Started):
    """`config.json`: the options; digests of the teacher, of the training split and of all splits."""

    options: dict[str, Any]
    source: str | None
    data: str
    splits: str
    resumed: list[Started]


class Epoch(TypedDict):
    """A line of `metrics.jsonl`: the means of an epoch."""

    epoch: Count
    loss: float
    terms: dict[str, float]
    train_accuracy: Share
    val_accuracy: Share
    firing_rates: dict[str, float]
    learning_rate: Amount
    grad_norm: Amount
    seconds: Amount
    examples_per_second: Amount


class Input(TypedDict):
    """The images of a run: height, width and channels; mean and deviation of the channels; frames of a recording."""

    shape: Annotated[list[int], at_least(1, 2**16)]
    mean: list[float]
    std: Annotated[list[float], POSITIVE]
    frames: Count | None


class Energy(TypedDict):
    """The energy of one example: in all, and by layer."""

    snn_picojoule: Amount
    ann_picojoule: Amount
    layers: dict[str, Amount]
    macs: dict[str, Annotated[int, NOT_NEGATIVE]]


class Summary(TypedDict):
    """`summary.json`: the results on the test split."""

    preset: str
    dataset: str
    method: str
    hyper: list[str]
    seed: int
    timesteps: Count
    epochs_done: Count
    best_epoch: Count
    val_accuracy: Share
    test_accuracy: Share
    accuracy_by_timestep: Shares
    accuracy_of_timestep: Shares
    accuracy_by_class: Annotated[list[float | None], SHARE]
    confusion: list[list[int]] | None
    chance: Share
    majority: Share
    untrained: str | None
    teacher: str | None
    teacher_accuracy: Share | None
    train_seconds: Amount
    examples_per_second: Amount
    firing_rate: Share
    firing_rates: dict[str, Shares]
    dead_share: dict[str, Share]
    saturated_share: dict[str, Share]
    energy: Energy
    n_test: Count
    predictions_sha256: str
    classes: list[str]
    input: Input
    params_digest: str


class Cost(TypedDict, total=False):
    """What older files do not say: the energy of one example, `diagnostics.energy`, mean over seeds."""

    picojoule: Amount


class Row(Cost):
    """A method of a comparison with its settings; a list of accuracies has one for each seed."""

    name: str
    method: str
    options: dict[str, str]
    chosen: bool
    test_accuracy: Shares
    mean: Share
    std: Amount | None
    validation: Share
    against: str | None
    difference: float | None
    interval: list[float] | None
    bootstrap: list[float] | None
    seconds: Amount
    accuracy_by_timestep_mean: Shares
    unconfirmed: bool


class Comparison(Started):
    """`comparison.json`."""

    preset: str
    n_seeds: Count
    reference: str
    rows: list[Row]
    teacher: str | None
    teacher_accuracy: Share | None
    n_test: Count


class Predictions(NamedTuple):
    """`predictions.npz`: logits `[T, N, C]`, labels `[N]`, and perhaps a teacher's logits, `[N, C]` or `[T, N, C]`."""

    logits: np.ndarray
    labels: np.ndarray
    teacher_logits: np.ndarray | None


class Hardest(NamedTuple):
    """`hardest.npz`: images uint8 `[n, H, W, C]`, and their places in the test split `[n]`."""

    images: np.ndarray
    places: np.ndarray


def read_config(directory: Path) -> Config:
    """Raises `InputError` if the file is missing, unreadable or damaged, as all functions here do."""
    return read_json(directory / "config.json", Config)


def read_summary(directory: Path) -> Summary:
    """`summary.json`, whose parts agree."""
    path = directory / "summary.json"
    summary = read_json(path, Summary)
    timesteps, layers = summary["timesteps"], summary["firing_rates"]
    _expect(path, "two classes or more", len(summary["classes"]) > 1)
    classes = len(summary["classes"])
    confusion = summary["confusion"] or []
    _expect(path, f"{classes} values of accuracy_by_class", len(summary["accuracy_by_class"]) == classes)
    _expect(path, "a square matrix of confusion", all(len(row) == classes == len(confusion) for row in confusion))
    _expect(path, "best_epoch among epochs_done", summary["best_epoch"] <= summary["epochs_done"])
    by_timestep = (summary["accuracy_by_timestep"], summary["accuracy_of_timestep"], *layers.values())
    _expect(path, f"{timesteps} values, one for each timestep", all(len(values) == timesteps for values in by_timestep))
    _expect(path, "test_accuracy after the last timestep", summary["test_accuracy"] == by_timestep[0][-1])
    _expect(path, "the same layers", layers.keys() == summary["dead_share"].keys() == summary["saturated_share"].keys())
    _expect(path, "the same layers in energy", summary["energy"]["layers"].keys() == summary["energy"]["macs"].keys())
    _expect(path, "NAME=VALUE in hyper", all("=" in item for item in summary["hyper"]))
    shape, mean, std = (summary["input"][name] for name in ("shape", "mean", "std"))
    _expect(path, "height, width and channels in input", len(shape) == 3 and len(mean) == len(std) == shape[-1])
    return summary


def read_metrics(directory: Path) -> list[Epoch]:
    """The lines of `metrics.jsonl`, at least one."""
    path = directory / "metrics.jsonl"
    lines = [line for line in read_text(path).splitlines() if line.strip()]
    _expect(path, "a line for each epoch", bool(lines))
    return [parse_json(f"{path}: line {number}", line, Epoch) for number, line in enumerate(lines, 1)]


def read_comparison(directory: Path) -> Comparison:
    """`comparison.json`, whose rows agree."""
    path = directory / "comparison.json"
    comparison = read_json(path, Comparison)
    rows, seeds = comparison["rows"], comparison["n_seeds"]
    _expect(path, f"rows of {seeds} seeds", bool(rows) and all(len(row["test_accuracy"]) == seeds for row in rows))
    _expect(path, "accuracies after each timestep", all(row["accuracy_by_timestep_mean"] for row in rows))
    methods = {row["method"]: set(row["options"]) for row in rows}
    chosen = sorted(row["method"] for row in rows if row["chosen"])
    _expect(path, "one chosen row of each method", chosen == sorted(methods))
    _expect(path, "the same options for a method", all(set(row["options"]) == methods[row["method"]] for row in rows))
    known = [row for row in rows if (row["interval"], row["bootstrap"]) != (None, None)]
    _expect(path, "intervals of two ends and a difference", all(_has_interval(row) for row in known))
    return comparison


def _has_interval(row: Row) -> bool:
    ends = (row["interval"], row["bootstrap"])
    return row["difference"] is not None and all(end is None or len(end) == 2 for end in ends)


def read_predictions(directory: Path, summary: Summary) -> Predictions:
    """`predictions.npz`, from which the accuracies of the summary follow."""
    path = directory / "predictions.npz"
    arrays = read_npz(path, Predictions._fields)
    _expect(path, "the file that summary.json was written with", sha256(path) == summary["predictions_sha256"])
    for name in Predictions._fields[:2]:
        if name not in arrays:
            raise InputError(f"{path}: damaged: {name} is missing")
    logits, labels, teacher = arrays["logits"], arrays["labels"], arrays.get("teacher_logits")
    examples, classes = summary["n_test"], len(summary["classes"])
    _expect_logits(path, "logits", logits, (summary["timesteps"], examples, classes))
    if teacher is not None:
        _expect_logits(path, "teacher_logits", teacher, logits.shape if teacher.ndim == 3 else (examples, classes))
    whole = labels.shape == (examples,) and labels.dtype.kind in "iu"
    _expect(path, f"{examples} labels below {classes}", whole and labels.min() >= 0 and labels.max() < classes)
    labels = labels.astype(np.int32)
    same = np.allclose(accuracy_by_timestep(logits, labels), summary["accuracy_by_timestep"], atol=1e-6)
    _expect(path, "predictions with the accuracies of summary.json", same)
    return Predictions(logits, labels, teacher)


def read_hardest(directory: Path, summary: Summary) -> Hardest | None:
    """`hardest.npz`; None if every example is right at every timestep, so that there is no such file."""
    path = directory / "hardest.npz"
    if not path.exists():
        return None
    arrays = read_npz(path, ("images", "index"))
    _expect(path, "images and index", len(arrays) == 2)
    images, index = arrays["images"], arrays["index"]
    _expect(path, "images uint8 [n, H, W, C]", images.dtype == np.uint8 and images.ndim == 4 and images.size > 0)
    whole = index.shape == images.shape[:1] and index.dtype.kind in "iu"
    _expect(path, "places in the test split", whole and index.min() >= 0 and index.max() < summary["n_test"])
    return Hardest(images, index)


def _expect_logits(path: Path, name: str, logits: np.ndarray, shape: tuple[int, ...]) -> None:
    whole = logits.shape == shape and logits.dtype in (np.float32, np.float64)
    _expect(path, f"{name} {list(shape)}, finite floats", whole and bool(np.isfinite(logits).all()))


def _expect(path: Path, what: str, holds: bool) -> None:
    if not holds:
        raise InputError(f"{path}: damaged: expected {what}")
