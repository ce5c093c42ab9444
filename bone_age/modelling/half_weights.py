"""An ONNX file at half its size: weights stored as float16, cast back when it is loaded.

Arithmetic stays float32: ONNX Runtime folds the casts into constants while it loads, so speed is that of the full file
and only the rounding of the weights (a relative 0.0005) is left in the answers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SMALLEST = 1024  # values; biases and shapes stay as they are


def store_weights_as_half(source: Path, target: Path) -> None:
    """Write `source` with every large float32 weight stored as float16."""
    model = onnx.load(source)
    kept, casts = [], []
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype != np.float32 or array.size < SMALLEST:
            kept.append(tensor)
            continue
        stored = f"{tensor.name}_half"
        kept.append(numpy_helper.from_array(array.astype(np.float16), stored))
        casts.append(helper.make_node("Cast", [stored], [tensor.name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, target)
