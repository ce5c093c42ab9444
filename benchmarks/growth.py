"""Do time and memory grow with the data as they should? 1,000, 10,000 and 100,000 rows of every stage that meets them.

    .venv/bin/python -m benchmarks.growth [--rows 1000 10000 100000] [--stages ingest validate preprocess batch monitor]

Images are made up: smooth noise of 64 px for the data stages (no two alike, so that the search for near-duplicates has
all its pairs to look at), 200 drawn hands of 100 px named over and over for the batch, which a network made by a small
run of the pipeline answers at 40 px. Monitoring reads a log of as many answers. Each stage runs in a process of its
own; the exponent is that of time over rows between the last two sizes, the time of the smallest taken off as what does
not grow.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import cv2
import numpy as np
import yaml

from benchmarks.measured import Measured, add_json, tell
from bone_age.data.synthetic import render_hand
from bone_age.data.threads import map_in_threads
from bone_age.serving.feature_summary import PROJECTIONS, FeatureSummary
from bone_age.serving.prediction_table import LoggedAnswer, PredictionTable
from bone_age.serving.references import REFERENCE_MODEL, load_predictor
from bone_age.serving.statistics import ImageStatistics
from bone_age.settings import Home

HANDS = 200
MAX_EXPONENT, MAX_MB = 1.05, 1500.0
SMALL_RUN = {
    "name": "growth",
    "data": {"source": "synthetic", "synthetic": {"n": 90, "seed": 5, "height_px": 128, "width_px": 104}},
    "split": {"validation": 0.25, "test": 0.25, "warn_band_below": 0},
    "preprocessing": {"image_size_px": 40},
    "training": {"epochs": 1, "batch_size": 8, "trainable_from": "block13_sepconv1"},
    "evaluation": {"bootstrap_replicates": 100},
    "architectures": {"xception_multi": {"freeze_batchnorm": True}},
}
LOADED = """import sys
from pathlib import Path
from bone_age.data.loading import load_dataset
from bone_age.settings import DataSettings
dataset = load_dataset(DataSettings(source=sys.argv[1]))"""
STAGES = {
    "ingest": LOADED,
    "validate": f"""{LOADED}
from bone_age.data.expectations import validate_dataset
from bone_age.settings import ValidationBounds
validate_dataset(dataset, ValidationBounds())""",
    "preprocess": f"""{LOADED}
