"""Bring your own loss: a pure function under a name of yours.

    python docs/bring_your_own/loss.py [--option value …]

A method is a function that JAX can trace. It declares which it uses of student logits [T, B, C], teacher logits [B, C]
or [T, B, C], labels [B], `progress` (the share of training done) and `axis_name` (a loss that couples the examples of a
batch gathers them over it). Its other arguments are hyper-parameters, which --hyper sets. It returns its terms by name,
each with its weight; training adds them up, writes them to metrics.jsonl and draws them.
"""

import os
import sys

sys.path.insert(0, os.getcwd())  # from a checkout's root: train/ is not in the package

import jax
import jax.numpy as jnp

from sealkd_jax.losses import Terms, ce_loss, method, uniform_kd_loss
from sealkd_jax.programs.commands import distill


@method
def late_kd(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    labels: jax.Array,
    *,
    alpha: float = 0.6,
    power: float = 1.0,
) -> Terms:
    """Cross-entropy + α · distillation, in which timestep t of T weighs (t/T)^power."""
    timesteps = len(student_logits)
    weight = (jnp.arange(1, timesteps + 1) / timesteps) ** power
    ce = ce_loss(student_logits, labels)
    kd = weight[:, None] * uniform_kd_loss(student_logits, teacher_logits)
    return {"ce": (1.0, ce), "kd": (alpha, kd)}


if __name__ == "__main__":
    distill.main(["digits", "--method", "late_kd", "--hyper", "power=2", *sys.argv[1:]])
