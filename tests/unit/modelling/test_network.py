from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bone_age.errors import InputError
from bone_age.serving.onnx_network import OnnxNetwork
from bone_age.settings import PlannedTraining, TrainingConfig

ARCHITECTURES = ("xception_single", "xception_multi", "resnet50_single", "resnet50_multi")
SIZE = 72


def plan_for(architecture: str, **training: Any) -> PlannedTraining:
    config = {"name": "x", "architectures": {architecture: {"image_size_px": SIZE, "head_units": 16} | training}}
    return TrainingConfig.model_validate(config).plans[0]


@pytest.fixture(scope="module")
def batch() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (4, SIZE, SIZE), dtype=np.uint8)
    return images, np.array([[1], [0], [1], [0]], np.float32)


def inputs(architecture: str, batch: tuple[np.ndarray, np.ndarray]) -> Any:
    return list(batch) if architecture.endswith("multi") else batch[0]


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_onnx_and_keras_give_the_same_months_for_uint8_radiographs(
    architecture: str, folded: bool, batch: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    from bone_age.modelling.export import export_onnx
    from bone_age.modelling.network import build_network

    network = build_network(plan_for(architecture, freeze_batchnorm=folded))
    months = network.full.predict(inputs(architecture, batch), verbose=0)
    assert months.shape == (4, 1)
    export_onnx(network, tmp_path / "model.onnx")
    output = OnnxNetwork(tmp_path / "model.onnx").run(*batch)
    np.testing.assert_allclose(output.bone_age_months, months[:, 0], atol=1e-3)
    assert output.pooled_features.shape == (4, 2048)
    assert output.attention.shape == (4, 3, 3)


def test_the_attention_map_is_the_gradient_of_months_through_the_head(
    batch: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    """Gradient of months by each place of the feature map, times the feature map, summed over channels."""
    tf = pytest.importorskip("tensorflow")
    from bone_age.modelling.export import export_onnx
    from bone_age.modelling.network import build_network

    network = build_network(plan_for("xception_multi"))
    feature_map = tf.constant(network.inner.predict(list(batch), verbose=0)[0])
    encoded = network.full.get_layer("sex_features")(batch[1])
    with tf.GradientTape() as tape:
        tape.watch(feature_map)
        pooled = tf.reduce_mean(feature_map, axis=[1, 2])
        hidden = network.full.get_layer("head_hidden")(tf.concat([pooled, encoded], axis=1))
        months = network.full.get_layer("bone_age_months")(network.full.get_layer("head_output")(hidden))
    gradient = tape.gradient(months, feature_map)
    places = feature_map.shape[1] * feature_map.shape[2]
    expected = tf.reduce_sum(gradient * feature_map, axis=-1).numpy() * places  # the mean divides by their number
    export_onnx(network, tmp_path / "model.onnx")
    np.testing.assert_allclose(OnnxNetwork(tmp_path / "model.onnx").run(*batch).attention, expected, atol=1e-2)


@pytest.mark.parametrize(
    ("architecture", "first_trained"),
    [
        ("xception_multi", "block13_sepconv1"),
        ("xception_single", "block5_sepconv1"),
        ("resnet50_multi", "conv5_block1_1_conv"),
    ],
)
def test_frozen_and_trained_part_together_are_the_whole(
    architecture: str, first_trained: str, batch: tuple[np.ndarray, np.ndarray]
) -> None:
    from bone_age.modelling.network import build_network

    network = build_network(plan_for(architecture, trainable_from=first_trained))
    assert network.frozen is not None
    features = network.frozen.predict(batch[0], verbose=0)
    parts = network.trained.predict([features, batch[1]] if architecture.endswith("multi") else features, verbose=0)
    np.testing.assert_allclose(parts, network.full.predict(inputs(architecture, batch), verbose=0), atol=1e-3)
    assert not any(layer.trainable_variables for layer in network.frozen.layers)


@pytest.mark.parametrize(
    ("training", "named"),
    [
        ({"trainable_from": "block99"}, "block99"),
        ({"trainable_from": "block1_conv1"}, "nothing lies below"),
        ({"weights": "/no/such/file.h5"}, "/no/such/file.h5"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(training: dict[str, str], named: str) -> None:
    from bone_age.modelling.network import build_network

    with pytest.raises(InputError, match=named):
        build_network(plan_for("xception_multi", **training))


def test_weights_of_another_backbone_are_refused(tmp_path: Path) -> None:
    import keras

    from bone_age.modelling.network import build_network

    other = tmp_path / "resnet.weights.h5"
    keras.applications.ResNet50(weights=None, include_top=False).save_weights(other)
    with pytest.raises(InputError, match="cannot be loaded"):
        build_network(plan_for("xception_single", weights=str(other)))
