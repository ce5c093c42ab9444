"""Features of the frozen part of a network, computed once and kept.

What lies below `trainable_from` gives the same numbers in every epoch, so it is run once, through ONNX Runtime (about
three times as fast as Keras' predict on a CPU), for each image and, where the recipe mirrors, for its mirror image.
Stored as float16: half the disk, and the rounding is far below the noise of dropout. Other augmentation cannot reach
through cached features; a recipe that needs it trains from a lower layer on the fly.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from bone_age.data.array_file import create_array
from bone_age.data.prepared import PreparedImages
from bone_age.modelling.devices import accelerators
from bone_age.modelling.export import FEATURES, export_features
from bone_age.progress import bar

BATCH = 16


def frozen_features(
    frozen: keras.Model, images: PreparedImages, cache: Path, with_mirror: bool
) -> list[npt.NDArray[np.float16]]:
    """Memory-mapped float16 [N, h, w, C] arrays: of the images, and of their mirror images if asked for.

    A killed computation goes on where it stopped; a finished one is read from the cache.
    """
    key = _key(frozen, images)
    return [_cached(frozen, images, cache / key, mirrored) for mirrored in ([False, True] if with_mirror else [False])]


def _key(frozen: keras.Model, images: PreparedImages) -> str:
    digest = hashlib.sha256(images.digest.encode())
    digest.update(frozen.layers[-1].name.encode())
    for array in frozen.get_weights():
        digest.update(array.tobytes())
    return digest.hexdigest()[:24]


def _cached(frozen: keras.Model, images: PreparedImages, folder: Path, mirrored: bool) -> npt.NDArray[np.float16]:
    folder.mkdir(parents=True, exist_ok=True)
    name = "mirrored" if mirrored else "upright"
    target, state = folder / f"{name}.npy", folder / f"{name}.json"
    source = images.images
    shape = (len(source), *frozen.output.shape[1:])
    if not target.exists():
        create_array(target, np.float16, shape)
    done = json.loads(state.read_text())["done"] if state.exists() else 0
    if done < len(source):
        _compute(frozen, source, mirrored, target, state, done)
    features: npt.NDArray[np.float16] = np.load(target, mmap_mode="r")
    return features


def _compute(
    frozen: keras.Model, source: npt.NDArray[np.uint8], mirrored: bool, target: Path, state: Path, done: int
) -> None:
    run = _session(frozen, target.parent)
    features = np.load(target, mmap_mode="r+")
    label = "features of the frozen part" + (", mirrored" if mirrored else "")
    with bar() as progress:
        task = progress.add_task(label, total=len(source), completed=done, note="")
        for start in range(done, len(source), BATCH):
            batch = np.asarray(source[start : start + BATCH])
            features[start : start + len(batch)] = run(batch[:, :, ::-1] if mirrored else batch)
            progress.advance(task, len(batch))
            if start // BATCH % 32 == 31:
                _note(features, state, start + len(batch))
    _note(features, state, len(source))


def _note(features: Any, state: Path, done: int) -> None:
    features.flush()
    temporary = state.with_suffix(".tmp")
    temporary.write_text(json.dumps({"done": done}))
    temporary.replace(state)


def _session(frozen: keras.Model, folder: Path) -> Callable[[npt.NDArray[np.uint8]], Any]:
    """ONNX Runtime where there are only CPUs, else Keras on the accelerator."""
    if accelerators():
        return lambda batch: frozen.predict_on_batch(np.ascontiguousarray(batch))
    import onnxruntime

    path = folder / "frozen.onnx"
    export_features(frozen, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda batch: session.run([FEATURES], {"image": np.ascontiguousarray(batch)})[0]
