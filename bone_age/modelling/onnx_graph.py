"""Keras networks of this package written as ONNX graphs, layer by layer.

Keras' own ONNX export goes through tf2onnx: 19 s and 4.7 GB of memory for one Xception at 80 px, and TensorFlow only.
The four backbones and the head need fourteen kinds of layer, so they are translated here directly: under a second, no
extra memory, the same bytes each time, on any Keras backend. A layer that is not known is an error, and every export is
compared with Keras on real images afterwards (`onnx_difference_months`).

Keras keeps channels last and ONNX Runtime is fastest with channels first, so images are transposed once at the start;
four-dimensional outputs are transposed back at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
from keras import layers
from onnx import TensorProto, helper, numpy_helper

from bone_age.errors import ModelError
from bone_age.modelling.folding import NormalisedConv2D, NormalisedSeparableConv2D

OPSET, IR_VERSION = 18, 10
TYPES = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}


class OnnxGraph:
    """A graph being written; values are called by their ONNX names."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self._names: dict[int, str] = {}
        self._count = 0

    def op(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Append a node with one output and return that output's name."""
        self._count += 1
        name = output or f"{kind.lower()}_{self._count}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, array: Any, dtype: type[np.generic] = np.float32) -> str:
        """Store an array and return its name."""
        self._count += 1
        name = f"const_{self._count}"
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array, dtype=dtype), name))
        return name

    def add_network(self, model: keras.Model) -> list[str]:
        """Translate a functional model; returns the names of its outputs, images as [N, C, H, W].

        Raises:
            ModelError: The model has a layer that is not translated.
        """
        for tensor in model.inputs:
            shape = ["N", *tensor.shape[1:]]
            self.inputs.append(helper.make_tensor_value_info(tensor.name, TYPES[tensor.dtype], shape))
            self._names[id(tensor)] = tensor.name
        for depth in sorted(model._nodes_by_depth, reverse=True):
            for node in model._nodes_by_depth[depth]:
                if not node.is_input:
                    self._translate(node.operation, node)
        return [self._names[id(tensor)] for tensor in model.outputs]

    def _translate(self, layer: Any, node: Any) -> None:
        translate = next((t for kind, t in TRANSLATIONS.items() if isinstance(layer, kind)), None)
        if translate is None:
            raise ModelError(f"layer {layer.name} ({type(layer).__name__}) has no translation to ONNX")
        name = translate(self, layer, [self._names[id(tensor)] for tensor in node.input_tensors])
        self._names[id(node.outputs[0])] = name

    def add_output(self, name: str, value: str, shape: list[int | str]) -> None:
        """Call a float32 value by an output's name; shape without the batch axis."""
        self.op("Identity", value, output=name)
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape]))

    def write(self, path: Path) -> None:
        """Check the graph and write it."""
        graph = helper.make_graph(self.nodes, "bone-age", self.inputs, self.outputs, self.initializers)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="bone-age"
        )
        onnx.checker.check_model(model)
        onnx.save(model, path)


def _weights(layer: Any) -> dict[str, Any]:
    if isinstance(layer, NormalisedConv2D | NormalisedSeparableConv2D):
        return layer.folded()
    return {variable.name: keras.ops.convert_to_numpy(variable) for variable in layer.weights}


def _rescaling(graph: OnnxGraph, layer: Any, inputs: list[str]) -> str:
    floats = graph.op("Cast", inputs[0], to=TensorProto.FLOAT)
    scaled = graph.op("Mul", floats, graph.constant(layer.scale))
    return graph.op("Add", scaled, graph.constant(layer.offset))


def _to_image(graph: OnnxGraph, layer: Any, inputs: list[str]) -> str:
    height, width, channels = layer.target_shape
    if channels != 1:
        raise ModelError(f"layer {layer.name}: only a grey image is reshaped")
    return graph.op("Reshape", inputs[0], graph.constant([-1, 1, height, width], np.int64))


