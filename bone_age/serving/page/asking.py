"""What a person filled in, as a question; what is amiss is said in a sentence for who sits at the form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from bone_age.errors import InputError
from bone_age.imaging.decode import is_dicom
from bone_age.serving.answering import OLDEST_MONTHS, chronological_age_from_dates

MAX_FILES = 50
_AGREE_WITHIN_MONTHS = 1.0


@dataclass(frozen=True)
class Question:
    """Radiographs to be answered; a sex or age of None is left to what a DICOM file says of itself."""

    files: tuple[Path, ...]
    sex: str | None
    chronological_age_months: float | None


def read_form(
    files: list[str] | None,
    sex: str | None,
    birth: str | None,
    examination: str | None,
    years: str | None,
    months: str | None,
) -> Question:
    """Put the fields together.

    Args:
        files: Paths of the uploads.
        birth, examination: Dates as YYYY-MM-DD, or empty.
        years, months: Age at the examination; either may be left out.
    Raises:
        InputError: Something is absent, impossible or contradicts another field.
    """
    if not files:
        raise InputError("Choose a radiograph first: a PNG, JPEG or DICOM file.")
    if len(files) > MAX_FILES:
        raise InputError(f"{len(files)} files were chosen; at most {MAX_FILES} can be answered at once.")
    age = _age(birth, examination, years, months)
    if age is not None and len(files) > 1:
        raise InputError("A date of birth or age belongs to one child; leave it empty for several files.")
    if sex is None and not all(_may_say_the_sex(Path(file)) for file in files):
        raise InputError("Choose the child's sex; it is never guessed.")
    return Question(tuple(map(Path, files)), sex, age)


def _may_say_the_sex(file: Path) -> bool:
    """Whether it is DICOM, which may name sex and age itself."""
    try:
        with file.open("rb") as stream:
            return is_dicom(stream.read(132))
    except OSError:
        return True  # gone: said where it is read


def _age(birth: str | None, examination: str | None, years: str | None, months: str | None) -> float | None:
    by_dates = _age_by_dates(_date(birth, "date of birth"), _date(examination, "examination date"))
    by_figures = _age_by_figures(_figure(years, "years"), _figure(months, "months"))
    if by_dates is not None and by_figures is not None and abs(by_dates - by_figures) > _AGREE_WITHIN_MONTHS:
        raise InputError(
            f"The dates make {by_dates:.0f} months, but the age says {by_figures:.0f}; correct or empty one of them."
        )
    return by_figures if by_dates is None else by_dates


def _figure(text: str | None, name: str) -> float | None:
    if not text or not text.strip():
        return None
    try:
        figure = float(text.strip().replace(",", "."))
    except ValueError:
        figure = math.nan
    if not 0 <= figure < math.inf:
        raise InputError(f"The age in {name} cannot be read; write a number, for example 9.")
    return figure


def _date(text: str | None, name: str) -> date | None:
    if not text or not text.strip():
        return None
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        raise InputError(f"The {name} cannot be read; write it as year-month-day, for example 2016-04-30.") from None


def _age_by_dates(birth: date | None, examination: date | None) -> float | None:
    if birth is None and examination is None:
        return None
    if birth is None or examination is None:
        raise InputError(
            f"The {'date of birth' if birth is None else 'examination date'} is missing; give both dates, or none."
        )
    if birth > examination:
        raise InputError("The date of birth lies after the examination; check both dates.")
    if examination > date.today():
        raise InputError("The examination date lies in the future; check it.")
    return _possible(chronological_age_from_dates(birth, examination))


def _age_by_figures(years: float | None, months: float | None) -> float | None:
    if years is None and months is None:
        return None
    return _possible(12 * (years or 0) + (months or 0))


def _possible(age_months: float) -> float:
    if not age_months <= OLDEST_MONTHS:
        raise InputError(f"The age is {age_months:.0f} months; only ages up to {OLDEST_MONTHS} months can be used.")
    return age_months
