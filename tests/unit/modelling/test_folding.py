from __future__ import annotations

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


def test_a_normalisation_after_an_activation_is_not_folded() -> None:
    import keras

    from bone_age.modelling.folding import without_batchnorm

    image = keras.Input((8, 8, 3))
    normalised = keras.layers.BatchNormalization(name="odd")(keras.layers.Conv2D(4, 3, activation="relu")(image))
    with pytest.raises(ModelError, match="odd"):
        without_batchnorm(keras.Model(image, normalised))
