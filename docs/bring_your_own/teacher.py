"""Bring your own teacher: anything that gives logits for images. Here, nearest neighbours of scikit-learn.

    python docs/bring_your_own/teacher.py

A student sees K views of every training image, and view k of image n is a function of (seed, k, n) alone. So a teacher
from any library can give its logits in advance: a file [K, N, C], in the order of the training split.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from sklearn.neighbors import KNeighborsClassifier

from sealkd_jax.data import augment, load, parse_augmentation
from sealkd_jax.programs import distill

AUGMENT = "crop(1)"
VIEWS = 4
FILE = "my_teacher.npz"


def main(**options: Any) -> None:
    images, labels = load("digits").train

    # 1. Your teacher.
    teacher = KNeighborsClassifier(20, weights="distance").fit(images.reshape(len(images), -1), labels)

    # 2. Its logits for each view: the logarithms of its probabilities.
    augmentation = parse_augmentation(AUGMENT, images.shape[1:])
    logits = []
    for view in range(VIEWS):
        seen = augment(augmentation, jnp.asarray(images), seed=0, view=view, index=jnp.arange(len(images)))
        probabilities = teacher.predict_proba(np.asarray(seen).reshape(len(images), -1))
        logits.append(np.log(probabilities + 1e-3).astype(np.float32))
    np.savez(FILE, logits=np.stack(logits))

    # 3. Its student.
    distill("digits", teacher_logits=FILE, augment=AUGMENT, views=VIEWS, out="runs/my-teacher", **options)


if __name__ == "__main__":
    main()
