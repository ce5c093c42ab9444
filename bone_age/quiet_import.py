"""Libraries that talk too much: what they say is no error of the user's, and `--debug` shows it."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quietly() -> Iterator[None]:
    """Send the process's stderr (the file descriptor, not Python's object) nowhere for a while.

    TensorFlow's C++ code writes a dozen lines there when it is imported, before any of its settings is read.
    """
    if os.environ.get("BONE_AGE_DEBUG"):
        yield
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def silence_libraries() -> None:
    """ZenML, MLflow and Great Expectations log every failure with its traceback and much beside."""
    if not os.environ.get("BONE_AGE_DEBUG"):
        logging.disable(logging.CRITICAL)
        warnings.simplefilter("ignore")
