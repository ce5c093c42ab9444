from __future__ import annotations

from pathlib import Path

import numpy as np

from bone_age.modelling.half_weights import store_weights_as_half
from bone_age.modelling.trained import TrainedModel
from bone_age.serving.onnx_network import OnnxNetwork


def test_half_the_bytes_give_almost_the_same_months(tiny_model: TrainedModel, tmp_path: Path) -> None:
    half = tmp_path / "half.onnx"
    store_weights_as_half(tiny_model.onnx, half)
    assert half.stat().st_size < 0.52 * tiny_model.onnx.stat().st_size
    images = np.random.default_rng(1).integers(0, 256, (8, 72, 72), dtype=np.uint8)
    sex = np.ones((8, 1), np.float32)
    full, stored = OnnxNetwork(tiny_model.onnx).run(images, sex), OnnxNetwork(half).run(images, sex)
    assert 0 < np.abs(full.bone_age_months - stored.bone_age_months).max() < 0.5
    assert full.attention.shape == stored.attention.shape
    assert full.pooled_features.shape == stored.pooled_features.shape
