"""The optimiser: SGD with momentum or AdamW, warm-up and cosine, weight decay on kernels only.

Gradient clipping, or an average of the weights, is another transformation in `create_optimizer`'s chain.
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax

from sealkd_jax.errors import InputError

OPTIMIZERS = ("sgd", "adamw")
"""The names for `create_optimizer`."""


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


def create_optimizer(
    name: str, schedule: optax.Schedule, *, weight_decay: float, momentum: float = 0.9
) -> optax.GradientTransformation:
    """SGD, whose weight decay is added to the gradient as in PyTorch, or AdamW, whose first beta is `momentum`.

    Raises:
        InputError: for a name that is not in `OPTIMIZERS`.
    """
    if name == "sgd":
        return optax.chain(
            optax.add_decayed_weights(weight_decay, mask=kernels),
            optax.sgd(schedule, momentum=momentum),
        )
    if name == "adamw":
        adamw = optax.adamw(schedule, b1=momentum, weight_decay=weight_decay, mask=kernels)
        return optax.GradientTransformation(adamw.init, _with_promotion(adamw.update))
    raise InputError(f"optimizer {name!r}: unknown; expected one of {', '.join(OPTIMIZERS)}")


def _with_promotion(update: optax.TransformUpdateFn) -> optax.TransformUpdateFn:
    """Lets optax promote dtypes, also if the user has made JAX strict: its bias correction raises a float to an int."""

    def promoting(*args: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            return update(*args)

    return promoting
