"""The exported attention map against Grad-CAM, which Keras computes with real gradients, on ten hands.

Grad-CAM (Selvaraju et al., ICCV 2017): a channel's weight is the mean over places of the derivative of the answer by
that channel's map; the weighted maps are added up, and what is negative is dropped. The exported map is that sum before
anything is dropped, times the number of places, as the pooled features are means: months, not months per place.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bone_age.data.prepared import PreparedImages
from bone_age.modelling.trained import TrainedModel
from bone_age.serving.onnx_network import OnnxNetwork
from bone_age.settings import TrainingConfig

N = 10


def grad_cam(model: Any, inputs: list[npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
    """Before its ReLU, [N, h, w], by the gradient of the whole Keras model."""
    import keras

    tf = pytest.importorskip("tensorflow")
    with_maps = keras.Model(model.inputs, [model.get_layer("pooled_features").input, model.output])
    with tf.GradientTape() as tape:
        maps, months = with_maps(inputs if len(inputs) > 1 else inputs[0], training=False)
    weights = tf.reduce_mean(tape.gradient(months, maps), axis=(1, 2), keepdims=True)
    return np.asarray(tf.reduce_sum(weights * maps, axis=-1))


def assert_is_grad_cam(exported: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> None:
    places = exported.shape[1] * exported.shape[2]
    assert exported.shape == expected.shape == (N, 3, 3)
    tolerance = 1e-3 * float(np.abs(exported).max())
    assert tolerance > 0
    np.testing.assert_allclose(exported, places * expected, atol=tolerance)
    np.testing.assert_allclose(np.maximum(exported, 0), places * np.maximum(expected, 0), atol=tolerance)
    correlations = [
        np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in zip(exported, expected, strict=True)
    ]
    assert min(correlations) > 0.9999


def test_of_a_trained_model_with_sex_it_is_grad_cam(tiny_model: TrainedModel, tiny_images: PreparedImages) -> None:
    import keras

    images, sex = np.asarray(tiny_images.images[:N]), (np.arange(N) % 2).astype(np.float32)[:, None]
    exported = OnnxNetwork(tiny_model.onnx).run(images, sex).attention
    model = keras.models.load_model(tiny_model.folder / "model.keras")
    assert_is_grad_cam(exported, grad_cam(model, [images, sex]))


@pytest.mark.parametrize("architecture", ["xception_single", "resnet50_single"])
def test_of_a_model_without_sex_it_is_grad_cam(
    architecture: str, tiny_config: TrainingConfig, tiny_images: PreparedImages, tmp_path: Path
) -> None:
    from bone_age.modelling.export import export_onnx
    from bone_age.modelling.network import build_network

    network = build_network(next(plan for plan in tiny_config.plans if plan.name == architecture))
    export_onnx(network, tmp_path / "model.onnx")
    images = np.asarray(tiny_images.images[:N])
    exported = OnnxNetwork(tmp_path / "model.onnx").run(images, np.zeros((N, 1), np.float32)).attention
    assert_is_grad_cam(exported, grad_cam(network.full, [images]))
