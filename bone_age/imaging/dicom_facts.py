"""What a DICOM header says about the child and the picture, and nothing by which the child could be known.

Archives hold what people typed: an element that is empty, contradictory or not of its form is no fact and no error.
What was there and could not be read is named by its element, never quoted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import Literal

from pydicom.dataset import Dataset

from bone_age.imaging.dicom import read_header

DAYS_A_MONTH = 365.2425 / 12

_SEXES: dict[str, Literal["M", "F"]] = {"M": "M", "MALE": "M", "F": "F", "FEMALE": "F"}
_SIDES: dict[str, Literal["L", "R", "B"]] = {"L": "L", "R": "R", "B": "B"}
_AGE = re.compile(r"([0-9]{1,3})([DWMY])")
_MONTHS_A_UNIT = {"D": 1 / DAYS_A_MONTH, "W": 7 / DAYS_A_MONTH, "M": 1.0, "Y": 12.0}
_EXAMINED = ("AcquisitionDate", "StudyDate", "SeriesDate", "ContentDate")
_ELEMENTS = ("PatientSex", "PatientAge", "PatientBirthDate", *_EXAMINED, "ImageLaterality", "Laterality")


@dataclass(frozen=True)
class DicomFacts:
    """What a header says; None where it says nothing.

    Attributes:
        age_months: At the examination; by the dates of birth and examination or, without them, as stated.
        age_is_in_whole_years: `age_months` is as stated, and stated in years; up to 11 months may be missing.
        laterality: Of the hand; B is both.
        unreadable_age: Elements about the age that held no value of theirs, or contradict each other.
    """

    sex: Literal["M", "F"] | None = None
    age_months: float | None = None
    age_is_in_whole_years: bool = False
    laterality: Literal["L", "R", "B"] | None = None
    unreadable_age: tuple[str, ...] = ()


def read_dicom_facts(data: bytes) -> DicomFacts:
    """Read the facts of a DICOM file; never raises.

    A file too damaged to be read has none; that it cannot be used is for `decode_image` to say.
    """
    try:
        header = read_header(data, specific_tags=list(_ELEMENTS), stop_before_pixels=True)
    except Exception:  # as in `decode_image`
        return DicomFacts()
    return _Reader(header).facts()


class _Reader:
    """Takes one header apart and remembers which elements about the age could not be read."""

    def __init__(self, header: Dataset) -> None:
        self._header = header
        self._unreadable: list[str] = []

    def facts(self) -> DicomFacts:
        side = self._text("ImageLaterality") or self._text("Laterality")
        age_months, in_whole_years = self._age_months()
        return DicomFacts(
            sex=_SEXES.get(self._text("PatientSex")),
            age_months=age_months,
            age_is_in_whole_years=in_whole_years,
            laterality=_SIDES.get(side),
            unreadable_age=tuple(self._unreadable),
        )

    def _age_months(self) -> tuple[float | None, bool]:
        stated, unit = self._stated_age()
        by_dates = self._age_by_dates()
        if by_dates is None:
            return stated, unit == "Y"
        if stated is not None and abs(stated - by_dates) > 1.5 * max(_MONTHS_A_UNIT[unit], 1):
            self._unreadable += ["PatientAge", "PatientBirthDate"]  # which of them is wrong cannot be known
            return None, False
        return by_dates, False

    def _stated_age(self) -> tuple[float | None, str]:
        text = self._text("PatientAge")
        found = _AGE.fullmatch(text)
        if found is not None:
            return int(found[1]) * _MONTHS_A_UNIT[found[2]], found[2]
        if text:
            self._unreadable.append("PatientAge")
        return None, ""

    def _age_by_dates(self) -> float | None:
        born = self._date("PatientBirthDate")
        if born is None:
            return None
        examined = next((day for name in _EXAMINED if (day := self._date(name)) is not None), None)
        if examined is None:
            return None
        if examined < born:
            self._unreadable.append("PatientBirthDate")
            return None
        return (examined - born).days / DAYS_A_MONTH

    def _date(self, name: str) -> date | None:
        text = self._text(name)
        try:
            return date.fromisoformat(text.replace(".", "-"))  # full stops as before 1993
        except ValueError:
            if text:
                self._unreadable.append(name)
            return None

    def _text(self, name: str) -> str:
        """An element's text in capitals, without padding; empty where it is absent, several, or no text."""
        try:
            value = self._header.get(name)
            value = value.decode("ascii") if isinstance(value, bytes) else value
            return value.strip(" \0").upper() if isinstance(value, str) else ""
        except Exception:  # pydicom converts an element when it is asked for, and raises what it likes
            return ""
