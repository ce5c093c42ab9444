"""Drawn hands to try the page with: no child was X-rayed for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from bone_age.data.manifest import Sex
from bone_age.data.synthetic import render_hand

_DRAWN: tuple[tuple[str, Sex, int, int], ...] = (
    ("Girl, 5 years", "F", 60, 11),
    ("Boy, 9 years", "M", 108, 4),
    ("Girl, 13 years", "F", 156, 7),
)


@dataclass(frozen=True)
class Example:
    """A drawing, and what the form says of it."""

    label: str
    sex: Sex
    age_months: int
    drawing: npt.NDArray[np.uint8]
    file: Path


def draw_examples(folder: Path) -> tuple[Example, ...]:
    """Write the drawings as PNG into a folder; some 20 ms each."""
    examples = []
    for label, sex, age, seed in _DRAWN:
        file = folder / f"synthetic-hand-{'girl' if sex == 'F' else 'boy'}-{age // 12}-years.png"
        drawing = render_hand(age, sex, seed, 512, 416)
        file.write_bytes(cv2.imencode(".png", drawing)[1].tobytes())
        examples.append(Example(label, sex, age, drawing, file))
    return tuple(examples)
