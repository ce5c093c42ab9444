"""Splits by a hash of the patient's id: stable, disjoint, near the shares asked for."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bone_age.data.manifest import SPLITS, Dataset
from bone_age.data.splits import assign_splits, split_balance
from bone_age.errors import InputError
from bone_age.settings import SplitSettings

SETTINGS = SplitSettings()


def dataset_of(patients: list[str], splits: list[str] | None = None) -> Dataset:
    n = len(patients)
    table = pd.DataFrame(
        {
            "image_id": [f"i{i}" for i in range(n)],
            "path": [f"i{i}.png" for i in range(n)],
            "sha256": [f"{i:064x}" for i in range(n)],
            "sex": ["MF"[i % 2] for i in range(n)],
            "bone_age_months": [float(i % 241) for i in range(n)],
            "patient_id": patients,
            "split": splits or [""] * n,
            "source_row": [f"manifest.csv:{i + 2}" for i in range(n)],
        }
    )
    return Dataset("data", Path("data"), table)


def splits_of(dataset: Dataset, settings: SplitSettings = SETTINGS) -> dict[str, str]:
    table = assign_splits(dataset, settings).table
    return dict(zip(table["patient_id"], table["split"], strict=True))


PATIENTS = [f"p{i}" for i in range(2000)]


def test_shares_are_near_what_was_asked_for() -> None:
    assigned = assign_splits(dataset_of(PATIENTS), SplitSettings(validation=0.1, test=0.2))
    shares = assigned.table["split"].value_counts(normalize=True)
    assert shares["validation"] == pytest.approx(0.1, abs=0.03)
    assert shares["test"] == pytest.approx(0.2, abs=0.03)


@settings(deadline=None, max_examples=50)
@given(added=st.lists(st.text(min_size=1, max_size=8), max_size=30), where=st.integers(0, 2000))
def test_adding_rows_moves_no_old_row(added: list[str], where: int) -> None:
    before = splits_of(dataset_of(PATIENTS))
    after = splits_of(dataset_of(PATIENTS[:where] + added + PATIENTS[where:]))
    assert all(after[patient] == split for patient, split in before.items())


def test_all_images_of_a_patient_are_in_one_split() -> None:
    table = assign_splits(dataset_of([f"p{i % 200}" for i in range(1000)]), SETTINGS).table
    assert table.groupby("patient_id")["split"].nunique().max() == 1


def test_splits_are_the_same_on_every_machine() -> None:
    # From `printf 'bone-age-1\\0p0' | sha256sum`: a change here moves patients between splits of every data set in use.
    expected = {"p0": "test", "p8": "test", "p1": "train", "p2": "train", "p31": "validation", "p37": "validation"}
    assert expected.items() <= splits_of(dataset_of(PATIENTS)).items()


def test_another_salt_gives_other_splits() -> None:
    assert splits_of(dataset_of(PATIENTS)) != splits_of(dataset_of(PATIENTS), SplitSettings(salt="another"))


def test_a_larger_test_share_keeps_the_test_patients() -> None:
    small = splits_of(dataset_of(PATIENTS), SplitSettings(test=0.1))
    large = splits_of(dataset_of(PATIENTS), SplitSettings(test=0.3))
    assert all(large[patient] == "test" for patient, split in small.items() if split == "test")


def test_splits_named_by_the_data_win() -> None:
    given_splits = [SPLITS[i % 3] for i in range(30)]
    assert list(assign_splits(dataset_of(PATIENTS[:30], given_splits), SETTINGS).table["split"]) == given_splits


def test_splits_named_for_some_rows_only_are_refused() -> None:
    with pytest.raises(InputError, match=r"manifest\.csv:3: split is empty"):
        assign_splits(dataset_of(PATIENTS[:3], ["train", "", "test"]), SETTINGS)


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(InputError, match="no rows in split validation; name all three"):
        assign_splits(dataset_of(PATIENTS[:4], ["train", "train", "test", "test"]), SETTINGS)
    with pytest.raises(InputError, match="no rows in split"):
        assign_splits(dataset_of(PATIENTS[:2]), SETTINGS)


def test_assigning_leaves_the_data_set_given_as_it_was() -> None:
    dataset = dataset_of(PATIENTS)
    assign_splits(dataset, SETTINGS)
    assert (dataset.table["split"] == "").all()


def test_the_balance_counts_every_usable_row_and_shows_empty_bands() -> None:
    assigned = assign_splits(dataset_of(PATIENTS), SETTINGS)
    balance = split_balance(assigned, warn_band_below=5)
    assert len(balance.counts) == 3 * 2 * 4
    assert balance.counts["n"].sum() == len(PATIENTS)
    assert balance.warnings == ()


def test_thin_and_empty_bands_are_named() -> None:
    dataset = dataset_of(PATIENTS[:12], [SPLITS[i % 3] for i in range(12)])  # ages 0 to 11 months: one band
    warnings = split_balance(dataset, warn_band_below=3).warnings
    assert "validation split has 2 of sex F aged 0-60 months, fewer than 3" in warnings
    assert "no radiographs of sex M aged 168-240 months in any split" in warnings
    assert split_balance(dataset, warn_band_below=0).warnings == ()


def test_rows_without_a_usable_label_are_not_counted() -> None:
    dataset = dataset_of(PATIENTS[:6], [SPLITS[i % 3] for i in range(6)])
    spoiled = dataset.table.assign(sex=["X", "F", "M", "F", "M", "F"], bone_age_months=[1, float("nan"), 500, 1, 2, 3])
    assert split_balance(dataset.with_table(spoiled), 1).counts["n"].sum() == 3
