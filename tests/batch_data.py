"""Folders of small radiographs for tests of the batch."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import cv2

from bone_age.data.synthetic import render_hand


def draw(path: Path, seed: int = 0) -> Path:
    """A synthetic hand, 100 x 80 px."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _, png = cv2.imencode(".png", render_hand(60.0 + 10 * (seed % 12), "F", seed, 100, 80))
    path.write_bytes(png.tobytes())
    return path


def write_manifest(folder: Path, rows: Sequence[Sequence[object]], header: str = "image,sex") -> Path:
    folder.mkdir(exist_ok=True)
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    return folder
