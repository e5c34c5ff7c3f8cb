"""A compiled step of a student as a stored file, with which a newer jax is tested.

This writes it again, with the jax that is installed:

    python -m tests.helpers.stored_step tests/golden
"""

import json
import sys
from datetime import date
from pathlib import Path

import jax
import numpy as np

from sealkd_jax.export.model_card import lifetime
from sealkd_jax.export.pixels import Pixels
from sealkd_jax.export.streaming import export_step
from sealkd_jax.models import create_student

TIMESTEPS = 4


def stream(step, images, timesteps) -> np.ndarray:
    """Logits `[T, B, C]` of an exported step, from membranes of zeros."""
    (membranes, _), _ = jax.tree.unflatten(step.in_tree, step.in_avals)
    membranes = {layer: np.zeros((len(images), *v.shape[1:]), v.dtype) for layer, v in membranes.items()}
    logits = []
    for _ in range(timesteps):
        now, membranes = step.call(membranes, images)
        logits.append(now)
    return np.stack(logits)


def main(out: Path) -> None:
    jax.config.update("jax_hlo_source_file_canonicalization_regex", ".*/")  # no directory of this machine in the file
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1)).astype(np.uint8)
    network = create_student("spiking-conv", 3, width=1 / 8)
    pixels = Pixels((0.3,), (0.3,), "uint8")
    x = pixels.normalise(images, np.float32)
    variables = network.init(jax.random.key(0), x)
    step = export_step(network, variables, images.shape[1:], pixels=pixels)
    logits = network.predict(variables, x, timesteps=TIMESTEPS)
    np.testing.assert_allclose(stream(step, images, TIMESTEPS), logits, rtol=1e-5, atol=1e-6)
    (out / "step.stablehlo").write_bytes(step.serialize())
    np.savez_compressed(out / "step.npz", images=images, logits=logits)
    (out / "step.json").write_text(json.dumps({"lifetime": lifetime(date.today())}, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
