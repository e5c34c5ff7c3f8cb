"""Train, validation and test splits of recordings: the same on every machine.

An official test set is kept, and validation is held out of train. Skipping a damaged recording does not move others.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sealkd_jax.data.datasets import hold_out
from sealkd_jax.data.events.recordings import Recording
from sealkd_jax.errors import InputError


def tenth(name: str, recordings: Sequence[Recording]) -> tuple[list[Recording], list[Recording]]:
    """Train and validation: holds out a stratified tenth, rounded down.

    Raises:
        InputError: if there are too few to have every class in both.
    """
    labels = np.array([recording.label for recording in recordings], np.int32)
    classes, counts = np.unique(labels, return_counts=True)
    count = len(labels) // 10
    if not len(labels) or count < len(classes) or counts.min() < 2:
        raise InputError(
            f"{name}: {len(labels)} training recordings of {len(classes)} classes; expected at least ten times as many "
            "as classes, and two of each, to hold a tenth out for validation"
        )
    train, validation = hold_out(labels, count)
    return [recordings[i] for i in train], [recordings[i] for i in validation]


def last_users(
    name: str, recordings: Sequence[Recording], users: Sequence[int]
) -> tuple[list[Recording], list[Recording]]:
    """Train and validation: holds out the users with the highest numbers, a tenth of them, at least one.

    Whole users, because a user in both splits would make the validation accuracy too high; by number, because that
    needs no list, and the official test users have the highest numbers, too.

    Args:
        name: name of the data set.
        recordings: recordings to split.
        users: number of the user of each recording.

    Raises:
        InputError: if there are fewer than two users.
    """
    everyone = sorted(set(users))
    if len(everyone) < 2:
        raise InputError(
            f"{name}: training recordings of {len(everyone)} users; expected two, to hold one out for validation"
        )
    held_out = everyone[-max(1, len(everyone) // 10) :]
    pairs = list(zip(recordings, users, strict=True))
    return [r for r, user in pairs if user not in held_out], [r for r, user in pairs if user in held_out]


def published(file: str) -> Mapping[str, Mapping[str, Sequence[int]]]:
    """A split that this package publishes: class -> train, validation, test -> numbers of recordings."""
    return json.loads(Path(__file__).with_name(file).read_text())


def draw(classes: Sequence[str], seed: int = 0) -> dict[str, dict[str, list[int]]]:
    """Draws `cifar10_dvs_split.json`: 100 of each class's 1,000 recordings for test, 100 for validation."""
    rng = np.random.default_rng(seed)
    orders = {name: rng.permutation(1000).tolist() for name in classes}
    return {
        name: {"train": sorted(order[200:]), "validation": sorted(order[100:200]), "test": sorted(order[:100])}
        for name, order in orders.items()
    }
