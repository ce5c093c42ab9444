"""The manifest and the fingerprint that names a data set."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bone_age.data.manifest import Dataset, age_band, fingerprint, require_labels
from bone_age.data.sources import read_dataset
from bone_age.errors import InputError


def dataset_of(folder: Path, *rows: str, images: bool = True) -> Dataset:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.csv").write_text("image,sex,bone_age_months\n" + "\n".join(rows))
    if images:
        for row in rows:
            (folder / row.split(",")[0]).write_bytes(row.split(",")[0].encode())
    return read_dataset(folder)


ROWS = ("a.png,F,12", "b.png,M,24.5", "c.png,F,120")


@settings(deadline=None, max_examples=50)
@given(order=st.permutations(range(12)))
def test_fingerprint_does_not_depend_on_row_order(order: list[int]) -> None:
    labels = {"sex": list("MF" * 6), "bone_age_months": [float(i) for i in range(12)]}
    table = pd.DataFrame({"sha256": [f"{i % 5:064x}" for i in range(12)]} | labels)
    assert fingerprint(table.iloc[order]) == fingerprint(table)


def test_fingerprint_does_not_depend_on_folder_or_layout(tmp_path: Path) -> None:
    one = dataset_of(tmp_path / "one", "1.png,F,12", "2.png,M,24")
    other = tmp_path / "other"
    (other / "boneage-training-dataset").mkdir(parents=True)
    (other / "boneage-training-dataset.csv").write_text("id,boneage,male\n2,24,True\n1,12,False\n")
    for name in ("1.png", "2.png"):
        (other / "boneage-training-dataset" / name).write_bytes(name.encode())
    assert read_dataset(other).fingerprint == one.fingerprint


@pytest.mark.parametrize("changed", ["a.png,M,12", "a.png,F,13", "a.png,F,12.01"])
def test_fingerprint_changes_with_a_label(tmp_path: Path, changed: str) -> None:
    before = dataset_of(tmp_path / "before", *ROWS)
    after = dataset_of(tmp_path / "after", changed, *ROWS[1:])
    assert before.fingerprint != after.fingerprint


def test_fingerprint_changes_with_one_byte_of_an_image_or_a_row(tmp_path: Path) -> None:
    before = dataset_of(tmp_path, *ROWS).fingerprint
    (tmp_path / "b.png").write_bytes(b"B.png")
    assert read_dataset(tmp_path).fingerprint != before
    assert dataset_of(tmp_path, *ROWS[:2]).fingerprint != before


def test_a_saved_data_set_is_loaded_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "manifest.csv").write_text(
        "image,sex,bone_age_months,chronological_age_months,patient_id\n"
        '007.png,F,168.93482374,,nan\nNA.png,"x,""y",abc,12.1,1e5\nü.png,M,,,\n'
    )
    dataset = read_dataset(folder, name="odd", synthetic=True)
    (tmp_path / "saved").mkdir()
    dataset.save(tmp_path / "saved")
    loaded = Dataset.load(tmp_path / "saved")
    pd.testing.assert_frame_equal(loaded.table, dataset.table)
    assert (loaded.name, loaded.root, loaded.synthetic) == ("odd", dataset.root, True)
    assert loaded.fingerprint == dataset.fingerprint


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("d.png,X,12", "manifest.csv:5: sex is 'X', expected M or F"),
        ("d.png,,12", "manifest.csv:5: sex is '', expected M or F"),
        ("d.png,F,abc", "manifest.csv:5: bone age is 'abc' months"),
        ("d.png,F,-1", "manifest.csv:5: bone age is '-1' months"),
        ("d.png,F,240.5", "manifest.csv:5: bone age is '240.5' months"),
        ("a.png,F,12", "manifest.csv:5: image id 'a' appears more than once"),
    ],
)
def test_a_row_that_cannot_be_scored_is_refused_by_name(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(InputError) as refusal:
        require_labels(dataset_of(tmp_path, *ROWS, row))
    assert message in str(refusal.value)


def test_an_absent_image_cannot_be_scored(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"manifest\.csv:2: image 'a\.png' is absent or cannot be read"):
        require_labels(dataset_of(tmp_path, *ROWS, images=False))


def test_good_rows_pass(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, *ROWS, "d.png,M,0", "e.png,M,240")
    require_labels(dataset)
    assert dataset.table["bone_age_months"].tolist()[-2:] == [0, 240]


@pytest.mark.parametrize(
    ("months", "band"),
    [(0, "000_060"), (59.99, "000_060"), (60, "060_120"), (120, "120_168"), (168, "168_240"), (240, "168_240")],
)
def test_age_bands_include_their_lower_edge_and_the_last_one_240(months: float, band: str) -> None:
    assert age_band(months) == band


@pytest.mark.parametrize("months", [-0.1, 240.1, float("nan"), float("inf")])
def test_an_age_outside_0_to_240_has_no_band(months: float) -> None:
    with pytest.raises(ValueError, match="expected 0 to 240"):
        age_band(months)
