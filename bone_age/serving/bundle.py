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
from bone_age.evaluation.answer_sample import AnswerSample
from bone_age.evaluation.intervals import IntervalCalibration
from bone_age.evaluation.likeness import Likeness
from bone_age.evaluation.linear_correction import LinearCorrection
from bone_age.evaluation.site_correction import SiteCalibration
from bone_age.imaging import PreprocessingSettings
from bone_age.serving.card import model_card
from bone_age.serving.int8 import Int8Facts

MODEL_ONNX, MODEL_KERAS = "model.onnx", "model.keras"
PREPROCESSING, CALIBRATION, FACTS, CHECKSUMS = "preprocessing.json", "calibration.json", "model.json", "checksums.json"
TRAINING, CONFIG, FIGURES, CARD = "training.json", "config.yaml", "metrics.json", "MODEL_CARD.md"
LIKENESS, HELD_OUT = "likeness.npz", "held_out.npz"
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
    flip_averaging: bool = False
    correction: LinearCorrection = LinearCorrection()
    git_commit: str = "unknown"
    site: SiteCalibration | None = None
    int8: Int8Facts | None = None

    @property
    def measured_on(self) -> str:
        """Fingerprint of the data set that the figures are of: the site's, where it was calibrated for one."""
        return self.site.dataset_fingerprint if self.site else self.dataset_fingerprint


@dataclass(frozen=True)
class Bundle:
    """A verified model folder.

    One from before there was a likeness has none, and refuses nothing; one from before there was monitoring has no
    `held_out` sample, and its answers are compared with nothing.
    """

    folder: Path
    facts: ModelFacts
    preprocessing: PreprocessingSettings
    calibration: IntervalCalibration
    onnx_sha256: str
    likeness: Likeness | None
    held_out: AnswerSample | None = None

    @property
    def onnx(self) -> Path:
        return self.folder / MODEL_ONNX

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over the checksums, and so over every file of the model."""
        return _sha256(self.folder / CHECKSUMS)

    def figures(self) -> dict[str, float]:
        """What was measured on the test split, by name: `mae`, `mae_lo`, ...; subgroups left aside."""
        document = json.loads((self.folder / FIGURES).read_text())
        return {
            name: float(value) for name, value in document.items() if type(value) in (int, float) and name != "seed"
        }


@dataclass(frozen=True)
class Origin:
    """How a model came about, for who reads about it: its configuration as YAML and its figures on the test split."""

    config_yaml: str
    figures: dict[str, Any]


def write_bundle(
    folder: Path,
    model_folder: Path,
    calibration: IntervalCalibration,
    facts: ModelFacts,
    origin: Origin,
    likeness: Likeness | None = None,
    held_out: AnswerSample | None = None,
) -> Bundle:
    """Assemble a bundle in `folder` (which exists and is empty) from a trained model's folder."""
    for name in (MODEL_ONNX, MODEL_KERAS, PREPROCESSING, TRAINING):
        shutil.copyfile(model_folder / name, folder / name)
    preprocessing = PreprocessingSettings.model_validate_json((folder / PREPROCESSING).read_text())
    (folder / CALIBRATION).write_text(calibration.model_dump_json(indent=2))
    if likeness is not None:
        likeness.save(folder / LIKENESS)
    if held_out is not None:
        held_out.save(folder / HELD_OUT)
    (folder / FACTS).write_text(facts.model_dump_json(indent=2))
    (folder / CONFIG).write_text(origin.config_yaml)
    (folder / FIGURES).write_text(json.dumps(origin.figures, indent=2))
    (folder / CARD).write_text(model_card(facts.model_dump(), preprocessing, calibration, origin.figures))
    write_checksums(folder)
    return load_bundle(folder)


def write_checksums(folder: Path) -> None:
    """Say of every file in a folder what its SHA-256 is; the last thing that makes it a bundle."""
    sums = {file.name: _sha256(file) for file in sorted(folder.iterdir()) if file.name != CHECKSUMS}
    (folder / CHECKSUMS).write_text(json.dumps(sums, indent=2))


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
            likeness=Likeness.load(folder / LIKENESS) if LIKENESS in sums else None,
            held_out=AnswerSample.load(folder / HELD_OUT) if HELD_OUT in sums else None,
        )
    except (ValidationError, UnicodeDecodeError) as error:
        raise ModelError(f"{folder}: a description file cannot be read: {' '.join(str(error).split())[:200]}") from None


def _verified_sums(folder: Path) -> dict[str, str]:
    try:
        sums: Any = json.loads((folder / CHECKSUMS).read_text())
    except FileNotFoundError:
        raise ModelError(f"{folder}: no model here ({CHECKSUMS} is absent)") from None
    except (OSError, ValueError, RecursionError) as error:
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
