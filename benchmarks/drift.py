"""How often monitoring calls drift where there is none, and how often it sees drift that there is.

    .venv/bin/python benchmarks/drift.py --data DIR --answers FILE [--model REF] [--limit 2029] [--changed 300]

Answers of radiographs that trained nothing (validation and test split), as they came and changed as another device would
change them, are made once and kept in FILE (JSON lines; run again, it goes on). Then, again and again at random: some
of the answers as they came are the reference, `--n` others are what a hospital asked, as they came or changed. Prints
for each bound on false alarms how many of these samples were called drifted, and the ratio to the false alarms.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from bone_age.data.loading import load_dataset
from bone_age.data.manifest import Dataset
from bone_age.data.splits import assign_splits
from bone_age.data.threads import stream_in_threads
from bone_age.evaluation.likeness import UnlikeTrainingError
from bone_age.evaluation.robustness import lowest_hashes
from bone_age.imaging import ImageError, read_image
from bone_age.serving.feature_summary import FeatureSummary
from bone_age.serving.onnx_network import OnnxNetwork
from bone_age.serving.predictor import Predictor
from bone_age.serving.references import load_predictor
from bone_age.settings import load_config

Grey = npt.NDArray[np.uint8]


def brighter(image: Grey) -> Grey:
    """By 40 of 256 levels, clipped."""
    return np.clip(image.astype(np.float32) + 40, 0, 255).astype(np.uint8)


def another_device(image: Grey) -> Grey:
    """Contrast of 70 %, noise of 8 levels, half the resolution."""
    height, width = image.shape
    half = cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    blurred = cv2.resize(half, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32)
    noise = np.random.default_rng(int(image.sum(dtype=np.int64))).normal(0, 8, image.shape)
    return np.clip(127 + 0.7 * (blurred - 127) + noise, 0, 255).astype(np.uint8)


def inverted(image: Grey) -> Grey:
    return 255 - image


def as_it_is(image: Grey) -> Grey:
    return image


CHANGES: dict[str, Callable[[Grey], Grey]] = {
    "as it is": as_it_is,
    "brighter": brighter,
    "another device": another_device,
    "inverted": inverted,
    "preprocessing off": as_it_is,
}


class Answers:
    """Answers by change and image id, kept in a file."""

    def __init__(self, predictor: Predictor, file: Path) -> None:
        facts = predictor.bundle.facts.model_copy(update={"flip_averaging": False})  # half the time, the same features
        predictor = Predictor(replace(predictor.bundle, facts=facts), predictor.name)
        off = replace(predictor.bundle, preprocessing=predictor.preprocessing.model_copy(update={"clahe": None}))
        self._with, self._without = predictor, Predictor(off, predictor.name)
        for asked in (self._with, self._without):
            asked.network = OnnxNetwork(predictor.bundle.onnx, threads=1)  # many radiographs at a time instead
        self._file = file
        lines = file.read_text().splitlines() if file.is_file() else []
        self.kept: dict[tuple[str, str], dict[str, Any]] = {}
        for line in lines:
            row = json.loads(line)
            self.kept[row["change"], row["image_id"]] = row

    def make(self, dataset: Dataset, rows: pd.DataFrame, change: str) -> None:
        missing = [row for row in rows.to_dict("records") if (change, row["image_id"]) not in self.kept]

        def one(row: dict[str, Any]) -> dict[str, Any]:
            predictor = self._without if change == "preprocessing off" else self._with
            image = np.ascontiguousarray(CHANGES[change](read_image(dataset.path_of(row["path"]))))
            known = {"change": change, "image_id": row["image_id"], "sex": row["sex"], "label": row["bone_age_months"]}
            try:
                found = predictor.answer(image, row["sex"])
            except UnlikeTrainingError:
                return known | {"refused": "refused_unlike_training"}
            except ImageError:
                return known | {"refused": "refused_unusable_image"}
            summary, grey = FeatureSummary.of(found.pooled_features), found.statistics
            return known | {
                "refused": None,
                "grey": [grey.mean, grey.sd, grey.black_share, grey.white_share],
                "features": [summary.norm, *summary.projections],
                "likeness_distance": found.likeness_distance,
                "months": [getattr(found.prediction, f"{name}_months") for name in ("bone_age", "lower", "upper")],
                "warnings": [warning.code for warning in found.prediction.warnings],
            }

        with self._file.open("a") as file:
            for row in stream_in_threads(one, missing, f"answering, {change}", len(missing)):
                self.kept[change, row["image_id"]] = row
                file.write(json.dumps(row) + "\n")
                file.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", metavar="REF", help="as for `bone-age evaluate`; by default the champion")
    parser.add_argument("--data", metavar="DIR", required=True)
    parser.add_argument("--config", type=Path, default=Path("configs/rsna_cpu.yaml"), help="whose split to use")
    parser.add_argument("--answers", metavar="FILE", type=Path, required=True, help="kept and read again")
    parser.add_argument("--limit", type=int, metavar="N", help="only so many rows, always the same ones")
    parser.add_argument("--changed", type=int, default=300, metavar="N", help="of these rows are changed")
    options = parser.parse_args(arguments)
    predictor = load_predictor(options.model)
    config = load_config(options.config).with_source(options.data)
    dataset = assign_splits(load_dataset(config.data), config.split)
    held_out = dataset.table[dataset.table["split"].isin(["validation", "test"])]
    rows = lowest_hashes(held_out, options.limit)
    answers = Answers(predictor, options.answers)
    answers.make(dataset, rows.head(600), "as it is")
    for change in list(CHANGES)[1:]:
        answers.make(dataset, lowest_hashes(rows, options.changed), change)
    answers.make(dataset, rows, "as it is")
    return 0


if __name__ == "__main__":
    sys.exit(main())
