from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bone_age.errors import ModelError


@pytest.mark.parametrize("application", ["Xception", "ResNet50"])
def test_a_folded_backbone_is_the_same_function(application: str) -> None:
    """Statistics as after a training: neither zero nor one, and a gamma of either sign."""
    import keras

    from bone_age.modelling.folding import without_batchnorm

    rng = np.random.default_rng(1)
    backbone = getattr(keras.applications, application)(weights=None, include_top=False, input_shape=(72, 72, 3))
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            moments = [rng.normal(0, 0.2, shape), rng.uniform(0.5, 2, shape)]
            layer.set_weights([rng.normal(1, 0.4, shape), rng.normal(0, 0.2, shape), *moments])
    folded = without_batchnorm(backbone)
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in folded.layers)
    assert {layer.name for layer in folded.layers} < {layer.name for layer in backbone.layers}
    images = rng.uniform(-1, 1, (2, 72, 72, 3)).astype(np.float32)
    expected = backbone.predict(images, verbose=0)
    np.testing.assert_allclose(folded.predict(images, verbose=0), expected, atol=2e-4 * np.abs(expected).max())


def test_a_folded_network_is_saved_and_loaded_as_itself(tmp_path: Path) -> None:
    import keras

    from bone_age.modelling.folding import without_batchnorm

    image = keras.Input((24, 24, 3), dtype="float32", name="image")
    out = keras.layers.Conv2D(8, 3, use_bias=False, name="a")(image)
    out = keras.layers.BatchNormalization()(out)
    out = keras.layers.SeparableConv2D(6, 3, padding="same", name="b")(keras.layers.Activation("relu")(out))
    backbone = keras.Model(image, keras.layers.BatchNormalization()(out))
    rng = np.random.default_rng(2)
    backbone.set_weights(
        [rng.uniform(0.3, 1.5, w.shape) * rng.choice([-1, 1]) ** (w.ndim > 1) for w in backbone.get_weights()]
    )
    folded = without_batchnorm(backbone)
    images = rng.uniform(-1, 1, (3, 24, 24, 3)).astype(np.float32)
    expected = backbone.predict(images, verbose=0)
    tolerance = 1e-4 * np.abs(expected).max()
    np.testing.assert_allclose(folded.predict(images, verbose=0), expected, atol=tolerance)
    folded.save(tmp_path / "folded.keras")
    loaded = keras.saving.load_model(tmp_path / "folded.keras")
    np.testing.assert_allclose(loaded.predict(images, verbose=0), expected, atol=tolerance)


def test_what_is_trained_is_what_was_trained_before() -> None:
    """Kernel, gamma and beta get the gradients that they have with the frozen normalisation in place."""
    import keras
    import tensorflow as tf

    from bone_age.modelling.folding import without_batchnorm

    image = keras.Input((12, 12, 2))
    out = keras.layers.SeparableConv2D(4, 3, use_bias=False, name="b")(image)
    backbone = keras.Model(image, keras.layers.BatchNormalization(name="bn")(out))
    rng = np.random.default_rng(3)
    backbone.get_layer("bn").set_weights([rng.uniform(0.5, 2, 4) for _ in range(4)])
    folded = without_batchnorm(backbone)
    images = tf.constant(rng.uniform(-1, 1, (2, 12, 12, 2)).astype(np.float32))

    def gradients(model: keras.Model) -> dict[str, np.ndarray]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(images, training=False) ** 2)
        found = tape.gradient(loss, [v.value for v in model.trainable_variables])
        names = [{"beta": "bias"}.get(v.name, v.name) for v in model.trainable_variables]
        return {name: gradient.numpy() for name, gradient in zip(names, found, strict=True)}

    before, after = gradients(backbone), gradients(folded)
    assert set(before) == set(after) == {"depthwise_kernel", "pointwise_kernel", "gamma", "bias"}
    for name, expected in before.items():
        np.testing.assert_allclose(after[name], expected, rtol=1e-3, atol=1e-4)


def test_a_normalisation_after_an_activation_is_not_folded() -> None:
    import keras

    from bone_age.modelling.folding import without_batchnorm

    image = keras.Input((8, 8, 3))
    normalised = keras.layers.BatchNormalization(name="odd")(keras.layers.Conv2D(4, 3, activation="relu")(image))
    with pytest.raises(ModelError, match="odd"):
        without_batchnorm(keras.Model(image, normalised))