import tempfile
from bone_age.data.prepared import prepare_images
from bone_age.imaging import PreprocessingSettings
with tempfile.TemporaryDirectory(dir=sys.argv[2]) as folder:
    prepare_images(dataset, PreprocessingSettings(image_size_px=64), 0.0, Path(folder))""",
}


def make_data(folder: Path, rows: int) -> Path:
    """A data set of distinct images."""
    images = folder / "images"
    images.mkdir(parents=True)

    def one(row: int) -> None:
        chance = np.random.default_rng(row)
        coarse = chance.integers(0, 256, (12, 12), np.uint8)
        cv2.imwrite(str(images / f"{row}.png"), cv2.resize(coarse, (64, 64), interpolation=cv2.INTER_CUBIC))

    map_in_threads(one, range(rows), "drawing")
    chance = np.random.default_rng(0)
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "sex", "bone_age_months"))
        writer.writerows((f"images/{row}.png", "FM"[row % 2], int(chance.integers(12, 216))) for row in range(rows))
    return folder


def make_batch(folder: Path, rows: int) -> Path:
    folder.mkdir()
    for seed in range(HANDS):
        cv2.imwrite(str(folder / f"{seed}.png"), render_hand(24 + seed % 180, "FM"[seed % 2], seed, 100, 100))
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "sex"))
        writer.writerows((f"{row % HANDS}.png", "FM"[row % 2]) for row in range(rows))
    return folder


def fill_log(home: Path, rows: int) -> None:
    """One answer of the reference model every ten seconds, up to now."""
    digest, chance = load_predictor(str(REFERENCE_MODEL)).digest, np.random.default_rng(0)
    os.environ["BONE_AGE_HOME"] = str(home)
    table = PredictionTable(Home().prepare().prediction_log_url)
    newest = datetime.now(UTC)
    for first in range(0, rows, 1000):
        months = chance.normal(127, 40, 1000).clip(6, 220)
        grey = chance.normal([80, 50, 0.2, 0.01], [12, 6, 0.05, 0.004], (1000, 4)).clip(0)
        summaries = chance.normal(0, 1, (1000, PROJECTIONS))
        table.add(
            [
                LoggedAnswer(
                    entry_id=uuid4().hex,
                    time=newest - timedelta(seconds=10 * (rows - row)),
                    request_id=uuid4().hex,
                    model="reference",
                    model_digest=digest,
                    sex="FM"[row % 2],
                    bone_age_months=float(months[row - first]),
                    lower_months=float(months[row - first]) - 5,
                    upper_months=float(months[row - first]) + 13,
                    latency_s=0.2,
                    statistics=ImageStatistics(2000, 1500, *map(float, grey[row - first])),
                    features=FeatureSummary(20.0, tuple(map(float, summaries[row - first]))),
                    likeness_distance=0.4,
                    readings=(),
                )
                for row in range(first, min(first + 1000, rows))
            ]
        )


def small_model(home: Path) -> str:
    """The first version in a home of its own; returns how `batch` finds it."""
    (home / "growth.yaml").write_text(yaml.safe_dump(SMALL_RUN))
    ours("train", "--config", str(home / "growth.yaml"), home=home)
    return "models:/bone-age/1"


def ours(*arguments: str, home: Path) -> tuple[float, float]:
    return process([sys.executable, "-m", "bone_age.cli", *arguments], home, (0, 3))


def process(command: list[str], home: Path, allowed: tuple[int, ...] = (0,)) -> tuple[float, float]:
    """Seconds, and peak resident memory in MB, start included."""
    environment = os.environ | {"BONE_AGE_HOME": str(home), "BONE_AGE_RESULTS": str(home / "results")}
    started = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said, env=environment)
        _, status, used = os.wait4(running.pid, 0)
        seconds = time.perf_counter() - started
        if (code := os.waitstatus_to_exitcode(status)) not in allowed:
            said.seek(0)
            raise RuntimeError(f"exit code {code}: {said.read()[-2000:].decode()}")
    return seconds, used.ru_maxrss / 1024


def measure(stage: str, rows: int, scratch: Path) -> tuple[float, float]:
    home = scratch / f"home-{stage}-{rows}"
    home.mkdir()
    if stage in STAGES:
        data = scratch / f"data-{rows}"
        if not data.exists():
            make_data(data, rows)
        return process([sys.executable, "-c", STAGES[stage], str(data), str(scratch)], home)
    if stage == "monitor":
        fill_log(home, rows)
        return ours("monitor", "--model", str(REFERENCE_MODEL), home=home)
    trained = scratch / "home-of-the-small-model"
    if not trained.exists():
        trained.mkdir()
        small_model(trained)
    data, out = make_batch(scratch / f"batch-{rows}", rows), scratch / f"{rows}.parquet"
    return ours("batch", "--data", str(data), "--out", str(out), "--model", "models:/bone-age/1", home=trained)


def exponent(rows: list[int], seconds: list[float]) -> float:
    """Of time over rows between the last two sizes, without what the smallest takes."""
    middle, last = (seconds[at] - seconds[0] * (1 - rows[0] / rows[at]) for at in (-2, -1))
    return math.log(last / max(middle, 1e-9)) / math.log(rows[-1] / rows[-2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--stages", nargs="+", default=[*STAGES, "batch", "monitor"])
    parser.add_argument("--scratch", type=Path, help="a folder on a disk with some GB [default: the temporary one]")
    add_json(parser)
    options = parser.parse_args()
    figures = []
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        for stage in options.stages:
            seconds, peaks = [], []
            for rows in options.rows:
                took, peak = measure(stage, rows, Path(folder))
                seconds.append(took)
                peaks.append(peak)
                print(
                    f"{stage:10} {rows:>7} rows: {took:7.1f} s, {1000 * took / rows:6.2f} ms a row, {peak:6.0f} MB",
                    flush=True,
                )
            span = f"{options.rows[0]:,} to {options.rows[-1]:,} rows"
            figures.append(
                Measured(f"{stage}, {span}: exponent of time", exponent(options.rows, seconds), at_most=MAX_EXPONENT)
            )
            figures.append(Measured(f"{stage}, {span}: most memory, MB", max(peaks), at_most=MAX_MB))
    tell(figures, options.json)


if __name__ == "__main__":
    main()
