"""Who is trained on, who chooses the epoch, and who is tested on: the same on every machine.

Where there is an official test set it is kept, and validation is held out of train. A recording that is skipped for
being damaged does not move the others.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sealkd_jax.data.datasets import hold_out
from sealkd_jax.data.events.recordings import Recording
from sealkd_jax.errors import InputError


def tenth(name: str, recordings: Sequence[Recording]) -> tuple[list[Recording], list[Recording]]:
    """Train and validation: a tenth (rounded down) is held out, in each class alike.

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
    """Train and validation: the users of the highest numbers are held out, a tenth of them, at least one.

    Whole users, because one who is in both would be recognised, and the validation accuracy would promise too much; by
    number, because it needs no list, and the official test users are those of the highest numbers, too.

    Args:
        users: who each recording is of.

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
    """A split that comes with this package: class -> train, validation, test -> numbers of recordings."""
    return json.loads(Path(__file__).with_name(file).read_text())


def draw(classes: Sequence[str], seed: int = 0) -> dict[str, dict[str, list[int]]]:
    """How `cifar10_dvs_split.json` was drawn: of each class's 1,000 recordings 100 for test, 100 for validation."""
    rng = np.random.default_rng(seed)
    orders = {name: rng.permutation(1000).tolist() for name in classes}
    return {
        name: {"train": sorted(order[200:]), "validation": sorted(order[100:200]), "test": sorted(order[:100])}
        for name, order in orders.items()
    }
