"""The form read as a question, and what is amiss in it."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bone_age.errors import InputError
from bone_age.serving.page.asking import MAX_FILES, read_form


@pytest.fixture
def png(tmp_path: Path) -> str:
    file = tmp_path / "hand.png"
    file.write_bytes(b"\x89PNG\r\n\x1a\n")
    return str(file)


def test_dates_and_figures_give_the_same_age(png: str) -> None:
    by_dates = read_form([png], "F", "2015-03-10", "2023-09-10", "", "")
    by_figures = read_form([png], "F", "", "", "8", " 6 ")
    assert by_dates.chronological_age_months == by_figures.chronological_age_months == 102
    assert read_form([png], "F", None, None, None, "102").chronological_age_months == 102
    assert read_form([png], "F", None, None, "8,5", None).chronological_age_months == 102
    assert read_form([png], "F", "", "", "", "").chronological_age_months is None


@pytest.mark.parametrize(
    ("filled", "said"),
    [
        ({"files": []}, "Choose a radiograph first"),
        ({"files": None}, "Choose a radiograph first"),
        ({"sex": None}, "Choose the child's sex"),
        ({"birth": "2015-03-10"}, "The examination date is missing"),
        ({"examination": "2015-03-10"}, "The date of birth is missing"),
        ({"birth": "2015-03-10", "examination": "2014-03-10"}, "lies after the examination"),
        ({"birth": "2015-03-10", "examination": str(date.today() + timedelta(days=2))}, "in the future"),
        ({"birth": "10.03.2015", "examination": "2023-09-10"}, "date of birth cannot be read"),
        ({"birth": "2015-03-10", "examination": "2023-09-10", "years": "9"}, "The dates make 102 months, but"),
        ({"birth": "1980-03-10", "examination": "2023-09-10"}, "apart, expected 0 to 240"),
        ({"years": "-1"}, "The age in years cannot be read"),
        ({"months": "nan"}, "The age in months cannot be read"),
        ({"months": "inf"}, "The age in months cannot be read"),
        ({"years": "21"}, "only ages up to 240 months"),
    ],
)
def test_what_is_amiss_is_said(png: str, filled: dict[str, Any], said: str) -> None:
    form = {"files": [png], "sex": "F", "birth": "", "examination": "", "years": "", "months": ""} | filled
    with pytest.raises(InputError, match=said):
        read_form(**form)


def test_an_age_is_for_one_radiograph_and_the_number_of_files_has_an_end(png: str) -> None:
    with pytest.raises(InputError, match="belongs to one child"):
        read_form([png, png], "F", "", "", "8", "")
    with pytest.raises(InputError, match=f"at most {MAX_FILES}"):
        read_form([png] * (MAX_FILES + 1), "F", "", "", "", "")


def test_only_a_dicom_file_may_leave_the_sex_open(png: str, tmp_path: Path) -> None:
    dicom = tmp_path / "hand"
    dicom.write_bytes(bytes(128) + b"DICM")
    assert read_form([str(dicom)], None, "", "", "", "").sex is None
    with pytest.raises(InputError, match="Choose the child's sex"):
        read_form([str(dicom), png], None, "", "", "", "")


@given(*[st.none() | st.text(max_size=12)] * 4)
def test_whatever_is_typed_is_an_age_or_a_sentence(
    birth: str | None, examination: str | None, years: str | None, months: str | None
) -> None:
    try:
        age = read_form([__file__], "M", birth, examination, years, months).chronological_age_months
    except InputError:
        return
    assert age is None or 0 <= age <= 240
