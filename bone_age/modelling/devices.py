"""What depends on the Keras backend: repeatable kernels, several devices. The one place that names them."""

from __future__ import annotations

import ctypes
from contextlib import AbstractContextManager, nullcontext

import keras


def keep_freed_memory() -> None:
    """Ask glibc to reuse what a training step frees instead of giving it back to the kernel after every step.

    TensorFlow's host memory comes from malloc; by default each step maps and faults its buffers anew. On two cores this
    took 6 % of the time of an Xception step, and half of it where page faults are dear (benchmarks/training_step.py).
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return  # another C library
    for option, value in ((-1, 2**31 - 1), (-3, 2**30), (-8, 1)):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX
        mallopt(option, value)


def make_repeatable(seed: int) -> None:
    """Seed Python, NumPy and the backend, and ask the backend for kernels that give the same sum each time."""
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def accelerators() -> list[str]:
    """Names of the accelerators seen, empty on a machine with CPUs only."""
    return [name for name in keras.distribution.list_devices() if not name.startswith("cpu")]


def across_devices() -> AbstractContextManager[object]:
    """A scope in which a model is mirrored over all accelerators; does nothing with fewer than two."""
    devices = accelerators()
    if len(devices) < 2 or keras.backend.backend() != "tensorflow":
        return nullcontext()
    import tensorflow as tf

    scope: AbstractContextManager[object] = tf.distribute.MirroredStrategy().scope()
    return scope