def _convolution(graph: OnnxGraph, layer: Any, inputs: list[str]) -> str:
    weights = _weights(layer)
    kernel = graph.constant(weights["kernel"].transpose(3, 2, 0, 1))
    bias = [graph.constant(weights["bias"])] if layer.use_bias else []
    return _activated(graph, layer, graph.op("Conv", inputs[0], kernel, *bias, **_window(layer, layer.kernel_size)))


def _separable(graph: OnnxGraph, layer: Any, inputs: list[str]) -> str:
    weights = _weights(layer)
    depthwise = graph.constant(weights["depthwise_kernel"].transpose(2, 3, 0, 1))
    channels = weights["depthwise_kernel"].shape[2]
    spread = graph.op("Conv", inputs[0], depthwise, group=channels, **_window(layer, layer.kernel_size))
    pointwise = graph.constant(weights["pointwise_kernel"].transpose(3, 2, 0, 1))
    bias = [graph.constant(weights["bias"])] if layer.use_bias else []
    return _activated(graph, layer, graph.op("Conv", spread, pointwise, *bias))


def _window(layer: Any, size: tuple[int, int]) -> dict[str, Any]:
    padding = {"same": "SAME_UPPER", "valid": "VALID"}[layer.padding]
    return {"kernel_shape": list(size), "strides": list(layer.strides), "auto_pad": padding}


def _normalisation(graph: OnnxGraph, layer: Any, inputs: list[str]) -> str:
    weights = _weights(layer)
    channels = weights["moving_mean"].shape[0]
    gamma, beta = weights.get("gamma", np.ones(channels)), weights.get("beta", np.zeros(channels))
    values = [graph.constant(v) for v in (gamma, beta, weights["moving_mean"], weights["moving_variance"])]
    return graph.op("BatchNormalization", inputs[0], *values, epsilon=float(layer.epsilon))


def _max_pooling(graph: OnnxGraph, layer: Any, inputs: list[str]) -> str:
    return graph.op("MaxPool", inputs[0], **_window(layer, layer.pool_size))


def _zero_padding(graph: OnnxGraph, layer: Any, inputs: list[str]) -> str:
    (top, bottom), (left, right) = layer.padding
    pads = graph.constant([0, 0, top, left, 0, 0, bottom, right], np.int64)
    return graph.op("Pad", inputs[0], pads, graph.constant(0.0))


def _average(graph: OnnxGraph, layer: Any, inputs: list[str]) -> str:
    return graph.op("ReduceMean", inputs[0], graph.constant([2, 3], np.int64), keepdims=0)


def _dense(graph: OnnxGraph, layer: Any, inputs: list[str]) -> str:
    weights = _weights(layer)
    return _activated(
        graph, layer, graph.op("Gemm", inputs[0], graph.constant(weights["kernel"]), graph.constant(weights["bias"]))
    )


def _activated(graph: OnnxGraph, layer: Any, value: str) -> str:
    name = layer.activation.__name__
    if name == "linear":
        return value
    if name != "relu":
        raise ModelError(f"layer {layer.name}: activation {name} has no translation to ONNX")
    return graph.op("Relu", value)


Translation = Callable[[OnnxGraph, Any, list[str]], str]
TRANSLATIONS: dict[type[Any], Translation] = {
    layers.Rescaling: _rescaling,
    layers.Reshape: _to_image,
    layers.SeparableConv2D: _separable,
    layers.Conv2D: _convolution,
    layers.BatchNormalization: _normalisation,
    layers.MaxPooling2D: _max_pooling,
    layers.ZeroPadding2D: _zero_padding,
    layers.GlobalAveragePooling2D: _average,
    layers.Dense: _dense,
    layers.Activation: lambda graph, layer, inputs: _activated(graph, layer, inputs[0]),
    layers.Add: lambda graph, layer, inputs: graph.op("Sum", *inputs),
    layers.Concatenate: lambda graph, layer, inputs: graph.op("Concat", *inputs, axis=1),
    layers.Dropout: lambda graph, layer, inputs: inputs[0],
}
