"""The whole answer to one question: the estimate, and what it means at the child's age."""

from __future__ import annotations

from calendar import monthrange
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy.typing as npt

from bone_age.errors import InputError
from bone_age.evaluation.intervals import IntervalCalibration
from bone_age.growth import OutsideReferenceError, Sex, assess_age_consistency, assess_growth, norm_at
from bone_age.serving.predictor import Answered, Prediction, Predictor, Warning

OLDEST_MONTHS = 240


def require_question(sex: str, chronological_age_months: float | None, called: tuple[str, str]) -> None:
    """Refuse what no radiograph could be answered with.

    Args:
        called: What the asker knows sex and age by, for example `--sex` and `--chronological-age`.
    Raises:
        InputError: The sex is neither M nor F, or the age is no number from 0 to `OLDEST_MONTHS`.
    """
    if sex not in ("M", "F"):
        raise InputError(f"{called[0]} is '{sex}', expected M or F")
    if chronological_age_months is not None and not 0 <= chronological_age_months <= OLDEST_MONTHS:
        raise InputError(f"{called[1]} is {chronological_age_months:g} months, expected 0 to {OLDEST_MONTHS}")


def chronological_age_from_dates(birth: date, examined: date) -> float:
    """Age at the examination, months: whole calendar months, and the share of the next one that has passed.

    Raises:
        InputError: The examination was before the birth, or more than `OLDEST_MONTHS` after it. The dates themselves
            are left out of the message, as they would tell who the child is.
    """
    if examined < birth:
        raise InputError("the examination date is before the date of birth")
    whole = 12 * (examined.year - birth.year) + examined.month - birth.month
    if _month_day(birth, whole) > examined:
        whole -= 1
    last = _month_day(birth, whole)
    months = whole + min((examined - last).days / monthrange(last.year, last.month)[1], 1.0)
    if months > OLDEST_MONTHS:
        raise InputError(
            f"date of birth and examination date are {months:.2f} months apart, expected 0 to {OLDEST_MONTHS}"
        )
    return months


def _month_day(birth: date, months: int) -> date:
    """The day on which a child is so many months old: that of its birth, or the month's last where it has none such."""
    years, month = divmod(birth.month - 1 + months, 12)
    year = birth.year + years
    return date(year, month + 1, min(birth.day, monthrange(year, month + 1)[1]))


def answer(
    predictor: Predictor,
    image: Path | bytes | npt.NDArray[Any],
    sex: str,
    chronological_age_months: float | None = None,
    label: str = "array",
) -> Prediction:
    """Estimate a radiograph's bone age; arguments and errors as for `answer_in_full`."""
    return answer_in_full(predictor, image, sex, chronological_age_months, label).prediction


def answer_in_full(
    predictor: Predictor,
    image: Path | bytes | npt.NDArray[Any],
    sex: str,
    chronological_age_months: float | None = None,
    label: str = "array",
) -> Answered:
    """Estimate a radiograph's bone age and, where the child's age is known, assess growth and agreement by it.

    Args:
        image, sex, label: As for `Predictor.answer`.
    Raises:
        InputError, ImageError: As `Predictor.answer`.
    """
    answered = predictor.answer(image, sex, label)
    if chronological_age_months is None:
        return answered
    known_sex: Sex = "M" if sex == "M" else "F"
    prediction = _at_age(answered.prediction, known_sex, chronological_age_months, predictor.calibration)
    return replace(answered, prediction=prediction)


def _at_age(found: Prediction, sex: Sex, age_months: float, calibration: IntervalCalibration) -> Prediction:
    """The model's error is taken where the bone age is expected, not where it was found.

    That is the error which the rule's children have, and z then grows with every month of bone age.
    """
    interval = (found.bone_age_months, found.lower_months, found.upper_months)
    try:
        error_sd = calibration.error_sd_months(norm_at(age_months, sex).mean_months)
        return replace(
            found,
            growth=assess_growth(*interval, age_months, sex),
            age_consistency=assess_age_consistency(found.bone_age_months, age_months, sex, error_sd),
        )
    except OutsideReferenceError as error:
        return replace(found, warnings=(*found.warnings, Warning("no_growth_assessment", str(error))))
