"""A trained model as one folder, and the record of how it came about."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict

from bone_age.settings import PlannedTraining

FILES = ("model.keras", "model.onnx", "preprocessing.json", "training.json")


class TrainingRecord(BaseModel):
    """How a model was trained; `epochs` holds one row of figures an epoch, `best_epoch` counts from 0."""

    model_config = ConfigDict(frozen=True)

    plan: PlannedTraining
    epochs: list[dict[str, float]]
    best_epoch: int
    parameters_total: int
    parameters_trained: int
    images_digest: str
    dataset_fingerprint: str
    backend: str
    devices: list[str]
    mlflow_run_ids: list[str]
    onnx_difference_months: float

    @property
    def mlflow_run_id(self) -> str:
        """The run of the attempt that finished."""
        return self.mlflow_run_ids[-1]

    @property
    def seconds_per_epoch(self) -> float:
        return sum(row["seconds"] for row in self.epochs) / len(self.epochs)


@dataclass(frozen=True)
class TrainedModel:
    """Folder with `model.keras`, `model.onnx`, `preprocessing.json` and `training.json`."""

    folder: Path
    record: TrainingRecord

    @property
    def plan(self) -> PlannedTraining:
        return self.record.plan

    @property
    def onnx(self) -> Path:
        return self.folder / "model.onnx"

    def save(self, folder: Path) -> None:
        for name in FILES:
            shutil.copyfile(self.folder / name, folder / name)

    @classmethod
    def load(cls, folder: Path) -> Self:
        return cls(folder, TrainingRecord.model_validate_json((folder / "training.json").read_text()))
