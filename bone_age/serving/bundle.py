"""A model version as a folder that needs nothing else: networks, preprocessing, calibration, checksums.

The checksums are verified before anything is loaded; a flipped bit is an error with a name, not a strange month.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from bone_age.errors import ModelError
from bone_age.evaluation.intervals import IntervalCalibration
from bone_age.imaging import PreprocessingSettings

MODEL_ONNX, MODEL_KERAS = "model.onnx", "model.keras"
PREPROCESSING, CALIBRATION, FACTS, CHECKSUMS = "preprocessing.json", "calibration.json", "model.json", "checksums.json"
REQUIRED = (MODEL_ONNX, PREPROCESSING, CALIBRATION, FACTS)


class ModelFacts(BaseModel):
    """What a model says of itself in every answer and report."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: str
    inputs: str
    dataset_name: str
    dataset_fingerprint: str
    synthetic: bool
    images_digest: str
    weights: str
    seed: int
    mlflow_run_id: str
    test_mae: float


@dataclass(frozen=True)
class Bundle:
    """A verified model folder."""

    folder: Path
    facts: ModelFacts
    preprocessing: PreprocessingSettings
    calibration: IntervalCalibration
    onnx_sha256: str

    @property
    def onnx(self) -> Path:
        return self.folder / MODEL_ONNX


def write_bundle(
    folder: Path, model_folder: Path, calibration: IntervalCalibration, facts: ModelFacts, keras_too: bool = True
) -> Bundle:
    """Assemble a bundle in `folder` (which exists and is empty) from a trained model's folder."""
    for name in (MODEL_ONNX, PREPROCESSING, *([MODEL_KERAS] if keras_too else [])):
        shutil.copyfile(model_folder / name, folder / name)
    (folder / CALIBRATION).write_text(calibration.model_dump_json(indent=2))
    (folder / FACTS).write_text(facts.model_dump_json(indent=2))
    sums = {file.name: _sha256(file) for file in sorted(folder.iterdir())}
    (folder / CHECKSUMS).write_text(json.dumps(sums, indent=2))
    return load_bundle(folder)


def load_bundle(folder: Path) -> Bundle:
    """Verify and read a bundle.

    Raises:
        ModelError: A file is absent, was changed, or cannot be read; the file is named.
    """
    sums = _verified_sums(folder)
    try:
        return Bundle(
            folder=folder,
            facts=ModelFacts.model_validate_json((folder / FACTS).read_text()),
            preprocessing=PreprocessingSettings.model_validate_json((folder / PREPROCESSING).read_text()),
            calibration=IntervalCalibration.model_validate_json((folder / CALIBRATION).read_text()),
            onnx_sha256=sums[MODEL_ONNX],
        )
    except (ValidationError, UnicodeDecodeError) as error:
        raise ModelError(f"{folder}: a description file cannot be read: {' '.join(str(error).split())[:200]}") from None


def _verified_sums(folder: Path) -> dict[str, str]:
    try:
        sums: Any = json.loads((folder / CHECKSUMS).read_text())
    except FileNotFoundError:
        raise ModelError(f"{folder}: no model here ({CHECKSUMS} is absent)") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / CHECKSUMS}: cannot be read: {error}") from None
    listed: dict[str, str] = sums if isinstance(sums, dict) else {}
    if not set(REQUIRED) <= set(listed):
        raise ModelError(f"{folder / CHECKSUMS}: does not list {', '.join(sorted(set(REQUIRED) - set(listed)))}")
    for name, expected in listed.items():
        file = folder / name
        if file.parent != folder or not file.is_file():
            raise ModelError(f"{file}: listed in {CHECKSUMS} but absent")
        if _sha256(file) != expected:
            raise ModelError(f"{file}: checksum does not match {CHECKSUMS}; the file was changed or damaged")
    return listed


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
