"""An epoch of the exit flow on features that are kept, against one of the whole network on the same images.

    .venv/bin/python -m benchmarks.training_epoch [--size 299] [--images 320]

Both are real trainings of Xception with sex from random weights, bfloat16, no changed copies, on synthetic hands; the
second epoch counts, its validation and its checkpoint included. The features are computed once, before the first; what
that takes is told as well.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measured import Measured, add_json, tell
from bone_age.data.loading import load_dataset
from bone_age.data.prepared import PreparedImages, prepare_images
from bone_age.data.splits import assign_splits
from bone_age.settings import Home, TrainingConfig

WAYS = {"exit flow": "block13_sepconv1", "upper half": "block9_sepconv1", "whole network": None}


def config_of(size: int, images: int, trainable_from: str | None) -> TrainingConfig:
    training: dict[str, Any] = {"trainable_from": trainable_from, "epochs": 2, "augmentation": None}
    return TrainingConfig.model_validate(
        {
            "name": "epoch",
            "data": {"synthetic": {"n": images, "height_px": 400, "width_px": 320}},
            "split": {"validation": 0.1, "test": 0.1},
            "preprocessing": {"image_size_px": size},
            "training": {"mixed_precision": True, "batch_size": 32, **training},
            "architectures": {"xception_multi": {"freeze_batchnorm": True}},
        }
    )


def seconds_of(config: TrainingConfig, images: PreparedImages) -> tuple[float, float]:
    """Of the second epoch, and until the first one ended."""
    from bone_age.modelling.training import train

    times = [time.perf_counter()]
    with tempfile.TemporaryDirectory() as folder:
        train(config.plans[0], images, Home(), Path(folder), lambda *_: times.append(time.perf_counter()), "none")
    return times[2] - times[1], times[1] - times[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=299)
    parser.add_argument("--images", type=int, default=320)
    add_json(parser)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    took = {}
    with tempfile.TemporaryDirectory() as home:
        os.environ["BONE_AGE_HOME"] = home
        first = config_of(options.size, options.images, None)
        dataset = assign_splits(load_dataset(first.data), first.split)
        (Path(home) / "images").mkdir()
        images = prepare_images(dataset, first.preprocessing, 0.0, Path(home) / "images")
        for name, trainable_from in WAYS.items():
            config = config_of(options.size, options.images, trainable_from)
            took[name], before = seconds_of(config, images)
            print(f"{name:16} {took[name]:7.1f} s an epoch, {before:7.1f} s until the first one ended", flush=True)
    whole = took["whole network"]
    rows = [
        Measured(
            f"{options.size} px: time of an epoch, whole network / exit flow", whole / took["exit flow"], at_least=8
        ),
        Measured(f"{options.size} px: time of an epoch, whole network / upper half", whole / took["upper half"]),
    ]
    tell(rows, options.json)


if __name__ == "__main__":
    main()
