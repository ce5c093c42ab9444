"""Preprocessing against the same OpenCV calls in one thread, against scikit-image, and against decoding alone.

    .venv/bin/python -m benchmarks.preprocessing --folder DIR [--limit 200] [--rounds 3]

The folder holds radiographs (PNG or JPEG) of one kind: full-size ones, or copies of 299 px. Each way takes all of them
from the file to uint8 [299, 299] with CLAHE (2.0, 8 x 8), in turns, so that all meet the same machine; the best round
of each counts. scikit-image is no dependency: `pip install scikit-image` adds its line, and one thread runs it.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.measured import Measured, add_json, tell
from bone_age.data.threads import stream_in_threads
from bone_age.imaging import PreprocessingSettings, preprocess, read_image

SIZE = 299
FULL_SIZE = {"decoding alone": 0.85, "one thread of OpenCV": 1.8, "one thread of scikit-image": 8.0}
SMALL = {"decoding alone": 0.8}
SETTINGS = PreprocessingSettings(image_size_px=SIZE, fit="stretch", orient=False)


def ours(files: list[Path]) -> None:
    """As `prepare_images` does: every core, in order."""
    for _ in stream_in_threads(lambda file: preprocess(read_image(file), SETTINGS), files, "ours", len(files)):
        pass


def decoding_alone(files: list[Path]) -> None:
    for _ in stream_in_threads(read_image, files, "decoding", len(files)):
        pass


def one_thread(files: list[Path]) -> None:
    """The calls that anybody would write, and none of the checks."""
    clahe = cv2.createCLAHE(2.0, (8, 8))
    for file in files:
        image = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_GRAYSCALE)
        assert image is not None, file
        clahe.apply(cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA))


def scikit_image(files: list[Path]) -> None:
    from skimage import exposure, io, transform

    for file in files:
        image = io.imread(file, as_gray=True)
        small = transform.resize(image, (SIZE, SIZE), anti_aliasing=True)
        scaled = small / max(float(small.max()), 1e-9)
        (255 * exposure.equalize_adapthist(scaled, kernel_size=SIZE // 8, clip_limit=0.01)).astype(np.uint8)


def best_seconds(ways: dict[str, Callable[[list[Path]], None]], files: list[Path], rounds: int) -> dict[str, float]:
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            way(files)
            best[name] = min(best[name], time.perf_counter() - started)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    add_json(parser)
    options = parser.parse_args()
    files = sorted(file for file in options.folder.iterdir() if file.suffix in (".png", ".jpg", ".jpeg"))
    files = files[: options.limit]
    cv2.setNumThreads(1)
    ways: dict[str, Any] = {"decoding alone": decoding_alone, "one thread of OpenCV": one_thread, "ours": ours}
    if find_spec("skimage"):
        ways["one thread of scikit-image"] = scikit_image
    best = best_seconds(ways, files, options.rounds)
    pixels = np.median([read_image(file).size for file in files[:20]]) / 1e6
    print(f"\n{len(files)} radiographs of {pixels:.1f} megapixels (median), {os.cpu_count()} cores\n")
    print("| way | images/s | ours, as a ratio |")
    print("|---|---|---|")
    for name, seconds in best.items():
        print(f"| {name} | {len(files) / seconds:.1f} | {seconds / best['ours']:.2f} |")
    asked = FULL_SIZE if pixels > 1 else SMALL
    kind = "full size" if pixels > 1 else "299 px"
    found = {name: seconds / best["ours"] for name, seconds in best.items()}
    rows = [Measured(f"{kind}: images/s, ours / {name}", found[name], at_least=asked.get(name)) for name in found]
    tell([row for row in rows if "ours / ours" not in row.what], options.json)


if __name__ == "__main__":
    main()
