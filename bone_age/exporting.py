"""A model version as a folder that runs without MLflow, whole or small enough to hand round.

The small form keeps what answering needs and leaves out the Keras model; its weights are stored as float16 and its
arithmetic is still float32 (`modelling/half_weights.py`).
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
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
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: exists already and is not an empty folder")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as scratch:
            folder = Path(scratch) / "bundle"
            folder.mkdir()
            for name in json.loads((bundle.folder / CHECKSUMS).read_text()):
                if not (half and name == MODEL_KERAS):
                    shutil.copyfile(bundle.folder / name, folder / name)
            if half:
                from bone_age.modelling.half_weights import store_weights_as_half

                store_weights_as_half(bundle.onnx, folder / MODEL_ONNX)
            write_checksums(folder)
            load_bundle(folder)
            if out.exists():
                out.rmdir()
            os.replace(folder, out)
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error.strerror}") from None
    return load_bundle(out)
