"""The four architectures: a Keras Applications backbone, a small head, months out.

Scaling of pixels and of months lives inside the graph, so a saved model takes the uint8 radiograph that preprocessing
writes and answers in months, and no caller can normalise differently. The head is a plain two-layer perceptron: its
derivative is written down in closed form in `export.py`, which gives serving an attention map without gradients.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
from keras import layers

from bone_age.errors import InputError
from bone_age.modelling.folding import without_batchnorm
from bone_age.settings import PlannedTraining

# Label mean and SD of the RSNA training set, rounded; constants, so that models of different data sets stay comparable.
MONTHS_MEAN, MONTHS_SD = 127.0, 41.0
RESNET_BGR_MEAN = (103.939, 116.779, 123.68)  # what Keras' ResNet-50 ImageNet weights were trained with
SEX_UNITS = 32


@dataclass(frozen=True)
class Network:
    """One model seen three ways; the three share their layers and weights.

    Attributes:
        full: `image` uint8 [N, S, S] (and `sex` float [N, 1]) to months [N, 1].
        frozen: `image` to the features below the cut [N, h, w, C], to be cached; None when there are none to cache.
        trained: What `fit` updates: features (and sex) to months, or `full` itself.
        inner: `full`'s inputs to its feature map, pooled features, hidden units and months; for the export.
    """

    full: keras.Model
    frozen: keras.Model | None
    trained: keras.Model
    inner: keras.Model


def uses_sex(architecture: str) -> bool:
    """Whether the architecture takes the child's sex beside the image."""
    return architecture.endswith("_multi")


def build_network(plan: PlannedTraining) -> Network:
    """Build the architecture of a plan, weights loaded and the part below `trainable_from` frozen.

    The same plan gives the same weights, random ones too, however often it is built: frozen ones are kept nowhere else.

    Raises:
        InputError: The weights cannot be had or do not fit, or `trainable_from` names no layer.
    """
    keras.utils.set_random_seed(plan.seed)
    size = plan.preprocessing.image_size_px
    recipe = plan.training
    image = keras.Input((size, size), dtype="uint8", name="image")
    backbone = _backbone(plan.architecture, image)
    _load_weights(backbone, recipe.weights)
    if recipe.freeze_batchnorm:
        backbone = without_batchnorm(backbone)
    _set_momentum(backbone, recipe.batchnorm_momentum)
    feature_map = backbone.output
    pooled = layers.GlobalAveragePooling2D(name="pooled_features", dtype="float32")(feature_map)
    inputs = [image]
    head_input = pooled
    if uses_sex(plan.architecture):
        sex = keras.Input((1,), dtype="float32", name="sex")
        inputs.append(sex)
        encoded = layers.Dense(SEX_UNITS, activation="relu", name="sex_features", dtype="float32")(sex)
        head_input = layers.Concatenate(name="head_input", dtype="float32")([pooled, encoded])
    dropped = layers.Dropout(recipe.dropout, seed=plan.seed, name="head_dropout", dtype="float32")(head_input)
    hidden = layers.Dense(recipe.head_units, activation="relu", name="head_hidden", dtype="float32")(dropped)
    normalised = layers.Dense(1, name="head_output", dtype="float32")(hidden)
    months = layers.Rescaling(MONTHS_SD, MONTHS_MEAN, name="bone_age_months", dtype="float32")(normalised)
    full = keras.Model(inputs, months, name=plan.architecture)
    inner = keras.Model(inputs, [feature_map, pooled, hidden, months], name="inner")
    if recipe.trainable_from is None:
        return Network(full, None, full, inner)
    cut = _cut_below(backbone, recipe.trainable_from)
    frozen = keras.Model(image, cut, name="frozen")
    for layer in frozen.layers:
        layer.trainable = False
    if not recipe.cached_features:
        return Network(full, None, full, inner)
    trained = keras.Model([cut, *inputs[1:]], months, name="trained")
    return Network(full, frozen, trained, inner)


