"""Does a batch's memory grow with its rows? Peak memory and time per row of `bone-age batch`, by the number of rows.

    .venv/bin/python -m benchmarks.batch_memory [--model REF] [--rows 1000 10000] [--compare]

Draws 200 synthetic hands of 100 px and a manifest that names them over and over, runs the command for each size in a
process of its own, and prints a line a size, then the ratio and the exponent of memory over rows (0: flat, 1: linear).
`--compare` instead measures how the network is best run on this machine: batches over all cores, or single images, a
thread each.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from benchmarks.measured import Measured, add_json, tell
from bone_age.data.synthetic import render_hand
from bone_age.serving.onnx_network import OnnxNetwork
from bone_age.serving.references import load_predictor

HANDS, ROUNDS, IMAGES = 200, 3, 64


def draw(folder: Path) -> None:
    for seed in range(HANDS):
        hand = render_hand(24 + seed % 180, "FM"[seed % 2], seed, 100, 100)
        cv2.imwrite(str(folder / f"{seed}.png"), hand)


def write_manifest(folder: Path, rows: int) -> None:
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "sex"))
        writer.writerows((f"{row % HANDS}.png", "FM"[row % 2]) for row in range(rows))


def measure(folder: Path, out: Path, model: list[str]) -> tuple[float, float]:
    """Peak resident memory in MB and seconds of one run of the command, start included."""
    command = [sys.executable, "-m", "bone_age.cli", "batch", "--data", str(folder), "--out", str(out), *model]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, f"exit status {status}: {' '.join(command)}"
    return peak_mb(used), time.perf_counter() - start


def peak_mb(used: resource.struct_rusage) -> float:
    return used.ru_maxrss / 1024


def growth(sizes: list[int], model: list[str]) -> list[Measured]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "data"
        folder.mkdir()
        draw(folder)
        peaks = []
        for rows in sizes:
            write_manifest(folder, rows)
            peak, seconds = measure(folder, Path(scratch) / f"{rows}.parquet", model)
            peaks.append(peak)
            print(f"{rows:>8} rows: peak {peak:6.1f} MB, {1000 * seconds / rows:7.2f} ms a row", flush=True)
    ratio, factor = peaks[-1] / peaks[0], sizes[-1] / sizes[0]
    return [
        Measured(
            f"batch, {sizes[0]} to {sizes[-1]} rows: exponent of memory",
            math.log(ratio) / math.log(factor),
            at_most=0.05,
        )
    ]


def compare(model: str | None) -> list[Measured]:
    onnx = load_predictor(model).bundle.onnx
    cores = os.cpu_count() or 1
    together, single = OnnxNetwork(onnx), OnnxNetwork(onnx, threads=1)
    size = together.image_size_px
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, size, size), dtype=np.uint8)
    sex = np.ones((IMAGES, 1), np.float32)

    def batches(batch: int) -> None:
        together.predict_months(images, sex, batch_size=batch)

    def threads() -> None:
        with ThreadPoolExecutor(cores) as pool:
            list(pool.map(lambda row: single.run(images[row : row + 1], sex[row : row + 1]), range(IMAGES)))

    ways: dict[str, Callable[[], None]] = {
        "one image at a time, all cores": lambda: batches(1),
        "batches of 8, all cores": lambda: batches(8),
        "batches of 32, all cores": lambda: batches(32),
        "single images, a thread each": threads,
    }
    best = dict.fromkeys(ways, math.inf)
    for _ in range(ROUNDS):  # in turns, so that other load weighs on all alike
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            best[name] = min(best[name], (time.perf_counter() - start) / IMAGES)
    for name, seconds in best.items():
        print(f"{name:>32}: {1000 * seconds:6.1f} ms an image, x{seconds / best['batches of 32, all cores']:.2f}")
    ours = best["single images, a thread each"]
    return [
        Measured(
            "batch of many: time an image, as `batch` does / best of four ways", ours / min(best.values()), at_most=1.1
        )
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="as for `bone-age batch`")
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--compare", action="store_true", help="batches against threads instead")
    add_json(parser)
    asked = parser.parse_args()
    named = ["--model", asked.model] if asked.model else []
    tell(compare(asked.model) if asked.compare else growth(asked.rows, named), asked.json)


if __name__ == "__main__":
    main()
