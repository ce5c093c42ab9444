from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bone_age.data.manifest import Dataset
from bone_age.errors import InputError
from bone_age.evaluation.evaluation import Evaluation
from bone_age.evaluation.failures import Failures, find_failures
from bone_age.evaluation.markdown import markdown_table
from bone_age.imaging import PreprocessingSettings

Evaluate = Callable[..., Evaluation]
SETTINGS = PreprocessingSettings(image_size_px=64)
ERRORS = (3.0, -60.0, 0.0, 9.0, 60.0, -1.0, 30.0, 2.0)


@pytest.fixture
def evaluation(evaluate: Evaluate, hands: Dataset) -> Evaluation:
    return evaluate(hands.table.assign(predicted_months=hands.table["bone_age_months"] + np.array(ERRORS)))


def test_the_largest_errors_come_first_and_equal_ones_by_id(evaluation: Evaluation, hands: Dataset) -> None:
    found = find_failures(evaluation, hands, SETTINGS, 3)
    assert [(one.image_id, one.error_months) for one in found.worst] == [
        ("hand1", -60.0),
        ("hand4", 60.0),
        ("hand6", 30.0),
    ]
    assert found.n == 8


def test_a_label_outside_its_interval_is_said(evaluation: Evaluation, hands: Dataset) -> None:
    """The calibration's half-width is some 16 months, so errors of 30 and more lie outside."""
    found = find_failures(evaluation, hands, SETTINGS, 8)
    outside = {one.image_id for one in found.worst if one.label_outside_interval}
    assert outside == {"hand1", "hand4", "hand6"}
    assert found.n_outside_interval == 3


def test_an_inverted_radiograph_is_said(evaluation: Evaluation, hands: Dataset) -> None:
    found = find_failures(evaluation, hands, SETTINGS, 8)
    assert {one.image_id for one in found.worst if one.was_inverted} == {"hand7"}
    assert found.n_inverted == 1
    left = SETTINGS.model_copy(update={"undo_inversion": False})
    assert find_failures(evaluation, hands, left, 8).n_inverted == 0


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535)])
def test_grey_and_contrast_are_those_of_the_picture(
    evaluate: Evaluate, hands: Dataset, tmp_path: Path, dtype: type, white: int
) -> None:
    half = np.zeros((200, 200), dtype)
    half[:, 100:] = white
    cv2.imwrite(str(tmp_path / "half.png"), half)
    table = hands.table.head(1).assign(path="half.png")
    dataset = replace(hands.with_table(table), root=tmp_path)
    (one,) = find_failures(evaluate(table.assign(predicted_months=1.0)), dataset, SETTINGS, 5).worst
    assert one.mean_grey == pytest.approx(127.5, abs=0.5)
    assert one.contrast == pytest.approx(127.5, abs=0.5)


def test_another_data_set_is_refused(evaluation: Evaluation, hands: Dataset) -> None:
    with pytest.raises(InputError, match="has no image 'hand7'"):
        find_failures(evaluation, hands.with_table(hands.table.head(7)), SETTINGS, 3)


def test_saved_failures_can_be_read_back_and_hold_no_path(
    evaluation: Evaluation, hands: Dataset, tmp_path: Path
) -> None:
    found = find_failures(evaluation, hands, SETTINGS, 4)
    found.save(tmp_path)
    assert Failures.model_validate_json((tmp_path / "failures.json").read_text()) == found
    assert pd.read_csv(tmp_path / "failures.csv")["image_id"].tolist() == [one.image_id for one in found.worst]
    assert {file.suffix for file in tmp_path.rglob("*")} == {".json", ".csv", ".md"}
    assert not any(str(hands.root) in file.read_text() for file in tmp_path.iterdir())


@given(st.lists(st.text(), min_size=1, max_size=4))
@settings(max_examples=50)
def test_no_text_breaks_a_markdown_table(cells: list[str]) -> None:
    lines = markdown_table(["column"] * len(cells), [cells]).split("\n")
    assert len(lines) == 4
    assert lines[2].replace("\\|", "").count("|") == len(cells) + 1
