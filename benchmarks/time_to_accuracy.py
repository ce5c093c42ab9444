"""How long until a validation MAE of 12 months: the exit flow on kept features, against fine-tuning the whole network.

    .venv/bin/python -m benchmarks.time_to_accuracy --data DIR --weights build/xception_imagenet.weights.h5 [--size 160]

Both start from the same ImageNet weights and see the same radiographs, of which a tenth validates, in bfloat16 and
batches of 32, unchanged. The clock runs from the prepared images, so it counts the features too. Who fine-tunes the
whole network is stopped at the end of the epoch that passes six times our time: the ratio is then a lower bound.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measured import Measured, add_json, tell
from bone_age.data.loading import load_dataset
from bone_age.data.manifest import Dataset
from bone_age.data.prepared import PreparedImages, prepare_images
from bone_age.data.splits import assign_splits
from bone_age.settings import Home, TrainingConfig

TARGET_MONTHS, PATIENCE = 12.0, 6.0
OURS: dict[str, Any] = {"trainable_from": "block13_sepconv1", "epochs": 8, "learning_rate": 5e-4}
WHOLE: dict[str, Any] = {"trainable_from": None, "epochs": 4, "learning_rate": 3e-4}


class EnoughError(Exception):
    """Ends a training from within."""


@dataclass
class Race:
    """One way, told after each epoch how far it is."""

    limit_seconds: float
    started: float = 0.0
    seconds: float = 0.0
    months: float = float("inf")

    def after_epoch(self, epoch: int, figures: dict[str, float]) -> None:
        self.seconds, self.months = time.perf_counter() - self.started, figures["validation_mae"]
        print(f"  epoch {epoch + 1}: {self.seconds:6.0f} s, validation MAE {self.months:.2f} months", flush=True)
        if self.months <= TARGET_MONTHS or self.seconds > self.limit_seconds:
            raise EnoughError


def config_of(options: argparse.Namespace, recipe: dict[str, Any]) -> TrainingConfig:
    return TrainingConfig.model_validate(
        {
            "name": "race",
            "data": {"source": str(options.data)},
            "split": {"validation": 0.1, "test": 0.1},
            "preprocessing": {"image_size_px": options.size, "fit": "stretch", "orient": False},
            "training": {
                "weights": str(options.weights.resolve()),
                "mixed_precision": True,
                "batch_size": 32,
                "augmentation": None,
                "freeze_batchnorm": True,
                **recipe,
            },
            "architectures": {"xception_multi": {}},
        }
    )


def run(config: TrainingConfig, images: PreparedImages, limit_seconds: float) -> Race:
    """The whole recipe where nothing ends it before."""
    from bone_age.modelling.training import train

    race = Race(limit_seconds, started=time.perf_counter())
    with tempfile.TemporaryDirectory() as folder, suppress(EnoughError):
        train(config.plans[0], images, Home(), Path(folder), race.after_epoch, "none")
    return race


def first_rows(dataset: Dataset, count: int) -> Dataset:
    return Dataset(**(vars(dataset) | {"table": dataset.table.head(count).reset_index(drop=True)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=Path("build/xception_imagenet.weights.h5"))
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--size", type=int, default=160)
    add_json(parser)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as home:
        os.environ["BONE_AGE_HOME"] = home
        ours_config, whole_config = config_of(options, OURS), config_of(options, WHOLE)
        dataset = first_rows(load_dataset(ours_config.data), options.images)
        (Path(home) / "images").mkdir()
        images = prepare_images(
            assign_splits(dataset, ours_config.split), ours_config.preprocessing, 0.01, Path(home) / "images"
        )
        print("exit flow on kept features", flush=True)
        ours = run(ours_config, images, float("inf"))
        print("whole network", flush=True)
        whole = run(whole_config, images, PATIENCE * ours.seconds)
    n = f"{options.images:,} radiographs, {options.size} px"
    reached = "" if whole.months <= TARGET_MONTHS else f", which was at {whole.months:.1f} when stopped"
    rows = [
        Measured(
            f"{n}: time to {TARGET_MONTHS:g} months, whole network{reached} / ours",
            whole.seconds / ours.seconds if ours.months <= TARGET_MONTHS else 0.0,
            at_least=5,
        ),
        Measured(f"{n}: seconds to {TARGET_MONTHS:g} months, ours", ours.seconds),
    ]
    tell(rows, options.json)


if __name__ == "__main__":
    main()
