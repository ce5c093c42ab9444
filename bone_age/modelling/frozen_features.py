"""Features of the frozen part of a network, computed once and kept.

What lies below `trainable_from` gives the same numbers in every epoch, so it is run once for each image and, as
augmentation cannot reach through cached features, once more for each of a few changed copies of the training images;
a training step then picks one of them. In float32 it runs through ONNX Runtime (about three times as fast as Keras'
predict on a CPU), in bfloat16 through Keras (1.7 times as fast as that, where the processor has it). Stored as float16:
half the disk, and the rounding is far below the noise of dropout.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from bone_age.data.array_file import create_array
from bone_age.data.prepared import PreparedImages
from bone_age.modelling.augmentation import augment
from bone_age.modelling.devices import accelerators
from bone_age.modelling.export import FEATURES, export_features
from bone_age.progress import bar
from bone_age.settings import AugmentationSettings, PlannedTraining, digest_of

BATCH = 16


def frozen_features(
    frozen: keras.Model, images: PreparedImages, cache: Path, plan: PlannedTraining
) -> list[npt.NDArray[np.float16]]:
    """Memory-mapped float16 [N, h, w, C] arrays: of the images, then of each changed copy.

    Copies are made of training images only; the other rows of theirs are never read. A killed computation goes on where
    it stopped; a finished one is read from the cache; of two trainings that want the same, one computes it.
    """
    recipe = plan.training
    views = [View("upright")]
    if recipe.augmentation is not None:
        views += [View("mirrored", mirror=True)] if recipe.augmentation.flip else []
        views += [View(f"changed-{n}", recipe.augmentation, plan.seed + n) for n in range(1, recipe.cached_views + 1)]
    folder = cache / _key(frozen, images)
    folder.mkdir(parents=True, exist_ok=True)
    return [_cached(frozen, images, folder, view) for view in views]


@dataclass(frozen=True)
class View:
    """One copy of every image: as it is, mirrored, or changed at random by its row's number and a seed."""

    name: str
    changes: AugmentationSettings | None = None
    seed: int = 0
    mirror: bool = False

    @property
    def file(self) -> str:
        """Names the cached array by everything that decides it beside network and images."""
        if self.changes is None:
            return self.name
        return f"{self.name}-{digest_of({'changes': self.changes.model_dump(), 'seed': self.seed})[:12]}"

    def of(self, row: int, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        if self.changes is not None:
            return augment(image, self.changes, np.random.default_rng([self.seed, row]))
        return image[:, ::-1] if self.mirror else image


def _key(frozen: keras.Model, images: PreparedImages) -> str:
    digest = hashlib.sha256(images.digest.encode())
    digest.update(f"{frozen.layers[-1].name} {frozen.output.dtype}".encode())
    for array in frozen.get_weights():
        digest.update(array.tobytes())
    return digest.hexdigest()[:24]


def _cached(frozen: keras.Model, images: PreparedImages, folder: Path, view: View) -> npt.NDArray[np.float16]:
    target, state = folder / f"{view.file}.npy", folder / f"{view.file}.json"
    rows = np.arange(len(images.images))
    if view.name != "upright":
        rows = images.split("train")["array_row"].to_numpy(np.int64)
    with (folder / f"{view.file}.lock").open("wb") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # another training that wants the same waits, and then reads them
        if not target.exists():
            create_array(target, np.float16, (len(images.images), *frozen.output.shape[1:]))
        done = json.loads(state.read_text())["done"] if state.exists() else 0
        if done < len(rows):
            _compute(frozen, images.images, rows, view, target, state, done)
    features: npt.NDArray[np.float16] = np.load(target, mmap_mode="r")
    return features


def _compute(
    frozen: keras.Model,
    source: npt.NDArray[np.uint8],
    rows: npt.NDArray[np.int64],
    view: View,
    target: Path,
    state: Path,
    done: int,
) -> None:
    run = _session(frozen, target.parent)
    features = np.load(target, mmap_mode="r+")
    with bar() as progress:
        task = progress.add_task(f"features, {view.name} images", total=len(rows), completed=done, note="")
        for start in range(done, len(rows), BATCH):
            chunk = rows[start : start + BATCH]
            features[chunk] = run(np.stack([view.of(int(row), source[row]) for row in chunk]))
            progress.advance(task, len(chunk))
            if start // BATCH % 32 == 31:
                _note(features, state, start + len(chunk))
    _note(features, state, len(rows))


def _note(features: Any, state: Path, done: int) -> None:
    features.flush()
    temporary = state.with_suffix(".tmp")
    temporary.write_text(json.dumps({"done": done}))
    temporary.replace(state)


def _session(frozen: keras.Model, folder: Path) -> Callable[[npt.NDArray[np.uint8]], Any]:
    """ONNX Runtime for float32 on a CPU, else Keras; its last batch is filled up, or it would be compiled anew."""
    if accelerators() or frozen.output.dtype != "float32":

        def run_in_keras(batch: npt.NDArray[np.uint8]) -> Any:
            full = np.concatenate([batch, np.zeros((BATCH - len(batch), *batch.shape[1:]), np.uint8)])
            return np.asarray(keras.ops.convert_to_numpy(frozen.predict_on_batch(full)), np.float32)[: len(batch)]

        return run_in_keras
    import onnxruntime

    path = folder / "frozen.onnx"
    export_features(frozen, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda batch: session.run([FEATURES], {"image": np.ascontiguousarray(batch)})[0]
