"""A student as an ONNX model, for ONNX Runtime and other tools; needs the extra `[export]`.

Two forms: all T timesteps from an image or frames, and one timestep with membranes in and out, for streams.

Axis legend: T timesteps, B batch, H height, W width, C channels of the image, K classes; `...` the neurons of a layer.
Images are `[B, H, W, C]`, as everywhere in this package; within the model they are `[B, C, H, W]`.
"""

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from sealkd_jax.errors import InputError
from sealkd_jax.export.eight_bits import whole_numbers
from sealkd_jax.models.graph import INPUT, Conv, Dense, Fire, Flatten, Graph, Node, Pool

OPSET = 17
"""Of ONNX; readers from 2022 on have it."""
IR_VERSION = 8
MOST_TIMESTEPS = 1000


def to_onnx(graph: Graph, timesteps: int, *, frames: bool = False, images: str | None = None) -> onnx.ModelProto:
    """All timesteps: `images` to `logits` `[T, B, K]`.

    Layers before the first neurons run once for a static image. The weights are stored once for all timesteps.

    Args:
        graph: of a student, see `student_graph`.
        timesteps: T, at most 1000; a longer run is a loop of `step_to_onnx`.
        frames: takes a frame a timestep, `[T, B, H, W, C]`, in place of images `[B, H, W, C]`.
        images: the type of the images, such as uint8 for a graph of `from_pixels`; that of the weights if not given.

    Raises:
        InputError: for too many timesteps.
    """
    if timesteps > MOST_TIMESTEPS:
        raise InputError(f"timesteps {timesteps}: expected at most {MOST_TIMESTEPS}; for more, export one timestep")
    model = _Model(graph, images)
    shape = [*([timesteps] if frames else []), "batch", *_image(graph)]
    model.input("images", shape, model.image_type)
    membranes: dict[str, str | None] = dict.fromkeys(model.neurons)
    logits: list[str] = []
    at_rest: dict[str, str] = {}
    for t in range(timesteps):
        image = model.op("Gather", "images", model.constant(np.int64(t)), axis=0) if frames else "images"
        values, membranes = model.step(image, membranes, f"/{t}", {} if frames else at_rest)
        logits.append(model.op("Unsqueeze", model.sum(values, graph.output), model.constant(np.array([0]))))
    return model.finish({"logits": (model.op("Concat", *logits, axis=0), [timesteps, "batch", *_classes(graph)])})


def step_to_onnx(graph: Graph, images: str | None = None) -> onnx.ModelProto:
    """One timestep: `images` `[B, H, W, C]` and membranes to `logits` `[B, K]` and the membranes after it.

    The membranes of a layer are the input `v/LAYER` and the output `v_next/LAYER`, `[B, ...]`; all begin as zeros.
    Arguments as in `to_onnx`.
    """
    model = _Model(graph, images)
    model.input("images", ["batch", *_image(graph)], model.image_type)
    before: dict[str, str | None] = {}
    for name in model.neurons:
        before[name] = model.input(f"v/{name}", ["batch", *graph.shapes[name]], model.type)
    values, after = model.step("images", before, "", {})
    outputs: dict[str, tuple[str | None, list[Any]]] = {
        "logits": (model.sum(values, graph.output), ["batch", *_classes(graph)])
    }
    for name, value in after.items():
        outputs[f"v_next/{name}"] = (value, ["batch", *graph.shapes[name]])
    return model.finish(outputs)


def _image(graph: Graph) -> list[int]:
    if len(graph.input_shape) == 1:
        return list(graph.input_shape)
    channels, height, width = graph.input_shape
    return [height, width, channels]


def _classes(graph: Graph) -> tuple[int, ...]:
    return graph.shapes[graph.output[0]]


