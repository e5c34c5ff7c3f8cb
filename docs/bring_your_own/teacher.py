"""Bring your own teacher: anything that gives logits for images. Here, nearest neighbours of scikit-learn.

    python docs/bring_your_own/teacher.py [--option value …]

A student sees K views of every training image, and view k of image n is a function of (seed, k, n) alone: so a teacher
of any library can say in advance what it thinks of each. Its logits are a file, [K, N, C] in the order of the training
split.
"""

import os
import sys

sys.path.insert(0, os.getcwd())  # from a checkout's root: train/ is not in the package

import jax.numpy as jnp
import numpy as np
from sklearn.neighbors import KNeighborsClassifier

from sealkd_jax.data import augment, load
from sealkd_jax.programs.commands import distill
from sealkd_jax.programs.data import pick_augmentation
from sealkd_jax.programs.presets import PRESETS

VIEWS = 4
FILE = "my_teacher.npz"


def main(argv: list[str]) -> None:
    options = PRESETS["digits"].distill
    dataset = load(options.dataset)
    images, labels = dataset.train.images, dataset.train.labels

    # 1. Your teacher.
    teacher = KNeighborsClassifier(20, weights="distance").fit(images.reshape(len(images), -1), labels)

    # 2. What it says to each view: logits, so of probabilities the logarithm.
    augmentation = pick_augmentation(options, dataset)
    logits = []
    for view in range(VIEWS):
        seen = augment(
            augmentation, jnp.asarray(images), seed=options.view_seed, view=view, index=jnp.arange(len(images))
        )
        probabilities = teacher.predict_proba(np.asarray(seen).reshape(len(images), -1))
        logits.append(np.log(probabilities + 1e-3).astype(np.float32))
    np.savez(FILE, logits=np.stack(logits))

    # 3. A student of it.
    distill.main(["digits", "--teacher-logits", FILE, "--views", str(VIEWS), "--out", "runs/my-teacher", *argv])


if __name__ == "__main__":
    main(sys.argv[1:])
