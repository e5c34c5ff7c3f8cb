"""CIFAR-100 (32x32 RGB, 100 classes) by the recipe of the preset cifar10.

    python -m train.distill cifar100 --precision bfloat16

Expected: 83.37 %, as in the paper. Not run to the end; docs/comparisons.md has what was run.
"""

from dataclasses import replace

from sealkd_jax.programs.presets import cifar10

PRESET = cifar10.PRESET._replace(
    distill=replace(cifar10.PRESET.distill, dataset="cifar100"),
    teacher=replace(cifar10.PRESET.teacher, dataset="cifar100"),
)
