"""Bring your own data set: arrays in a file.

    python docs/bring_your_own/data.py

Images are uint8 [N, H, W, C], recordings of events as frames uint8 or uint16 [N, T, H, W, 2]; labels are integers
from 0. A part of the training images is held out for validation; the test images are evaluated once. Pictures in
folders, one for each class, need no file: dataset="folder:DIR". docs/data.md has both in full.
"""

from typing import Any

import numpy as np

from sealkd_jax.programs import distill

FILE = "bars.npz"


def bars(examples: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a horizontal bar, a vertical one, or none."""
    images = rng.integers(0, 120, (examples, 12, 12, 1), np.uint8)
    labels = rng.integers(0, 3, examples)
    for image, label, at in zip(images, labels, rng.integers(2, 10, examples), strict=True):
        if label == 0:
            image[at, 2:10] = 200
        elif label == 1:
            image[2:10, at] = 200
    return images, labels


def main(**options: Any) -> None:
    rng = np.random.default_rng(0)
    x_train, y_train = bars(1200, rng)
    x_test, y_test = bars(300, rng)
    np.savez(FILE, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    distill("digits", dataset=f"npz:{FILE}", out="runs/bars", **options)


if __name__ == "__main__":
    main()
