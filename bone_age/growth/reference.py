"""The growth reference: mean and SD of skeletal age at a chronological age, as printed, interpolated between rows.

It is always read at the *chronological* age and never extrapolated: where the table ends, so does what can be said.
Source: Brush Foundation series in Greulich & Pyle, Radiographic Atlas of Skeletal Development, 2nd ed. 1959.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

import numpy as np
import numpy.typing as npt

Sex = Literal["M", "F"]
REFERENCE = "Brush Foundation series, Greulich & Pyle 1959"


class OutsideReferenceError(ValueError):
    """The chronological age lies outside the reference table, which is never extrapolated."""


@dataclass(frozen=True)
class Norm:
    """Skeletal age of healthy children of one age and sex, months."""

    mean_months: float
    sd_months: float


@dataclass(frozen=True)
class ReferenceTable:
    """The rows for one sex, each array [n], by ascending chronological age, months."""

    age_months: npt.NDArray[np.float64]
    mean_months: npt.NDArray[np.float64]
    sd_months: npt.NDArray[np.float64]


@cache
def reference_table(sex: Sex) -> ReferenceTable:
    text = resources.files("bone_age.growth").joinpath("brush_foundation.csv").read_text(encoding="utf-8")
    rows = [row for row in csv.DictReader(text.splitlines()) if row["sex"] == sex]
    columns = ("chronological_age_months", "mean_skeletal_age_months", "sd_months")
    return ReferenceTable(*(np.array([float(row[name]) for row in rows]) for name in columns))


def norm_at(chronological_age_months: float, sex: Sex) -> Norm:
    """Mean and SD of skeletal age at an age; boys 3 to 204 months, girls 3 to 192 months.

    Raises:
        OutsideReferenceError: The age is outside the table, or not a number.
    """
    table = reference_table(sex)
    youngest, oldest = table.age_months[0], table.age_months[-1]
    if not youngest <= chronological_age_months <= oldest:
        raise OutsideReferenceError(
            f"chronological age {chronological_age_months:g} months is outside the growth reference "
            f"({youngest:g} to {oldest:g} months for {'boys' if sex == 'M' else 'girls'})"
        )
    return Norm(
        float(np.interp(chronological_age_months, table.age_months, table.mean_months)),
        float(np.interp(chronological_age_months, table.age_months, table.sd_months)),
    )
