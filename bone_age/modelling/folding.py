"""Batch normalisation with frozen statistics, folded into the convolution before it.

With its statistics fixed, batch normalisation is one factor and one offset a channel, which the convolution's kernel
can carry. Keras computes it as passes over the activations instead, forwards and backwards: in bfloat16, where the
convolutions themselves are fast, a full training step of Xception at 299 px takes 0.78 of the time without them, in
float32 the same time (benchmarks/training_precision.py).

What is trained stays what it was: kernel, gamma and beta, multiplied anew in every step, which costs a pass over the
weights. Training the product itself would be simpler, but learns more slowly at the same learning rate, since no one
value moves a whole channel any more (docs/experiments.md).
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops

from bone_age.errors import ModelError

Floats = npt.NDArray[np.float32]


class _Normalised:
    """What both kinds of convolution share; the base class's `bias` is the normalisation's beta."""

    kernel_names: tuple[str, ...]

    def __init__(self, epsilon: float = 1e-3, **config: Any) -> None:
        super().__init__(**config)
        self.epsilon = epsilon

    def build(self: Any, input_shape: Any) -> None:
        super().build(input_shape)  # type: ignore[misc]
        channels = (self.filters,)
        self.gamma = self.add_weight(shape=channels, initializer="ones", name="gamma")
        self.moving_mean = self.add_weight(shape=channels, initializer="zeros", trainable=False, name="moving_mean")
        self.moving_variance = self.add_weight(
            shape=channels, initializer="ones", trainable=False, name="moving_variance"
        )

    def get_config(self) -> dict[str, Any]:
        config: dict[str, Any] = super().get_config()  # type: ignore[misc]
        return config | {"epsilon": self.epsilon}

    def save_own_variables(self: Any, store: Any) -> None:
        layers.Layer.save_own_variables(self, store)  # the convolution's own would leave out gamma and the statistics

    def load_own_variables(self: Any, store: Any) -> None:
        layers.Layer.load_own_variables(self, store)

    def factor_and_offset(self: Any) -> tuple[Any, Any]:
        """What each channel is multiplied with, and what is added to it."""
        factor = self.gamma * ops.rsqrt(self.moving_variance + self.epsilon)
        return factor, self.bias - self.moving_mean * factor

    def folded(self: Any) -> dict[str, Floats]:
        """Weights of a plain layer that is the same function: kernels, the last one multiplied, and bias."""
        values = {v.name: ops.convert_to_numpy(v) for v in self.weights}
        factor = values["gamma"] / np.sqrt(values["moving_variance"] + self.epsilon)
        kernels = {name: values[name] for name in self.kernel_names}
        last = self.kernel_names[-1]
        bias = values["bias"] - values["moving_mean"] * factor
        folded: dict[str, Floats] = kernels | {last: kernels[last] * factor, "bias": bias}
        return folded


@keras.saving.register_keras_serializable("bone_age")
class NormalisedConv2D(_Normalised, layers.Conv2D):  # type: ignore[misc]
    """A convolution and the frozen normalisation after it, as one convolution."""

    kernel_names = ("kernel",)

    def call(self, inputs: Any) -> Any:
        factor, offset = self.factor_and_offset()
        return ops.conv(inputs, self.kernel * factor, strides=list(self.strides), padding=self.padding) + offset


@keras.saving.register_keras_serializable("bone_age")
class NormalisedSeparableConv2D(_Normalised, layers.SeparableConv2D):  # type: ignore[misc]
    """A depthwise separable convolution and the frozen normalisation after it, as one."""

    kernel_names = ("depthwise_kernel", "pointwise_kernel")

    def call(self, inputs: Any) -> Any:
        factor, offset = self.factor_and_offset()
        kernels = (self.depthwise_kernel, self.pointwise_kernel * factor)
        return ops.separable_conv(inputs, *kernels, strides=self.strides, padding=self.padding) + offset


def without_batchnorm(backbone: keras.Model) -> keras.Model:
    """The same function of the same input, with every normalisation taken into the convolution before it.

    Layers keep their names; `backbone` is left as it is.

    Raises:
        ModelError: A normalisation follows something other than a convolution without activation.
    """
    normalisations = {_convolution_before(layer).name: layer for layer in backbone.layers if _normalises(layer)}
    tensors: dict[int, Any] = {id(tensor): tensor for tensor in backbone.inputs}
    for depth in sorted(backbone._nodes_by_depth, reverse=True):
        for node in backbone._nodes_by_depth[depth]:
            if node.is_input:
                continue
            inputs = [tensors[id(tensor)] for tensor in node.input_tensors]
            output = inputs[0]
            if not _normalises(node.operation):
                normalisation = normalisations.get(node.operation.name)
                layer = _rebuilt(node.operation, normalisation)
                output = layer(inputs if len(inputs) > 1 else inputs[0])
                layer.set_weights(_joined(node.operation, normalisation))
            tensors[id(node.outputs[0])] = output
    return keras.Model(backbone.inputs, tensors[id(backbone.output)], name=backbone.name)


def _normalises(layer: Any) -> bool:
    return isinstance(layer, layers.BatchNormalization)


def _convolution_before(normalisation: Any) -> Any:
    layer = normalisation.input._keras_history.operation
    if not isinstance(layer, layers.Conv2D | layers.SeparableConv2D) or layer.activation.__name__ != "linear":
        raise ModelError(f"layer {normalisation.name} follows {layer.name}, into which it cannot be folded")
    return layer


def _rebuilt(layer: Any, normalisation: Any) -> Any:
    if normalisation is None:
        return type(layer).from_config(layer.get_config())
    kind = NormalisedSeparableConv2D if isinstance(layer, layers.SeparableConv2D) else NormalisedConv2D
    return kind(epsilon=normalisation.epsilon, **layer.get_config() | {"use_bias": True})


def _joined(layer: Any, normalisation: Any) -> list[Floats]:
    """Weights of a rebuilt layer; a bias of the convolution's own is a shift of the mean that is taken off."""
    weights: list[Floats] = layer.get_weights()
    if normalisation is None:
        return weights
    gamma, beta, mean, variance = normalisation.get_weights()
    own_bias = weights.pop() if layer.use_bias else 0.0
    return [*weights, beta, gamma, mean - own_bias, variance]
