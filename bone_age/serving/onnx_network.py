"""The exported network: arrays in, arrays out, through ONNX Runtime alone."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from bone_age.errors import ModelError
from bone_age.freed_memory import give_back_freed_memory

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class NetworkOutput:
    """What one batch of N images gave: months [N], pooled features [N, C], attention [N, h, w] in months."""

    bone_age_months: Floats
    pooled_features: Floats
    attention: Floats


class OnnxNetwork:
    """One `model.onnx`, ready to run.

    ONNX Runtime's arena is off: it keeps what a run needed, 50 MB a network, and gains no time at this size.

    Raises:
        ModelError: The file is absent or is no usable graph.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or os.cpu_count() or 1
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = False
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no common type
            raise ModelError(f"{path}: cannot be loaded: {' '.join(str(error).split())[:200]}") from None
        give_back_freed_memory()  # loading takes twice the weights
        inputs = {value.name: value.shape for value in self._session.get_inputs()}
        self.uses_sex = "sex" in inputs
        self.image_size_px = int(inputs["image"][1])

    def run(self, images: npt.NDArray[np.uint8], sex: Floats, flip_averaging: bool = False) -> NetworkOutput:
        """Run a batch.

        Args:
            images: uint8 [N, S, S].
            sex: float32 [N, 1], male 1, female 0; unused by `single` models.
            flip_averaging: Months are the mean over image and mirror image; features and attention are the image's.
        """
        if flip_averaging:
            upright, mirrored = self.run(images, sex), self.run(images[:, :, ::-1], sex)
            mean: Floats = np.float32(0.5) * (upright.bone_age_months + mirrored.bone_age_months)
            return replace(upright, bone_age_months=mean)
        feed: dict[str, Any] = {"image": np.ascontiguousarray(images)}
        if self.uses_sex:
            feed["sex"] = sex
        names = ["bone_age_months", "pooled_features", "attention"]
        months, pooled, attention = self._session.run(names, feed)
        return NetworkOutput(months[:, 0], pooled, attention)

    def features(self, images: npt.NDArray[np.uint8], batch_size: int = 32) -> Floats:
        """Pooled features [N, C] of many images, read a batch at a time; they do not depend on the sex."""
        slices = [slice(start, start + batch_size) for start in range(0, len(images), batch_size)]
        parts = [self.run(batch, np.zeros((len(batch), 1), np.float32)) for batch in map(images.__getitem__, slices)]
        return np.concatenate([part.pooled_features for part in parts])

    def predict_months(
        self, images: npt.NDArray[np.uint8], sex: Floats, flip_averaging: bool = False, batch_size: int = 32
    ) -> Floats:
        """Bone ages [N] of many images, read a batch at a time."""
        slices = [slice(start, start + batch_size) for start in range(0, len(images), batch_size)]
        parts = [self.run(np.asarray(images[rows]), sex[rows], flip_averaging).bone_age_months for rows in slices]
        return np.concatenate(parts) if parts else np.empty(0, np.float32)
