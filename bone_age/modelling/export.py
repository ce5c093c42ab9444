"""From a trained network to the one file that serving runs: ONNX with months, pooled features and attention.

The attention map is the head's derivative with respect to the pooled features, times the feature map: what each place
of the image adds to or takes from the estimate, in months. For a two-layer perceptron with ReLU that derivative is two
matrix products, so it is part of the graph and serving needs neither gradients nor TensorFlow (Zhou et al. 2016,
"Learning Deep Features for Discriminative Localization", extended to a head with one hidden layer).
"""

from __future__ import annotations

import contextlib
import io
import logging
from pathlib import Path
from typing import Any

import keras
from keras import ops

from bone_age.errors import ModelError
from bone_age.modelling.network import MONTHS_SD, Network

OPSET = 18
OUTPUTS = ("bone_age_months", "pooled_features", "attention")


class _Exported(keras.Model):  # type: ignore[misc]
    """A network with the three outputs of the contract."""

    def __init__(self, network: Network) -> None:
        super().__init__(name="exported")
        self.inner = network.inner
        self.head_hidden = network.full.get_layer("head_hidden")
        self.head_output = network.full.get_layer("head_output")

    def call(self, inputs: Any) -> dict[str, Any]:
        feature_map, pooled, head_input, months = self.inner(inputs, training=False)
        active = ops.cast(self.head_hidden(head_input) > 0, "float32")
        from_hidden = active * ops.transpose(self.head_output.kernel)
        channels = pooled.shape[-1]
        per_channel = MONTHS_SD * ops.matmul(from_hidden, ops.transpose(self.head_hidden.kernel[:channels]))
        weighted = ops.cast(feature_map, "float32") * per_channel[:, None, None, :]
        return {
            "bone_age_months": months,
            "pooled_features": pooled,
            "attention": ops.sum(weighted, axis=-1),
        }


def export_onnx(network: Network, path: Path) -> None:
    """Write `model.onnx`: `image` uint8 [N, S, S] (and `sex` float [N, 1]) to the three outputs.

    Raises:
        ModelError: The written graph has not the inputs and outputs of the contract.
    """
    exported = _Exported(network)
    inputs = network.full.inputs
    example = [ops.zeros((1, *tensor.shape[1:]), dtype=tensor.dtype) for tensor in inputs]
    exported(example if len(example) > 1 else example[0])
    signature = [keras.InputSpec(shape=(None, *t.shape[1:]), dtype=t.dtype, name=t.name) for t in inputs]
    export_model(exported, path, signature)
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    names = {value.name for value in graph.input} | {value.name for value in graph.output}
    wanted = {tensor.name for tensor in inputs} | set(OUTPUTS)
    if names != wanted:
        raise ModelError(f"{path}: exported graph has {sorted(names)}, expected {sorted(wanted)}")


def export_model(model: keras.Model, path: Path, signature: list[keras.InputSpec]) -> None:
    """Keras' ONNX export without its chatter."""
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):
        argument = [signature] if len(signature) > 1 else signature
        model.export(path, format="onnx", input_signature=argument, opset_version=OPSET, verbose=False)
