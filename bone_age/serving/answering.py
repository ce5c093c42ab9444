"""The whole answer to one question: the estimate, and what it means at the child's age."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from bone_age.errors import InputError
from bone_age.growth import OutsideReferenceError, assess_growth
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
    """Estimate a radiograph's bone age and, where the child's age is known, assess growth by it.

    Args:
        image, sex, label: As for `Predictor.answer`.
    Raises:
        InputError, ImageError: As `Predictor.answer`.
    """
    answered = predictor.answer(image, sex, label)
    if chronological_age_months is None:
        return answered
    return replace(answered, prediction=_with_growth(answered.prediction, sex, chronological_age_months))


def _with_growth(found: Prediction, sex: str, chronological_age_months: float) -> Prediction:
    interval = (found.bone_age_months, found.lower_months, found.upper_months)
    try:
        return replace(found, growth=assess_growth(*interval, chronological_age_months, "M" if sex == "M" else "F"))
    except OutsideReferenceError as error:
        return replace(found, warnings=(*found.warnings, Warning("no_growth_assessment", str(error))))
