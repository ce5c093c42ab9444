"""An ONNX file whose convolutions run on eight-bit integers: half the time where the processor has instructions for it.

Weights are rounded to int8, a scale for each output channel; what goes in and out of a convolution to uint8, between
the smallest and the largest value that it had on a few dozen training radiographs. All else stays float32. ONNX Runtime
does the rounding (method: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference"). Additions stay float32: in eight bits they gained a tenth of the time, and the
largest change of an answer grew by two thirds. Seven-bit weights, which any processor can add up without overflow, cost
0.13 months of MAE (docs/experiments.md).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

CALIBRATION_ROWS = 64
BATCH = 4


def store_as_int8(source: Path, target: Path, images: npt.NDArray[np.uint8], sex: npt.NDArray[np.float32]) -> None:
    """Write `source` with its convolutions in eight bits.

    Args:
        images: Preprocessed training radiographs, uint8 [N, S, S], whose values set the scales.
        sex: float32 [N, 1], male 1; unused where the network takes none.
    """
    with tempfile.TemporaryDirectory() as scratch:
        plain = Path(scratch) / "plain.onnx"
        input_names = _write_plain(source, plain)
        quantize_static(
            plain,
            target,
            _Batches({"image": images, "sex": sex}, input_names),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )


def _write_plain(source: Path, target: Path) -> list[str]:
    """Casts of stored float16 weights folded away, every node with a name; returns the inputs' names."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    model = onnx.load(target)
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{number}"
    add_pre_process_metadata(model)
    onnx.save(model, target)
    return [value.name for value in session.get_inputs()]


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, arrays: dict[str, npt.NDArray[Any]], names: list[str]) -> None:
        self._arrays = {name: arrays[name] for name in names}
        self._start = 0

    def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
        rows = slice(self._start, self._start + BATCH)
        self._start += BATCH
        batch = {name: np.ascontiguousarray(array[rows]) for name, array in self._arrays.items()}
        return batch if len(batch["image"]) else None
