"""Which of a site's radiographs fit and which test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bone_age.data.manifest import Dataset
from bone_age.errors import InputError
from bone_age.site_calibration.rows import divided


def site(n: int, split: str | list[str] = "", patients: int | None = None) -> Dataset:
    table = pd.DataFrame(
        {
            "image_id": [f"i{row}" for row in range(n)],
            "path": [f"i{row}.png" for row in range(n)],
            "sha256": [f"{row:064x}" for row in range(n)],
            "sex": ["M", "F"] * (n // 2),
            "bone_age_months": np.linspace(30, 200, n),
            "patient_id": [f"p{row % (patients or n)}" for row in range(n)],
            "split": split,
        }
    )
    return Dataset("clinic", Path("/nowhere"), table)


def test_no_patient_is_in_both_parts() -> None:
    table = divided(site(200, patients=90), 0.9).table
    assert table.groupby("patient_id")["split"].nunique().max() == 1
    assert 0.3 < (table["split"] == "test").mean() < 0.5


def test_more_radiographs_move_none() -> None:
    few, many = (divided(site(n), 0.9).table.set_index("image_id")["split"] for n in (60, 200))
    assert few.equals(many.loc[few.index])


def test_splits_that_the_data_names_are_kept() -> None:
    given = (["train", "test"] * 30)[:60]
    assert divided(site(60, given), 0.9).table["split"].tolist() == ["validation", "test"] * 30


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        (site(48), "clinic: 48 labelled radiographs, at least 50"),
        (site(60, "train"), "0 radiographs to test on"),
        (site(60, ["test"] * 55 + ["train"] * 5), "at least 9 validation rows, there are 5"),
    ],
)
def test_too_few_are_refused(dataset: Dataset, said: str) -> None:
    with pytest.raises(InputError, match=said):
        divided(dataset, 0.9)
