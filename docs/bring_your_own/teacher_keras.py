"""A teacher of Keras, on any of its backends.

    pip install keras
    python -m train.distill --teacher docs/bring_your_own/teacher_keras.py:logits --views 4

FILE is what `model.save("teacher.keras")` wrote.
"""

import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np

from sealkd_jax.files import sha256

FILE = "teacher.keras"
VERSION = sha256(Path(FILE))  # other weights are another teacher

network = keras.saving.load_model(FILE)
network.layers[-1].activation = keras.activations.linear  # logits, also of a network that ends in a softmax


def logits(images: np.ndarray) -> np.ndarray:
    """uint8 [B, H, W, C] to logits [B, 10]. The images are scaled as in the network's training."""
    return network.predict_on_batch(images.astype(np.float32) / 255)
