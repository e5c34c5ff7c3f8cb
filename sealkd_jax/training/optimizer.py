"""The optimiser: SGD with momentum or AdamW, warm-up and cosine, weight decay, clipping of the gradient."""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax

from sealkd_jax.errors import InputError


def kernels(params: chex.ArrayTree) -> chex.ArrayTree:
    """True for the kernels of convolutions and dense layers; False for biases, BatchNorm and neurons."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def learning_rate_schedule(peak: float, *, steps: int, warmup_steps: int) -> optax.Schedule:
    """Rises linearly from 0 to `peak` over `warmup_steps`, then falls along half a cosine to 0 at `steps`."""
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0 if warmup_steps else peak,
        peak_value=peak,
        warmup_steps=warmup_steps,
        decay_steps=steps,
    )
    # optax counts in int32 and would compute in float32 whatever the precision
    return lambda count: schedule(jnp.asarray(count, jnp.result_type(float)))


def sgd(
    schedule: optax.Schedule, *, weight_decay: float, momentum: float, mask: Callable | None
) -> optax.GradientTransformation:
    """SGD with momentum, whose weight decay is added to the gradient as in PyTorch."""
    return optax.chain(optax.add_decayed_weights(weight_decay, mask=mask), optax.sgd(schedule, momentum=momentum))


def adamw(
    schedule: optax.Schedule, *, weight_decay: float, momentum: float, mask: Callable | None
) -> optax.GradientTransformation:
    """AdamW, whose first beta is the momentum."""
    return _with_promotion(optax.adamw(schedule, b1=momentum, weight_decay=weight_decay, mask=mask))


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {"sgd": sgd, "adamw": adamw}
"""The optimisers by name, for `create_optimizer`."""


def create_optimizer(
    name: str,
    schedule: optax.Schedule,
    *,
    weight_decay: float,
    momentum: float = 0.9,
    decay_all: bool = False,
    clip_norm: float | None = None,
) -> optax.GradientTransformation:
    """An optimiser from `OPTIMIZERS`.

    Args:
        name: its name.
        schedule: step -> learning rate.
        weight_decay: of the kernels.
        momentum: of SGD, and the first beta of AdamW.
        decay_all: weight decay of all parameters, biases, BatchNorm and neurons too.
        clip_norm: the norm of all gradients together is at most this one, before weight decay; None: any.

    Raises:
        InputError: for a name that is not in `OPTIMIZERS`.
    """
    if name not in OPTIMIZERS:
        raise InputError(f"optimizer {name!r}: unknown; expected one of {', '.join(OPTIMIZERS)}")
    mask = None if decay_all else kernels
    optimizer = OPTIMIZERS[name](schedule, weight_decay=weight_decay, momentum=momentum, mask=mask)
    return optimizer if clip_norm is None else optax.chain(optax.clip_by_global_norm(clip_norm), optimizer)


def _with_promotion(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Lets optax promote dtypes, also if the user has made JAX strict: its bias correction raises a float to an int."""

    def promoting(*args: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            return optimizer.update(*args)

    return optax.GradientTransformation(optimizer.init, promoting)
