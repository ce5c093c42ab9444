"""What was asked wins over the DICOM file; what was left out is taken from it, and said."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from bone_age.errors import InputError
from bone_age.serving.dicom_question import Question, complete_question
from bone_age.serving.predictor import Warning
from tests.answers import answered
from tests.dicoms import radiograph, stored

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

PICTURE = np.zeros((16, 16), np.uint8)
AGED = {"PatientBirthDate": "20100101", "StudyDate": "20200101"}


def dicom(**elements: object) -> bytes:
    return stored(radiograph(PICTURE, **elements))


def png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(PICTURE).save(file, "PNG")
    return file.getvalue()


def codes(question: Question) -> list[str]:
    return [warning.code for warning in question.warnings]


def test_what_was_left_out_is_taken_from_the_file_and_said() -> None:
    question = complete_question(dicom(PatientSex="F", **AGED), None, None)
    assert (question.sex, question.chronological_age_months) == ("F", 120)
    assert [warning.message for warning in question.warnings] == [
        "The child's sex (female) was taken from the DICOM file.",
        "The child's age (120 months) was taken from the DICOM file.",
    ]


def test_what_was_asked_wins_and_another_sex_in_the_file_is_said() -> None:
    question = complete_question(dicom(PatientSex="F", **AGED), "M", 99.0)
    assert (question.sex, question.chronological_age_months, codes(question)) == ("M", 99.0, ["dicom_sex_differs"])


def test_a_file_that_agrees_needs_no_word() -> None:
    assert complete_question(dicom(PatientSex="F", Laterality="L"), "F", 120) == Question("F", 120)


def test_an_age_in_whole_years_is_said_to_be_rough() -> None:
    question = complete_question(dicom(PatientAge="010Y"), "F", None)
    assert question.chronological_age_months == 120
    assert codes(question) == ["age_from_dicom"]
    assert "whole years" in question.warnings[0].message


def test_an_age_of_nought_that_was_asked_with_is_no_absent_one() -> None:
    assert complete_question(dicom(**AGED), "F", 0).chronological_age_months == 0


@pytest.mark.parametrize("odd", [{"PatientAge": "045Y"}, {"PatientAge": "soon"}, AGED | {"PatientAge": "002Y"}])
def test_an_age_that_cannot_be_used_is_left_out_and_said(odd: dict[str, str]) -> None:
    question = complete_question(dicom(**odd), "F", None)
    assert (question.chronological_age_months, codes(question)) == (None, ["dicom_age_not_used"])
    assert complete_question(dicom(**odd), "F", 100).warnings == ()


@pytest.mark.parametrize(("side", "code"), [("R", ["right_hand"]), ("B", ["both_hands"]), ("L", []), ("?", [])])
def test_another_hand_than_the_left_is_said(side: str, code: list[str]) -> None:
    assert codes(complete_question(dicom(Laterality=side), "F", 100)) == code


@pytest.mark.parametrize("written", ["O", "", "both", None])
def test_a_sex_that_nobody_says_is_never_guessed(written: str | None) -> None:
    elements = {} if written is None else {"PatientSex": written}
    with pytest.raises(InputError, match=r"^sex is missing, and the DICOM file does not say it: expected M or F$"):
        complete_question(dicom(**elements), None, None)


def test_an_image_that_is_no_dicom_says_nothing() -> None:
    for data in (png(), b"", b"no image"):
        assert complete_question(data, "M", None) == Question("M", None)
        with pytest.raises(InputError, match=r"^sex is missing, expected M or F$"):
            complete_question(data, None, 100)


def test_an_empty_sex_is_not_the_files() -> None:
    assert complete_question(dicom(PatientSex="F"), "", None).sex == ""


def test_messages_name_nobody() -> None:
    question = complete_question(dicom(PatientSex="F", Laterality="R", PatientAge="Doe^Jane", **AGED), "M", None)
    assert not [word for word in ("Doe", "4711", "2010", "2020") if word in str(question)]


def test_the_answer_is_told_with_the_questions_warnings_last() -> None:
    question = Question("F", None, (Warning("right_hand", "Right."),))
    told = question.told_with(question.told_with(answered()))
    assert [warning.code for warning in told.prediction.warnings] == ["right_hand", "right_hand"]
