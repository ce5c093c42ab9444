"""Sex, age and side as archives hold them; what is odd is absent, and nothing that names a child comes out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from bone_age.imaging.dicom_facts import DicomFacts, read_dicom_facts
from tests.dicoms import PATIENT, radiograph, stored

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

PICTURE = np.zeros((16, 16), np.uint8)


def facts(syntax: str = ExplicitVRLittleEndian, **elements: object) -> DicomFacts:
    return read_dicom_facts(stored(radiograph(PICTURE, **elements), syntax))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
@pytest.mark.parametrize(
    ("written", "sex"),
    [("M", "M"), ("F", "F"), ("F ", "F"), ("f", "F"), ("male", "M"), ("FEMALE", "F")]
    + [(odd, None) for odd in ("O", "U", "", "MF", "X", "0", ["M", "F"], "Girl")],
)
def test_sex_is_read_or_absent(written: object, sex: str | None, syntax: str) -> None:
    assert facts(syntax, PatientSex=written).sex == sex


@pytest.mark.parametrize(
    ("stated", "months"),
    [("012Y", 144), ("030M", 30), ("010W", 2.2998), ("015D", 0.4928), ("12Y", 144), ("000D", 0), ("012y", 144)],
)
def test_stated_age_is_converted_to_months(stated: str, months: float) -> None:
    found = facts(PatientAge=stated)
    assert found.age_months == pytest.approx(months, abs=1e-3)
    assert found.age_is_in_whole_years == stated.upper().endswith("Y")
    assert found.unreadable_age == ()


@pytest.mark.parametrize("stated", ["12", "Y012", "-12Y", "012 Y", "1200Y", "twelve", "0x2Y"])
def test_age_of_another_form_is_absent_and_named(stated: str) -> None:
    found = facts(PatientAge=stated)
    assert (found.age_months, found.unreadable_age) == (None, ("PatientAge",))


@pytest.mark.parametrize("examined", ["StudyDate", "AcquisitionDate", "SeriesDate", "ContentDate"])
@pytest.mark.parametrize("born", ["20100315", "2010.03.15", "2010-03-15"])
def test_age_is_what_lies_between_birth_and_examination(born: str, examined: str) -> None:
    found = facts(PatientBirthDate=born, **{examined: "20200915"})
    assert found.age_months == pytest.approx(126, abs=0.1)
    assert not found.age_is_in_whole_years


def test_the_day_of_the_picture_comes_before_that_of_the_study() -> None:
    found = facts(PatientBirthDate="20100101", StudyDate="20190101", AcquisitionDate="20200101")
    assert found.age_months == pytest.approx(120, abs=0.1)


def test_dates_are_more_exact_than_an_age_in_years() -> None:
    found = facts(PatientBirthDate="20100101", StudyDate="20201231", PatientAge="010Y")
    assert found.age_months == pytest.approx(131.96, abs=0.05)


@pytest.mark.parametrize("stated", ["012Y", "003M", "014D"])
def test_dates_that_contradict_the_stated_age_leave_none(stated: str) -> None:
    """For example a made-up birth date in a file without names."""
    found = facts(PatientBirthDate="19000101", StudyDate="20200101", PatientAge=stated)
    assert (found.age_months, found.unreadable_age) == (None, ("PatientAge", "PatientBirthDate"))


@pytest.mark.parametrize("born", ["20200230", "00000000", "2020", "unknown", "20210101"])
def test_impossible_birth_date_is_absent_and_named(born: str) -> None:
    found = facts(PatientBirthDate=born, StudyDate="20200401")
    assert (found.age_months, found.unreadable_age) == (None, ("PatientBirthDate",))


def test_one_date_alone_tells_no_age() -> None:
    assert facts(PatientBirthDate="20100101") == facts(StudyDate="20200101") == DicomFacts()


@pytest.mark.parametrize("name", ["Laterality", "ImageLaterality"])
@pytest.mark.parametrize(("written", "side"), [("R", "R"), ("L", "L"), ("B", "B"), ("U", None), ("", None)])
def test_side_is_read(name: str, written: str, side: str | None) -> None:
    assert facts(**{name: written}).laterality == side


def test_a_picture_without_these_elements_has_no_facts() -> None:
    assert facts() == DicomFacts()


def test_no_identifier_is_among_the_facts() -> None:
    """Neither as a field nor as text in one; a date of birth identifies, an age does not."""
    found = facts(
        PatientBirthDate="20100101", StudyDate="20200101", PatientSex="F", Laterality="R", AccessionNumber="8"
    )
    assert {field.name for field in dataclasses.fields(found)} == {
        "sex", "age_months", "age_is_in_whole_years", "laterality", "unreadable_age",
    }  # fmt: skip
    assert not [word for word in (PATIENT, "Doe", "4711", "2010", "2020") if word in str(found)]


def test_a_deflated_file_has_no_facts_and_is_not_inflated() -> None:
    assert facts(DeflatedExplicitVRLittleEndian, PatientSex="F") == DicomFacts()


WHOLE = stored(
    radiograph(PICTURE, PatientSex="F", PatientAge="012Y", PatientBirthDate="20080101", StudyDate="20200606")
)


@settings(deadline=None, max_examples=300)
@given(
    edits=st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, len(WHOLE)),
)
def test_damaged_headers_have_facts_of_their_form_or_none(edits: list[tuple[int, int]], cut: int) -> None:
    damaged = bytearray(WHOLE)
    for place, value in edits:
        damaged[place] = value
    for data in (bytes(damaged), bytes(damaged[:cut])):
        found = read_dicom_facts(data)
        assert found.sex in (None, "M", "F")
        assert found.age_months is None or 0 <= found.age_months <= 12 * 9999


@settings(deadline=None)
@given(data=st.binary(max_size=400))
def test_any_bytes_have_facts_or_none(data: bytes) -> None:
    assert isinstance(read_dicom_facts(data), DicomFacts)
