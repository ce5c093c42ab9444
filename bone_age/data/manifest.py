"""The manifest: one row a radiograph, and the fingerprint that names a data set everywhere.

The fingerprint covers what a model learns from (image bytes, sex, bone age) and nothing else, so that moving a folder
or sorting a CSV does not make a new data set, while one changed pixel or label does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from bone_age.errors import InputError

Sex = Literal["M", "F"]
SPLITS = ("train", "validation", "test")
MANIFEST_COLUMNS = ("image_id", "path", "sha256", "sex", "bone_age_months", "patient_id", "split")
NUMERIC_COLUMNS = ("bone_age_months", "chronological_age_months")
MAX_BONE_AGE_MONTHS = 240.0
AGE_BAND_EDGES_MONTHS = (0, 60, 120, 168, 240)


def sex_input(sexes: Iterable[str]) -> npt.NDArray[np.float32]:
    """The sexes as the networks take them: float32 [n, 1], male 1, female 0."""
    return np.array([[sex == "M"] for sex in sexes], dtype=np.float32)


def age_band(bone_age_months: float) -> str:
    """The band's label, `060_120` for 60 months up to but not including 120; the last one includes 240.

    Raises:
        ValueError: The age is no number or outside 0 to 240 months.
    """
    if not 0 <= bone_age_months <= MAX_BONE_AGE_MONTHS:
        raise ValueError(f"bone age is {bone_age_months} months, expected 0 to 240")
    start, end = next(
        (low, high)
        for low, high in pairwise(AGE_BAND_EDGES_MONTHS)
        if bone_age_months < high or high == AGE_BAND_EDGES_MONTHS[-1]
    )
    return f"{start:03d}_{end:03d}"


def fingerprint(table: pd.DataFrame) -> str:
    """SHA-256 (hex) over the sorted rows' image digests and labels; independent of row order and folder."""
    rows = sorted(
        f"{sha256},{sex},{age:.6g}"
        for sha256, sex, age in zip(table["sha256"], table["sex"], table["bone_age_months"], strict=True)
    )
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


@dataclass(frozen=True)
class Dataset:
    """A data set whose images have been hashed, and its labels read but not yet judged.

    Attributes:
        name: Shown in reports: the folder's name, or `synthetic`.
        root: Folder that `table.path` is relative to.
        table: `MANIFEST_COLUMNS` plus `source_row` (file and line of the label, for messages), `raw_bone_age` (its
            text) and, where the data gives it, `chronological_age_months`. `sex` holds the raw text where it was
            neither M nor F, `bone_age_months` is NaN where it was no number, `sha256` is empty where the file is
            absent or unreadable, `split` is empty where the data does not name one.
        synthetic: Whether the images were rendered by this project; reports say so.
    """

    name: str
    root: Path
    table: pd.DataFrame
    synthetic: bool = False

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.table)

    def __len__(self) -> int:
        return len(self.table)

    def path_of(self, relative: str) -> Path:
        return self.root / relative

    def with_table(self, table: pd.DataFrame) -> Self:
        return replace(self, table=table.reset_index(drop=True))

    def split(self, name: str) -> pd.DataFrame:
        return self.table[self.table["split"] == name]

    def save(self, folder: Path) -> None:
        self.table.to_csv(folder / "manifest.csv", index=False, encoding="utf-8")
        facts = {
            "name": self.name,
            "root": str(self.root),
            "synthetic": self.synthetic,
            "n": len(self),
            "fingerprint": self.fingerprint,
        }
        (folder / "dataset.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        facts = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        text = dict.fromkeys({*MANIFEST_COLUMNS, "source_row", "raw_bone_age"} - set(NUMERIC_COLUMNS), str)
        table = pd.read_csv(
            folder / "manifest.csv",
            dtype=text | dict.fromkeys(NUMERIC_COLUMNS, float),
            keep_default_na=False,
            na_values=dict.fromkeys(NUMERIC_COLUMNS, ""),
            float_precision="round_trip",
        )
        return cls(facts["name"], Path(facts["root"]), table, facts["synthetic"])


def require_labels(dataset: Dataset) -> None:
    """Refuse the first row that cannot be scored: unknown sex, age absent or outside 0 to 240, no image, double id.

    The pipeline judges all rows through Great Expectations instead; this is for commands that just read a data set.

    Raises:
        InputError: Names file, row and value.
    """
    table = dataset.table
    raw_age = table["raw_bone_age"] if "raw_bone_age" in table else table["bone_age_months"].map("{:g}".format)
    sex_is_known = table["sex"].isin(["M", "F"])
    age_is_known = table["bone_age_months"].between(0, MAX_BONE_AGE_MONTHS)
    refusals = [
        (~sex_is_known, "sex is " + table["sex"].map(repr) + ", expected M or F"),
        (~age_is_known, "bone age is " + raw_age.map(repr) + " months, expected 0 to 240"),
        (table["image_id"].duplicated(), "image id " + table["image_id"].map(repr) + " appears more than once"),
        (table["sha256"] == "", "image " + table["path"].map(repr) + " is absent or cannot be read"),
    ]
    first = {int(refused.argmax()): reason for refused, reason in reversed(refusals) if refused.any()}
    if first:
        row = min(first)
        raise InputError(f"{table['source_row'].iloc[row]}: {first[row].iloc[row]}")