def _backbone(architecture: str, image: Any) -> keras.Model:
    """Grey uint8 to three scaled channels, then the Keras Applications network without its top."""
    size = image.shape[1]
    if architecture.startswith("xception"):
        grey = layers.Reshape((size, size, 1), name="grey")(layers.Rescaling(1 / 127.5, -1.0, name="scaled")(image))
        return keras.applications.Xception(
            weights=None, include_top=False, input_tensor=layers.Concatenate(name="channels")([grey] * 3)
        )
    centred = [layers.Rescaling(1.0, -mean, name=f"centred_{mean:.0f}")(image) for mean in RESNET_BGR_MEAN]
    channels = [layers.Reshape((size, size, 1))(channel) for channel in centred]
    return keras.applications.ResNet50(
        weights=None, include_top=False, input_tensor=layers.Concatenate(name="channels")(channels)
    )


def _load_weights(backbone: keras.Model, weights: str) -> None:
    """`none`, `imagenet` (Keras' own download) or the path of a `.weights.h5` or `.keras` file of this backbone."""
    if weights == "none":
        return
    application = keras.applications.Xception if "block14_sepconv2" in _names(backbone) else keras.applications.ResNet50
    try:
        if weights == "imagenet":
            donor = application(weights="imagenet", include_top=False)
        else:
            if not Path(weights).is_file():
                raise InputError(f"weights: {weights} is not a file")
            donor = application(weights=None, include_top=False)
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # Keras only warns of layers that it leaves as they were
                donor.load_weights(weights)
    except InputError:
        raise
    except Exception as error:  # Keras, h5py and urllib each raise their own
        raise InputError(f"weights: {weights} cannot be loaded: {' '.join(str(error).split())[:300]}") from error
    own = [layer for layer in backbone.layers if layer.weights]
    theirs = [layer for layer in donor.layers if layer.weights]
    for layer, source in zip(own, theirs, strict=True):
        layer.set_weights(source.get_weights())


def _names(model: keras.Model) -> set[str]:
    return {layer.name for layer in model.layers}


def _set_momentum(backbone: keras.Model, momentum: float) -> None:
    """Keras' momentum of 0.99 needs hundreds of steps before evaluation means anything; short runs lower it."""
    for layer in backbone.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = momentum


def _cut_below(backbone: keras.Model, first_trained: str) -> Any:
    """The last single tensor, at or before a layer, through which everything above it has to pass.

    Residual branches cross most places of the graph; only between blocks does one tensor carry all. Naming
    `block13_sepconv1` therefore trains block 13 whole, its shortcut included.
    """
    order = {layer.name: index for index, layer in enumerate(backbone.layers)}
    if first_trained not in order:
        known = ", ".join(name for name in order if name.endswith(("sepconv1", "_out", "_conv")))
        raise InputError(f"trainable_from: no layer '{first_trained}' in this backbone; known are for example {known}")
    limit = order[first_trained]
    best = None
    last_use: dict[int, int] = {}
    for index, layer in enumerate(backbone.layers):
        for tensor in _inputs_of(layer):
            last_use[id(tensor)] = index
    open_until = -1  # the furthest use of any tensor made so far, but for the newest
    has_weights = False
    for index, layer in enumerate(backbone.layers[:limit]):
        output = layer.output
        has_weights = has_weights or bool(layer.weights)
        if (
            has_weights
            and open_until <= index
            and getattr(output, "shape", None) is not None
            and len(output.shape) == 4
        ):
            best = output
        open_until = max(open_until, last_use.get(id(output), index))
    if best is None:
        raise InputError(f"trainable_from: nothing lies below '{first_trained}'; leave it out to train everything")
    return best


def _inputs_of(layer: Any) -> list[Any]:
    try:
        tensors = layer.input
    except AttributeError:
        return []
    return list(tensors) if isinstance(tensors, list | tuple) else [tensors]
