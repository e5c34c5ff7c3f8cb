"""Surrogate derivatives: functions that replace the derivative of a spike in the backward pass.

A spike is `1 if x >= 0 else 0` with `x = h - threshold`, the membrane's distance from the threshold. Its derivative is
zero almost everywhere, so training puts a smooth bump in its place. A surrogate is that bump: any function
`x -> derivative` that keeps shape and dtype. The five below are values: those with equal parameters compare and hash
equal, so they can be static arguments of `jax.jit`. Your own may be an ordinary function.

All five are symmetric and largest at `x = 0`, keep the dtype and are finite for any finite `x`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from numbers import Real
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float

Surrogate = Callable[[jax.Array], jax.Array]


@dataclass(frozen=True)
class _Positive:
    """Checks that every parameter of a surrogate is a positive, finite number, and stores it as a Python float."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, Real) or not 0 < float(value) < math.inf:
                kind = type(self).__name__
                hint = "; if it is traced, write your own function" if isinstance(value, jax.core.Tracer) else ""
                raise ValueError(f"{kind}: {field.name}: expected a positive finite number, got {value!r}{hint}")
            object.__setattr__(self, field.name, float(value))


@dataclass(frozen=True)
class sigmoid(_Positive):
    r"""Derivative of the logistic function $\sigma$: $\alpha\,\sigma(\alpha x)\,(1 - \sigma(\alpha x))$.

    The default, 4, is that of SpikingJelly (`surrogate.Sigmoid`) and of the SeAl-KD authors' networks. It makes the
    peak, $\alpha/4$, equal to 1. snnTorch's function of the same name defaults to 25.

    Args:
      slope: $\alpha > 0$; a larger one is narrower and higher.

    >>> import jax.numpy as jnp
    >>> print(f"{sigmoid()(jnp.array(1.0)):.3f}")
    0.071

    Reference: Neftci, Mostafa and Zenke, Surrogate gradient learning in spiking neural networks, 2019
    (arXiv 1901.09948).
    """

    slope: float = 4.0

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        s = jax.nn.sigmoid(self.slope * x)
        return self.slope * s * (1 - s)


@dataclass(frozen=True)
class arctan(_Positive):
    r"""Derivative of $\frac{1}{\pi}\arctan(\frac{\pi}{2}\alpha x)$: $\frac{\alpha/2}{1 + (\pi\alpha x/2)^2}$.

    The default, 2, is that of SpikingJelly (`surrogate.ATan`) and snnTorch (`surrogate.atan`). It makes the peak,
    $\alpha/2$, equal to 1.

    Args:
      slope: $\alpha > 0$; a larger one is narrower and higher.

    >>> import jax.numpy as jnp
    >>> print(f"{arctan()(jnp.array(1.0)):.3f}")
    0.092

    Reference: Fang et al., Incorporating learnable membrane time constant to enhance learning of spiking
    neural networks, ICCV 2021 (arXiv 2007.05785).
    """

    slope: float = 2.0

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return self.slope / 2 / (1 + jnp.square(math.pi / 2 * self.slope * x))


@dataclass(frozen=True)
class triangle(_Positive):
    r"""A triangle of area 1: $\max(0, w - |x|) / w^2$, with peak $1/w$, zero where $|x| \ge w$.

    The default, 1, is that of the TET authors' code and of SpikingJelly's `surrogate.PiecewiseQuadratic`, whose
    parameter is $1/w$.

    Args:
      width: $w > 0$, half of the triangle's base.

    >>> import jax.numpy as jnp
    >>> print(triangle()(jnp.array([-1.0, -0.5, 0.0, 0.5])))
    [0.  0.5 1.  0.5]

    Reference: Deng et al., Temporal efficient training of spiking neural network via gradient re-weighting,
    ICLR 2022 (arXiv 2202.11946); the shape is that of Bellec et al., 2018 (arXiv 1803.09574).
    """

    width: float = 1.0

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.maximum(self.width - jnp.abs(x), 0) / self.width**2


@dataclass(frozen=True)
class rectangle(_Positive):
    r"""A rectangle of area 1: $1/w$ where $|x| < w/2$, 0 elsewhere.

    The default, 1, is its authors' $a_1$.

    Args:
      width: $w > 0$, the rectangle's whole base.

    >>> import jax.numpy as jnp
    >>> print(rectangle()(jnp.array([-0.5, -0.4, 0.0, 0.4])))
    [0. 1. 1. 1.]

    Reference: Wu et al., Spatio-temporal backpropagation for training high-performance spiking neural
    networks, 2018 (arXiv 1706.02609).
    """

    width: float = 1.0

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return (jnp.abs(x) < self.width / 2).astype(x.dtype) / self.width


@dataclass(frozen=True)
class fast_sigmoid(_Positive):
    r"""Derivative of $x / (1 + k|x|)$: $1 / (1 + k|x|)^2$, with peak 1.

    The default, 25, is that of snnTorch (`surrogate.fast_sigmoid`).

    Args:
      slope: $k > 0$; a larger one is narrower.

    >>> import jax.numpy as jnp
    >>> print(fast_sigmoid(1.0)(jnp.array([-1.0, 0.0, 1.0])))
    [0.25 1.   0.25]

    Reference: Zenke and Ganguli, SuperSpike: supervised learning in multilayer spiking neural networks, 2018
    (arXiv 1705.11146).
    """

    slope: float = 25.0

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return 1 / jnp.square(1 + self.slope * jnp.abs(x))


BUILT_IN = (sigmoid, arctan, triangle, rectangle, fast_sigmoid)
