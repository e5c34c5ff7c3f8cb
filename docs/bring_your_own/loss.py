"""Bring your own loss: a pure function under a name of yours.

    python docs/bring_your_own/loss.py [--option value …]

A method takes student logits [T, B, C], teacher logits [B, C] or [T, B, C] and labels [B], and gives the scalar to
minimise and its parts, which are written to metrics.jsonl and drawn. Its keyword arguments are what --hyper sets. It
must be traceable by JAX; a loss that couples the examples of a batch gathers them over `axis_name` where it is given.
"""

import os
import sys

sys.path.insert(0, os.getcwd())  # from a checkout's root: train/ is not in the package

from collections.abc import Hashable

import jax
import jax.numpy as jnp

from sealkd_jax.losses import METHODS, ce_loss, uniform_kd_loss
from sealkd_jax.programs.commands import distill


def late_kd(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    labels: jax.Array,
    *,
    progress: jax.Array | float = 1.0,
    axis_name: Hashable | None = None,
    alpha: float = 0.6,
    power: float = 1.0,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Cross-entropy + α · distillation, in which timestep t of T weighs (t/T)^power.

    `progress` is the share of training that is done, for a loss that changes with it; this one does not.
    """
    timesteps = len(student_logits)
    weight = (jnp.arange(1, timesteps + 1) / timesteps) ** power
    ce = ce_loss(student_logits, labels).mean()
    kd = (weight[:, None] * uniform_kd_loss(student_logits, teacher_logits)).mean()
    wrong = (student_logits.argmax(-1) != labels).mean(dtype=ce.dtype)
    return ce + alpha * kd, {"ce": ce, "kd": kd, "wrong": wrong}


if __name__ == "__main__":
    METHODS["late_kd"] = late_kd
    distill.main(["digits", "--method", "late_kd", "--hyper", "power=2", *sys.argv[1:]])
