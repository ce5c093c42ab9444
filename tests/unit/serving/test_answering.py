"""The whole answer: an estimate, and growth where the child's age is known."""

from __future__ import annotations

import numpy as np
import pytest

from bone_age.errors import InputError
from bone_age.serving.answering import answer, require_question
from bone_age.serving.predictor import Predictor
from bone_age.serving.references import REFERENCE_MODEL

HAND_LIKE = np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.from_folder(REFERENCE_MODEL)


def test_growth_is_assessed_where_the_age_is_known(predictor: Predictor) -> None:
    found = answer(predictor, HAND_LIKE, "F", chronological_age_months=126)
    assert found.growth is not None
    assert found.growth.chronological_age_months == 126
    assert found.growth.z == pytest.approx(
        (found.bone_age_months - found.growth.reference_mean_months) / found.growth.reference_sd_months
    )
    assert answer(predictor, HAND_LIKE, "F").growth is None


def test_an_age_outside_the_table_is_a_warning_and_the_estimate_stays(predictor: Predictor) -> None:
    found = answer(predictor, HAND_LIKE, "F", chronological_age_months=230)
    assert found.growth is None
    assert [warning.code for warning in found.warnings] == ["no_growth_assessment"]
    assert found.bone_age_months == answer(predictor, HAND_LIKE, "F").bone_age_months


@pytest.mark.parametrize(
    ("sex", "age", "said"),
    [
        ("X", None, "--sex is 'X', expected M or F"),
        ("", 12.0, "--sex is ''"),
        ("F", -1.0, "--age is -1 months, expected 0 to 240"),
        ("M", 241.0, "--age is 241 months"),
        ("M", float("nan"), "--age is nan months"),
    ],
)
def test_what_no_radiograph_could_be_answered_with_is_refused(sex: str, age: float | None, said: str) -> None:
    with pytest.raises(InputError, match=said):
        require_question(sex, age, ("--sex", "--age"))
    require_question("M", 0.0, ("--sex", "--age"))
    require_question("F", None, ("--sex", "--age"))
