r"""Losses of features: the maps inside a student against those inside its teacher. Pure functions that need jax alone.

Axes: T timesteps, B batch, H height, W width, C channels of the student, D of the teacher; channels are last. A
student's map is `[T, B, H, W, C]`; a teacher's is `[B, H, W, D]`, and carries no gradient. A vector of features is a
map of 1×1.

A layer between the two is an argument, a dict of arrays that all carry gradient: a convolution has `kernel`
`[h, w, in, out]` and `bias` `[out]`, a normalisation `scale` and `bias`, `[out]` each. Flax has them in the same form.

`on` says which maps of the student are compared: "mean", their mean over timesteps, as the authors have it; "timestep",
each of them with the same map of the teacher, where the loss is the mean over timesteps.

Every loss is a scalar over the batch at hand. `axis_name` is the axis that the batch is split over: a loss that couples
the examples gathers over it, and the mean over the axis of results and of gradients is then that of the whole batch.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sealkd_jax._checks import as_choice, as_count, as_floating, as_scalar, at_least_float32
from sealkd_jax.losses._divergence import euclidean_norm
from sealkd_jax.losses.recent_baselines import On

if TYPE_CHECKING:
    from jaxtyping import Array, Float, ScalarLike

Layers = Mapping[str, Mapping[str, ArrayLike]]
"""Layers by name, each with its arrays by name."""


@jax.named_scope("hint")
def hint_loss(
    student_features: Float[ArrayLike, "T B H W C"],
    teacher_features: Float[ArrayLike, "B h w D"],
    *,
    on: On = "mean",
    params: Layers | None = None,
    stride: int = 1,
    padding: int = 0,
    axis_name: Hashable | None = None,
) -> Float[Array, ""]:
    r"""FitNets' hint: the squared difference of the maps, after a regressor where they differ in shape.

    $$\overline{(R(f) - t)^2}, \qquad R(f) = f \quad\text{or}\quad
      \operatorname{ReLU}(\operatorname{BatchNorm}(\operatorname{conv}(f)))$$

    The mean is over all numbers. BatchNorm uses the statistics of this batch (its biased variance, with 1e-5 added); on
    "timestep", those of all timesteps together.

    Args:
      student_features: f, `[T, B, H, W, C]`.
      teacher_features: t, `[B, h, w, D]`.
      on: the "mean" map or that of every "timestep".
      params: of the regressor, "conv" and "norm"; None: the maps have one shape, and are compared as they are.
      stride: of the convolution.
      padding: zeros that the convolution adds on each side.
      axis_name: see above; the statistics are of the whole batch.

    Returns:
      The loss, a scalar in float32 or the wider dtype of the student.

    Raises:
      ValueError: a shape does not fit, or a layer is missing.
      TypeError: features are not floating.

    Example:
      >>> import jax.numpy as jnp
      >>> from sealkd_jax.losses import hint_loss
      >>> print(hint_loss(jnp.ones((4, 2, 8, 8, 3)), jnp.zeros((2, 8, 8, 3))))
      1.0

    Reference:
      arXiv 1412.6550, as RepDistiller has it; checked against that code.
    """
    student, teacher = _maps(student_features, teacher_features, on)
    if params is not None:
        steps, batch = student.shape[:2]
        regressed = _convolve(
            student.reshape(-1, *student.shape[2:]), params, "conv", as_count("stride", stride), padding
        )
        regressed = jax.nn.relu(_normalise(regressed, _layer(params, "norm", ("scale", "bias"), student), axis_name))
        student = regressed.reshape(steps, batch, *regressed.shape[1:])
    _require_equal(student, teacher)
    return jnp.mean((student - teacher) ** 2)


@jax.named_scope("attention")
def attention_transfer_loss(
    student_features: Float[ArrayLike, "T B H W C"], teacher_features: Float[ArrayLike, "B h w D"], *, on: On = "mean"
) -> Float[Array, ""]:
    r"""Attention transfer: where in the image the features are large.

    $$\overline{(A(f) - A(t))^2}, \qquad A(f) = \frac{q}{\max(\Vert q \Vert, 10^{-12})}, \qquad
      q_{h,w} = \operatorname{mean}_c f_{h,w,c}^2$$

    The larger of the two maps is first averaged down to the smaller. Over several layers, add the losses; the authors'
    weight is 1000. A map of zeros has A = 0 and no gradient.

    Args:
      student_features: f, `[T, B, H, W, C]`.
      teacher_features: t, `[B, h, w, D]`, of any number of channels.
      on: the "mean" map or that of every "timestep".

    Returns:
      The loss, a scalar.

    Raises:
      ValueError: a shape does not fit, or one size is no multiple of the other.
      TypeError: features are not floating.

    Reference:
      arXiv 1612.03928, as the authors' code and RepDistiller have it; the paper sums where the code takes a mean.
    """
    student, teacher = _maps(student_features, teacher_features, on)
    return jnp.mean((_attention(student, teacher.shape[2:4]) - _attention(teacher, student.shape[2:4])) ** 2)


@jax.named_scope("kdsnn_feature")
def kdsnn_feature_loss(
    student_features: Float[ArrayLike, "T B H W C"],
    teacher_features: Float[ArrayLike, "B H W D"],
    *,
    weight: ScalarLike = 7e-5,
    params: Layers | None = None,
) -> Float[Array, ""]:
    r"""KDSNN's features: the squared difference of the mean maps, after a 1×1 convolution where channels differ.

    $$\frac{\lambda}{B} \sum_{b,h,w,d} (\operatorname{align}(f) - t)^2$$

    Args:
      student_features: f, `[T, B, H, W, C]`; their mean over timesteps is taken.
      teacher_features: t, `[B, H, W, D]`.
      weight: λ. The code has 7e-5 for ResNets on ImageNet, 2e-3 on CIFAR10-DVS.
      params: "align", a 1×1 convolution; None where C = D.

    Returns:
      The loss, a scalar.

    Raises:
      ValueError: a shape does not fit, or a layer is missing.
      TypeError: features are not floating.

    Reference:
      KDSNN (CVPR 2023) as BKDSNN's code has it, which it is checked against.
    """
    student, teacher = _maps(student_features, teacher_features, "mean")
    student = _align(student[0], params)[None]
    _require_equal(student, teacher)
    return as_scalar("weight", weight, student) * jnp.sum((student - teacher) ** 2) / teacher.shape[1]


def lasnn_feature_loss(
    student_features: Sequence[Float[ArrayLike, "T B H W C"]],
    teacher_features: Sequence[Float[ArrayLike, "B H W C"]],
    *,
    weight: ScalarLike = 7e-5,
) -> Float[Array, ""]:
    """LaSNN's features: `kdsnn_feature_loss` of several stages, added.

    Args:
      student_features: the maps of each stage, `[T, B, H, W, C]`.
      teacher_features: those of the teacher, of the same shapes, `[B, H, W, C]`.
      weight: of all.

    Returns:
      The loss, a scalar.

    Raises:
      ValueError: a shape does not fit, or there are not equally many stages.
      TypeError: features are not floating.

    Reference:
      LaSNN as BKDSNN's code has it, which it is checked against.
    """
    if len(student_features) != len(teacher_features) or not student_features:
        raise ValueError(
            f"teacher_features: expected as many maps as the student has, 1 or more; got {len(teacher_features)} "
            f"and {len(student_features)}"
        )
    pairs = zip(student_features, teacher_features, strict=True)
    return jnp.sum(jnp.stack([kdsnn_feature_loss(s, t, weight=weight) for s, t in pairs]))


@jax.named_scope("bkd")
def bkd_loss(
    student_features: Float[ArrayLike, "T B H W C"],
    teacher_features: Float[ArrayLike, "B H W D"],
    *,
    params: Layers,
    mask: Float[ArrayLike, "B D"],
    weight: ScalarLike = 7e-5,
    rescale: bool = False,
    axis_name: Hashable | None = None,
) -> Float[Array, ""]:
    r"""BKDSNN's blurred features: the teacher's map is generated from the student's, of which some channels are hidden.

    $$\frac{\lambda}{B} \sum_{b,h,w,d} \big(\operatorname{conv}_2(\operatorname{ReLU}(\operatorname{conv}_1(
      \operatorname{align}(f) \cdot m))) - t'\big)^2$$

    Args:
      student_features: f, `[T, B, H, W, C]`; their mean over timesteps is taken.
      teacher_features: t, `[B, H, W, D]`.
      params: "generate1" and "generate2", 3×3 convolutions from D to D channels, and "align", a 1×1 convolution from C
        to D, where C ≠ D.
      mask: m, `[B, D]`: 0 where a channel of an example is hidden, else 1. The authors hide each with probability 0.15.
      weight: λ. The authors have 7e-5 for ResNets on ImageNet, 2e-3 on CIFAR10-DVS and for transformers on CIFAR.
      rescale: $t' = t \max(\operatorname{align}(f)) / \max(t)$, with maxima over the batch, whose gradient counts; else
        t' = t, as in the authors' commands.
      axis_name: see above; with `rescale`, the maxima are of the whole batch.

    Returns:
      The loss, a scalar.

    Raises:
      ValueError: a shape does not fit, or a layer is missing.
      TypeError: features are not floating.

    Reference:
      arXiv 2407.09083; checked against the authors' code, in the order of ImageNet and CIFAR: their scripts for
      CIFAR10-DVS hand student and teacher over the other way round.
    """
    student, teacher = _maps(student_features, teacher_features, "mean")
    student, teacher = _align(student[0], params), teacher[0]
    _require_equal(student, teacher)
    hidden = as_floating("mask", mask, "numbers of shape [B, D]").astype(student.dtype)
    if hidden.shape != (student.shape[0], student.shape[-1]):
        expected = [student.shape[0], student.shape[-1]]
        raise ValueError(f"mask: expected shape [B, D] = {expected}, got {list(hidden.shape)}")
    if rescale:
        teacher = teacher / jnp.max(_of_all(teacher, axis_name)) * jnp.max(_of_all(student, axis_name))
    generated = jax.nn.relu(_convolve(student * hidden[:, None, None, :], params, "generate1", 1, 1))
    generated = _convolve(generated, params, "generate2", 1, 1)
    return as_scalar("weight", weight, student) * jnp.sum((generated - teacher) ** 2) / len(teacher)


@jax.named_scope("samd")
def samd_loss(
    student_features: Float[ArrayLike, "T B H W C"],
    teacher_features: Float[ArrayLike, "B H W D"],
    *,
    teacher_logits: Float[ArrayLike, "B K"],
    classifier: Float[ArrayLike, "D K"],
    temperature: ScalarLike = 2.0,
    axis_name: Hashable | None = None,
) -> Float[Array, ""]:
    r"""SAMD, distillation of activation maps: where the student is active, and where the teacher sees its class.

    $$\operatorname{mean}_b \sum_{h,w} p\, (\log p - \log q), \qquad
      q = \operatorname{softmax}\Big(\frac{U(\sum_{t,c} s)}{\tau}\Big) + 10^{-10}, \qquad
      p = \operatorname{softmax}\Big(\frac{U(\operatorname{ReLU}(\sum_d t_d W_{d,k}))}{\tau}\Big) + 10^{-10}$$

    with $U(m) = (m - \min m) / (\max(m - \min m) + 10^{-3})$, over the whole batch and with gradient, the softmax over
    the places of an example, and k the class that the teacher finds most probable.

    Args:
      student_features: s, `[T, B, H, W, C]`.
      teacher_features: t, `[B, H, W, D]`, of the same size.
      teacher_logits: `[B, K]`.
      classifier: W, the kernel of the teacher's last layer, `[D, K]`.
      temperature: τ.
      axis_name: see above; minima and maxima are of the whole batch.

    Returns:
      The loss, a scalar.

    Raises:
      ValueError: a shape does not fit.
      TypeError: features are not floating.

    Reference:
      arXiv 2511.06902 (CKDSNN); checked against the authors' code.
    """
    student, teacher = _maps(student_features, teacher_features, "timestep")
    teacher = teacher[0]
    if student.shape[2:4] != teacher.shape[1:3]:
        raise ValueError(
            f"teacher_features: expected maps of {list(student.shape[2:4])}, as the student's, "
            f"got {list(teacher.shape[1:3])}"
        )
    kernel = as_floating("classifier", classifier, "a kernel of shape [D, K]").astype(student.dtype)
    logits = as_floating("teacher_logits", teacher_logits, "logits of shape [B, K]")
    if kernel.ndim != 2 or len(kernel) != teacher.shape[-1]:
        raise ValueError(f"classifier: expected shape [D, K] with D = {teacher.shape[-1]}, got {list(kernel.shape)}")
    if logits.shape != (len(teacher), kernel.shape[1]):
        expected = [len(teacher), kernel.shape[1]]
        raise ValueError(f"teacher_logits: expected shape [B, K] = {expected}, got {list(logits.shape)}")
    of_class = jax.lax.stop_gradient(kernel[:, jnp.argmax(logits, axis=-1)])
    seen = jax.nn.relu(jnp.einsum("bhwd,db->bhw", teacher, of_class))
    tau = as_scalar("temperature", temperature, student, above=0)
    q = _places(_unit(student.sum(axis=(0, -1)), axis_name), tau)
    p = _places(_unit(seen, axis_name), tau)
    return jnp.mean(jnp.sum(p * (jnp.log(p) - jnp.log(q)), axis=-1))


def _maps(student_features: ArrayLike, teacher_features: ArrayLike, on: On) -> tuple[jax.Array, jax.Array]:
    """The maps to compare: `[T, B, H, W, C]` or their mean `[1, B, H, W, C]`, and the teacher's `[1, B, H, W, D]`."""
    as_choice("on", on, ("mean", "timestep"))
    student = as_floating("student_features", student_features, "maps of shape [T, B, H, W, C]")
    teacher = as_floating("teacher_features", teacher_features, "maps of shape [B, H, W, D]")
    if student.ndim != 5 or 0 in student.shape:
        raise ValueError(f"student_features: expected shape [T, B, H, W, C], got {list(student.shape)}")
    if teacher.ndim != 4 or 0 in teacher.shape or len(teacher) != student.shape[1]:
        expected = f"[B, H, W, D] with B = {student.shape[1]}"
        raise ValueError(f"teacher_features: expected shape {expected}, got {list(teacher.shape)}")
    student = student.astype(at_least_float32(student.dtype))
    student = student.mean(axis=0, keepdims=True) if on == "mean" else student
    return student, jax.lax.stop_gradient(teacher.astype(student.dtype))[None]


def _require_equal(student: jax.Array, teacher: jax.Array) -> None:
    if student.shape[-4:] != teacher.shape[-4:]:
        expected, got = list(student.shape[-4:]), list(teacher.shape[-4:])
        raise ValueError(f"teacher_features: expected shape [B, H, W, D] = {expected}, as the student's, got {got}")


def _layer(params: Layers, name: str, arrays: tuple[str, ...], like: jax.Array) -> list[jax.Array]:
    """The arrays of a layer, in the dtype of `like`."""
    if name not in params or any(array not in params[name] for array in arrays):
        raise ValueError(f"params: expected {name} with {' and '.join(arrays)}, got {', '.join(params) or 'nothing'}")
    return [as_floating(f"{name} {array}", params[name][array], "an array").astype(like.dtype) for array in arrays]


def _convolve(x: jax.Array, params: Layers, name: str, stride: int, padding: int) -> jax.Array:
    """A convolution of maps `[N, H, W, in]` with its bias."""
    kernel, bias = _layer(params, name, ("kernel", "bias"), x)
    if kernel.ndim != 4 or kernel.shape[2] != x.shape[-1] or bias.shape != kernel.shape[3:]:
        raise ValueError(
            f"params: {name}: expected kernel [h, w, {x.shape[-1]}, out] and bias [out], got {list(kernel.shape)} and "
            f"{list(bias.shape)}"
        )
    sides, layout = [(padding, padding)] * 2, ("NHWC", "HWIO", "NHWC")
    return (
        jax.lax.conv_general_dilated(x, kernel, (stride, stride), sides, dimension_numbers=layout)
        + bias[None, None, None]
    )


def _align(student: jax.Array, params: Layers | None) -> jax.Array:
    """Maps `[B, H, W, C]` with the teacher's number of channels."""
    return student if params is None or "align" not in params else _convolve(student, params, "align", 1, 0)


def _normalise(x: jax.Array, layer: list[jax.Array], axis_name: Hashable | None) -> jax.Array:
    """BatchNorm of `[N, H, W, D]` by the statistics of the batch."""
    mean = x.mean(axis=(0, 1, 2), keepdims=True)
    mean = mean if axis_name is None else jax.lax.pmean(mean, axis_name)
    variance = jnp.mean((x - mean) ** 2, axis=(0, 1, 2), keepdims=True)
    variance = variance if axis_name is None else jax.lax.pmean(variance, axis_name)
    scale, bias = (array[None, None, None] for array in layer)
    return (x - mean) / jnp.sqrt(variance + 1e-5) * scale + bias


def _attention(maps: jax.Array, other: tuple[int, ...]) -> jax.Array:
    """A(f) of `[T, B, H, W, C]`, averaged down to the size of the other map where that is smaller: `[T, B, h w]`."""
    height, width = maps.shape[2:4]
    down = height // other[0] if height > other[0] else 1
    smaller, larger = sorted([(height, width), other])
    factor = larger[0] // smaller[0]
    if larger != (factor * smaller[0], factor * smaller[1]):
        raise ValueError(
            f"teacher_features: expected a size whose ratio to the student's is a whole number, got {list(other)} "
            f"beside {[height, width]}"
        )
    maps = maps.reshape(*maps.shape[:2], height // down, down, width // down, down, -1).mean(axis=(3, 5))
    q = jnp.mean(maps**2, axis=-1).reshape(*maps.shape[:2], -1)
    return q / jnp.maximum(euclidean_norm(q, -1), 1e-12)


def _unit(maps: jax.Array, axis_name: Hashable | None) -> jax.Array:
    """Maps `[B, H, W]` between 0 and 1, by the lowest and the highest number of the batch."""
    everywhere = _of_all(maps, axis_name)
    lowest = jnp.min(everywhere)
    return (maps - lowest) / (jnp.max(everywhere) - lowest + 1e-3)


def _places(maps: jax.Array, tau: jax.Array) -> jax.Array:
    """Softmax over the places of each map, `[B, h w]`, with 1e-10 added."""
    return jax.nn.softmax(maps.reshape(len(maps), -1) / tau) + 1e-10


def _of_all(maps: jax.Array, axis_name: Hashable | None) -> jax.Array:
    """Maps of the whole batch, `[devices, B, ...]`: a maximum of maxima shares its gradient among ties otherwise."""
    return maps[None] if axis_name is None else jax.lax.all_gather(maps, axis_name)
