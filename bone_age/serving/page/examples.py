"""Drawn hands to try the page with: no child was X-rayed for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from bone_age.data.manifest import Sex
from bone_age.data.synthetic import render_hand

_DRAWN: tuple[tuple[str, Sex, int, int, int], ...] = (
    ("Girl, 4 years", "F", 51, 60, 7),
    ("Boy, 7 years", "M", 86, 108, 7),
    ("Girl, 13 years", "F", 156, 156, 13),
)
"""Label, sex, stated age, age drawn, seed; the reference model takes drawings for younger than they were drawn."""


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
    for label, sex, age, drawn_months, seed in _DRAWN:
        file = folder / f"synthetic-hand-{'girl' if sex == 'F' else 'boy'}-{age // 12}-years.png"
        drawing = render_hand(drawn_months, sex, seed, 512, 416)
        file.write_bytes(cv2.imencode(".png", drawing)[1].tobytes())
        examples.append(Example(label, sex, age, drawing, file))
    return tuple(examples)
