"""Small students, and images that make all their neurons fire."""

from dataclasses import replace

import jax

from sealkd_jax.models import Network, Variables, create_student


def shallow(network: Network) -> Network:
    """The network with two blocks, in two stages if it has stages."""
    module = network.module
    if hasattr(module, "depth"):
        return replace(network, module=module.clone(depth=2))
    cut = {"depths": (1, 1)} if hasattr(module, "depths") else {"pool": module.pool[:2]}
    return replace(network, module=module.clone(features=module.features[:2], **cut))


def make_student(
    name: str, size: int, *, channels: int = 2, batch: int = 2, **kwargs
) -> tuple[Network, Variables, jax.Array]:
    """A small student with random BatchNorm, its variables, and images `[B, H, W, C]` that make it fire.

    A residual student has a stage of one block and a stage of two: every kind of shortcut of the full depth.
    """
    network = create_student(name, 3, **kwargs)
    if hasattr(network.module, "depths"):
        shallow = network.module.clone(depths=(1, 2), features=network.module.features[:2])
        network = replace(network, module=shallow)
    images = 2 * jax.random.normal(jax.random.key(1), (batch, size, size, channels), network.module.param_dtype)
    variables = network.init(jax.random.key(0), images)

    def stir(path, leaf):
        kind, key = path[-1].key, jax.random.key(leaf.size + len(path))
        if kind in ("mean", "bias"):
            return 0.3 * jax.random.normal(key, leaf.shape, leaf.dtype) + 0.7 * (kind == "bias")
        if kind in ("var", "scale"):
            return jax.random.uniform(key, leaf.shape, leaf.dtype, 0.5, 1.5)
        return leaf + 0.4 if kind == "decay_logit" else leaf

    return network, jax.tree_util.tree_map_with_path(stir, variables), images
