"""From a trained network to the one file that serving runs: ONNX with months, pooled features and attention.

The attention map is the head's derivative with respect to the pooled features, times the feature map: what each place
of the image adds to or takes from the estimate, in months. For a two-layer perceptron with ReLU that derivative is two
matrix products, so it is part of the graph and serving needs neither gradients nor TensorFlow (Zhou et al. 2016,
"Learning Deep Features for Discriminative Localization", extended to a head with one hidden layer).
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
from onnx import TensorProto

from bone_age.modelling.network import MONTHS_SD, Network
from bone_age.modelling.onnx_graph import OnnxGraph

FEATURES = "features"


def export_onnx(network: Network, path: Path) -> None:
    """Write `model.onnx`: `image` uint8 [N, S, S] (and `sex` float [N, 1]) to the three outputs of the contract.

    Raises:
        ModelError: The network has a layer that is not translated.
    """
    graph = OnnxGraph()
    feature_map, pooled, hidden, months = graph.add_network(network.inner)
    height, width, channels = network.inner.outputs[0].shape[1:]
    graph.add_output("bone_age_months", months, [1])
    graph.add_output("pooled_features", pooled, [channels])
    graph.add_output("attention", _attention(graph, network, feature_map, hidden, channels), [height, width])
    graph.write(path)


def _attention(graph: OnnxGraph, network: Network, feature_map: str, hidden: str, channels: int) -> str:
    """Months that each place contributes, [N, h, w]; `hidden` is the head's layer after its ReLU."""
    to_hidden = keras.ops.convert_to_numpy(network.full.get_layer("head_hidden").kernel)[:channels]
    to_output = keras.ops.convert_to_numpy(network.full.get_layer("head_output").kernel)
    active = graph.op("Cast", graph.op("Greater", hidden, graph.constant(0.0)), to=TensorProto.FLOAT)
    weighed = graph.op("Mul", active, graph.constant(to_output.T))
    per_channel = graph.op("MatMul", weighed, graph.constant(MONTHS_SD * to_hidden.T))
    broadcast = graph.op("Unsqueeze", per_channel, graph.constant([2, 3], np.int64))
    contributions = graph.op("Mul", feature_map, broadcast)
    return graph.op("ReduceSum", contributions, graph.constant([1], np.int64), keepdims=0)


def export_features(frozen: keras.Model, path: Path) -> None:
    """Write the frozen part of a network: `image` uint8 [N, S, S] to `features` float [N, h, w, C]."""
    graph = OnnxGraph()
    (value,) = graph.add_network(frozen)
    graph.add_output(FEATURES, graph.op("Transpose", value, perm=[0, 2, 3, 1]), list(frozen.output.shape[1:]))
    graph.write(path)
