"""The student that the options or a model card name: one of ours, or a graph of NIR in a file."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from sealkd_jax.errors import InputError
from sealkd_jax.models import Network, create_student

NIR_PREFIXES = ("nir:", "nir-soft:")


def named_student(
    name: str,
    classes: int,
    image_shape: Sequence[int],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    frames: int | None,
    **choices: Any,
) -> Network:
    """An untrained student from `STUDENTS`, or a graph of NIR, whose variables start as its weights.

    A graph takes pixels from 0 to 1, or the counts of events in a frame. It keeps its own neurons.

    Args:
        name: a key of `STUDENTS`, `nir:FILE`, or `nir-soft:FILE` for neurons that subtract the threshold.
        classes: number of logits.
        image_shape: `[H, W, C]`.
        mean: of the channels, with which images are normalised.
        std: their standard deviation.
        frames: number of frames of a recording; None: images.
        choices: of `create_student`.

    Raises:
        InputError: for an unknown name, or a graph that cannot be read or takes and gives other shapes.
    """
    if not name.startswith(NIR_PREFIXES):
        return create_student(name, classes, **choices)
    prefix, path = name.split(":", 1)
    try:
        from sealkd_jax.export.from_nir import from_nir
    except ImportError as error:
        raise InputError(f'student {name}: a package is missing ({error}); pip install "sealkd-jax[export]"') from error
    network, _ = from_nir(Path(path), soft_reset=prefix == "nir-soft")
    graph, (height, width, channels) = network.module.graph, image_shape
    if graph.input_shape not in ((channels, height, width), (channels * height * width,)):
        expected = f"takes {list(graph.input_shape)}; expected the images of the data, {[channels, height, width]}"
        raise InputError(f"student {name}: {expected}")
    if graph.shapes[graph.output[0]] != (classes,):
        raise InputError(f"student {name}: gives {list(graph.shapes[graph.output[0]])}; expected {classes} classes")
    unit = 1.0 if frames is None else 255.0
    dtype = jnp.dtype(choices.get("precision", "float32"))
    module = network.module.clone(
        scale=tuple(unit * float(x) for x in std),
        shift=tuple(unit * float(x) for x in mean),
        dtype=dtype,
        param_dtype=jnp.promote_types(dtype, jnp.float32),
    )
    return replace(network, module=module)