class _Model:
    """The operators so far, each with one output, and the constants."""

    def __init__(self, graph: Graph, images: str | None):
        self.graph = graph
        self.dtype = np.result_type(*(weights.kernel for weights in graph.weights.values()))
        self.type = helper.np_dtype_to_tensor_dtype(self.dtype)
        self.image_type = helper.np_dtype_to_tensor_dtype(np.dtype(images)) if images else self.type
        self.neurons = [node.name for node in graph.nodes if isinstance(node.layer, Fire)]
        self.inputs: list[Any] = []
        self.operators: list[Any] = []
        self.constants: dict[tuple[Any, ...], str] = {}
        self.arrays: list[Any] = []
        self.dequantised: dict[str, str] = {}

    def input(self, name: str, shape: list[Any], kind: int) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def op(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        name = name or f"{kind}_{len(self.operators)}"
        self.operators.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, value: Any, name: str | None = None) -> str:
        """A constant, stored once."""
        array = np.array(value, order="C")
        key = (name, array.dtype.str, array.shape, array.tobytes())
        if key not in self.constants:
            self.constants[key] = name or f"constant_{len(self.constants)}"
            self.arrays.append(numpy_helper.from_array(array, self.constants[key]))
        return self.constants[key]

    def number(self, value: float) -> str:
        return self.constant(self.dtype.type(value))

    def step(
        self, image: str, membranes: dict[str, str | None], suffix: str, fixed: dict[str, str]
    ) -> tuple[dict[str, str], dict[str, str | None]]:
        """The values and membranes of a timestep. `fixed` collects the values that are the same at each timestep."""
        if INPUT not in fixed:
            fixed[INPUT] = self.image(image)
        values, after = dict(fixed), dict[str, str | None]()
        for node in self.graph.nodes:
            if node.name in fixed:
                continue
            name, x = node.name + suffix, self.sum(values, node.sources)
            if isinstance(node.layer, Fire):
                values[node.name], after[node.name] = self.fire(name, node.layer, x, membranes[node.name])
                continue
            values[node.name] = self.layer(name, node, x)
            if all(source in fixed for source in node.sources):
                fixed[node.name] = values[node.name]
        return values, after

    def image(self, x: str) -> str:
        """`[B, C, H, W]`, in the type of the weights."""
        x = x if self.image_type == self.type else self.op("Cast", x, to=self.type)
        return self.op("Transpose", x, perm=[0, 3, 1, 2]) if len(self.graph.input_shape) == 3 else x

    def sum(self, values: dict[str, str], names: tuple[str, ...]) -> str:
        total = values[names[0]]
        for name in names[1:]:
            total = self.op("Add", total, values[name])
        return total

    def layer(self, name: str, node: Node, x: str) -> str:
        match node.layer:
            case Conv() as conv:
                sides = {"strides": conv.stride, "pads": conv.padding * 2, "dilations": conv.dilation}
                return self.op(
                    "Conv", x, *self.weights(node.name), name=name, group=conv.groups, kernel_shape=conv.size, **sides
                )
            case Dense():
                return self.op("Gemm", x, *self.weights(node.name), name=name, transB=1)
            case Flatten():
                return self.op("Flatten", x, name=name)
            case Pool() as pool:
                return self.pool(name, pool, x)
        raise AssertionError(node.layer)

    def weights(self, name: str) -> tuple[str, str]:
        """Kernel and bias of a layer; a kernel of eight bits is stored as int8."""
        kernel, bias = self.graph.weights[name]
        stored = self.constant(bias, f"{name}/bias")
        if name not in self.graph.scales:
            return self.constant(kernel, f"{name}/kernel"), stored
        if name not in self.dequantised:
            scale = self.graph.scales[name]
            whole = self.constant(whole_numbers(kernel, scale).astype(np.int8), f"{name}/kernel")
            steps = self.constant(scale.astype(np.float32), f"{name}/scale")
            found = self.op("DequantizeLinear", whole, steps, axis=0)
            self.dequantised[name] = self.op("Cast", found, to=self.type) if self.dtype != np.float32 else found
        return self.dequantised[name], stored

    def pool(self, name: str, pool: Pool, x: str) -> str:
        sides: dict[str, Any] = {"kernel_shape": pool.size, "strides": pool.stride, "pads": pool.padding * 2}
        if pool.kind == "max":
            return self.op("MaxPool", x, name=name, **sides)
        mean = self.op("AveragePool", x, count_include_pad=1, **sides)
        factor = pool.size[0] * pool.size[1] if pool.kind == "sum" else 1
        return self.op("Mul", mean, self.number(factor), name=name)

    def fire(self, name: str, fire: Fire, x: str, v: str | None) -> tuple[str, str]:
        """Spikes and the membranes after them; `h = v - (1 - decay) v + x`, in that order of roundings."""
        h = x
        if v is not None:
            leak = self.op("Mul", v, self.number(1 - fire.decay))
            h = self.op("Add", self.op("Sub", v, leak) if fire.decay < 1 else v, x)
        fires = self.op("GreaterOrEqual", h, self.number(fire.threshold))
        spikes = self.op("Cast", fires, name=name, to=self.type)
        if fire.soft_reset:
            return spikes, self.op("Sub", h, self.op("Mul", spikes, self.number(fire.threshold)))
        return spikes, self.op("Where", fires, self.number(0), h)

    def finish(self, outputs: dict[str, tuple[str | None, list[Any]]]) -> onnx.ModelProto:
        found = []
        for name, (value, shape) in outputs.items():
            self.op("Identity", str(value), name=name)
            found.append(helper.make_tensor_value_info(name, self.type, shape))
        graph = helper.make_graph(self.operators, "student", self.inputs, found, self.arrays)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="sealkd-jax")
        onnx.checker.check_model(model, full_check=True)
        return model
