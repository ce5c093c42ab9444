"""A model version as a folder that runs without MLflow, whole or small enough to hand round.

The small form keeps what answering needs and leaves out the Keras model; its weights are stored as float16 and its
arithmetic is still float32 (`modelling/half_weights.py`).
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

from bone_age.errors import InputError
from bone_age.serving.bundle import CHECKSUMS, MODEL_KERAS, MODEL_ONNX, Bundle, load_bundle, write_checksums


def export_bundle(bundle: Bundle, out: Path, half: bool = False) -> Bundle:
    """Copy a verified bundle to `out`, which appears whole or not at all.

    Args:
        half: Store weights as float16 and leave the Keras model out.
    Raises:
        InputError: `out` exists and is not empty, or cannot be written.
    """
    require_free(out)

    def store_as_half(folder: Path) -> None:
        from bone_age.modelling.half_weights import store_weights_as_half

        store_weights_as_half(bundle.onnx, folder / MODEL_ONNX)

    if half:
        return write_whole_folder(bundle, out, store_as_half, left_out=(MODEL_KERAS,))
    return write_whole_folder(bundle, out)


def require_free(out: Path) -> None:
    """Raise InputError where `out` is something else than an empty folder."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: exists already and is not an empty folder")


def write_whole_folder(
    bundle: Bundle, out: Path, change: Callable[[Path], None] = lambda folder: None, left_out: Collection[str] = ()
) -> Bundle:
    """Copy a bundle beside `out`, change the copy, and put it in its place when it verifies."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as scratch:
            folder = Path(scratch) / "bundle"
            folder.mkdir()
            for name in json.loads((bundle.folder / CHECKSUMS).read_text()):
                if name not in left_out:
                    shutil.copyfile(bundle.folder / name, folder / name)
            change(folder)
            write_checksums(folder)
            load_bundle(folder)
            if out.exists():
                out.rmdir()
            os.replace(folder, out)
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error.strerror}") from None
    return load_bundle(out)
