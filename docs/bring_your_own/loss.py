"""Bring your own loss: a pure function under a name of yours.

    python docs/bring_your_own/loss.py

A method is a function that JAX can trace. Its arguments are those that it uses of student logits [T, B, C], teacher
logits [B, C] or [T, B, C], labels [B], `progress` (the fraction of training done) and `axis_name` (a loss that couples
the examples of a batch gathers them over it); all others are hyper-parameters. It returns its terms by name, each with
its weight. Training adds them up, writes them to metrics.jsonl and draws them.
"""

from typing import Any

import jax
import jax.numpy as jnp

from sealkd_jax.losses import Terms, ce_loss, method, uniform_kd_loss
from sealkd_jax.programs import distill


@method
def late_kd(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    labels: jax.Array,
    *,
    alpha: float = 0.6,
    power: float = 1.0,
) -> Terms:
    """Cross-entropy + α · distillation, with weight (t/T)^power at timestep t of T."""
    timesteps = len(student_logits)
    weight = (jnp.arange(1, timesteps + 1) / timesteps) ** power
    ce = ce_loss(student_logits, labels)
    kd = weight[:, None] * uniform_kd_loss(student_logits, teacher_logits)
    return {"ce": (1.0, ce), "kd": (alpha, kd)}


def main(**options: Any) -> None:
    distill("digits", method="late_kd", hyper={"power": 2}, **options)


if __name__ == "__main__":
    main()
