"""Products of two arrays that both depend on the input, as in attention, so that their operations can be counted.

Axis legend: T timesteps, B batch; `...` T and B, or both as one.
"""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn


class Product(nn.Module):
    """`jnp.einsum` for each example: a layer without weights, which `models.observe` counts like one with weights.

    Attributes:
        equation: for one example, such as `nhd,nhe->hde`; with one operand, `nhd->nh`, a sum.
    """

    equation: str

    @nn.compact
    def __call__(self, *arrays: jax.Array) -> jax.Array:
        """Arrays `[..., *operand]` -> `[..., *result]`."""
        operands, result = self.equation.split("->")
        return jnp.einsum(",".join(f"...{operand}" for operand in operands.split(",")) + f"->...{result}", *arrays)

    def macs(self, *shapes: tuple[int, ...]) -> int:
        """Multiply-accumulates for one example: the product of the sizes of all indices."""
        sizes: dict[str, int] = {}
        for operand, shape in zip(self.equation.split("->")[0].split(","), shapes, strict=True):
            sizes |= dict(zip(operand, shape[-len(operand) :], strict=True))
        return math.prod(sizes.values())

    def leading(self, shape: tuple[int, ...]) -> int:
        """How many axes the first array, of this shape, has before those of one example."""
        return len(shape) - len(self.equation.split("->")[0].split(",")[0])
