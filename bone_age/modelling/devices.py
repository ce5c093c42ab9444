"""What depends on the Keras backend: repeatable kernels, several devices. The one place that names them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import keras


def empty_variables(model: keras.Model) -> None:
    """Drop the weights and optimizer slots of a model that is done with; it cannot be used afterwards.

    TensorFlow 2.21 keeps the graph of a training step when its model is gone, and the graph keeps every variable: 0.35
    GB for each Xception or ResNet-50 trained in one process.
    """
    if keras.backend.backend() != "tensorflow" or len(accelerators()) > 1:
        return
    import tensorflow as tf

    for variable in {id(v): v for v in (*model.variables, *model.optimizer.variables)}.values():
        nothing = tf.zeros([], variable.value.dtype)
        tf.raw_ops.AssignVariableOp(resource=variable.value.handle, value=nothing)


def make_repeatable(seed: int) -> None:
    """Seed Python, NumPy and the backend, and ask the backend for kernels that give the same sum each time."""
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def accelerators() -> list[str]:
    """Names of the accelerators seen, empty on a machine with CPUs only."""
    if keras.backend.backend() == "torch":  # which Keras does not list
        import torch

        return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return [name for name in keras.distribution.list_devices() if not name.startswith("cpu")]


def across_devices() -> AbstractContextManager[object]:
    """A scope in which a model is mirrored over all accelerators; does nothing with fewer than two."""
    devices = accelerators()
    if len(devices) < 2 or keras.backend.backend() != "tensorflow":
        return nullcontext()
    import tensorflow as tf

    scope: AbstractContextManager[object] = tf.distribute.MirroredStrategy().scope()
    return scope
