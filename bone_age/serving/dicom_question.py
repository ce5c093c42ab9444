"""What a question leaves out and its DICOM file says: sex, age, and which hand. What was asked wins over the file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bone_age.errors import InputError
from bone_age.imaging.decode import is_dicom
from bone_age.serving.answering import OLDEST_MONTHS
from bone_age.serving.predictor import Answered, Warning

if TYPE_CHECKING:
    from bone_age.imaging.dicom_facts import DicomFacts

_IN_WORDS = {"M": "male", "F": "female"}
_HANDS = {
    "R": Warning("right_hand", "The DICOM file says this is a right hand; the model learned from left hands."),
    "B": Warning("both_hands", "The DICOM file says this shows both hands; a picture of one hand is expected."),
}


@dataclass(frozen=True)
class Question:
    """What is asked about a radiograph, and what its asker has to be told about the file."""

    sex: str
    chronological_age_months: float | None
    warnings: tuple[Warning, ...] = ()

    def told_with(self, answered: Answered) -> Answered:
        """The answer with the question's warnings after its own."""
        warnings = (*answered.prediction.warnings, *self.warnings)
        return replace(answered, prediction=replace(answered.prediction, warnings=warnings))


def complete_question(image: bytes, sex: str | None, chronological_age_months: float | None) -> Question:
    """Fill in from a DICOM file what was not asked with; a file of another kind says nothing.

    Args:
        image: A PNG, JPEG or DICOM file, or anything else: that is for the predictor to refuse.
        sex, chronological_age_months: As asked, unchecked; None where left out.
    Raises:
        InputError: Neither the asker nor the file says which sex the child has.
    """
    if not is_dicom(image):
        if sex is None:
            raise InputError("sex is missing, expected M or F")
        return Question(sex, chronological_age_months)
    from bone_age.imaging.dicom_facts import read_dicom_facts  # pydicom, as in `decode_image` only where needed

    facts = read_dicom_facts(image)
    found, warnings = _sex(sex, facts)
    age_months, of_age = _age(facts) if chronological_age_months is None else (chronological_age_months, [])
    of_hand = [_HANDS[facts.laterality]] if facts.laterality in _HANDS else []
    return Question(found, age_months, (*warnings, *of_age, *of_hand))


def _sex(asked: str | None, facts: DicomFacts) -> tuple[str, list[Warning]]:
    if facts.sex is None:
        if asked is None:
            raise InputError("sex is missing, and the DICOM file does not say it: expected M or F")
        return asked, []
    words = _IN_WORDS[facts.sex]
    if asked is None:
        return facts.sex, [Warning("sex_from_dicom", f"The child's sex ({words}) was taken from the DICOM file.")]
    if asked == facts.sex:
        return asked, []
    said = f"The DICOM file says the child is {words}; the answer is for the sex that was asked for."
    return asked, [Warning("dicom_sex_differs", said)]


def _age(facts: DicomFacts) -> tuple[float | None, list[Warning]]:
    if facts.age_months is None:
        if not facts.unreadable_age:
            return None, []
        elements = " and ".join(facts.unreadable_age)
        said = f"The age in the DICOM file could not be read ({elements}) and was not used."
    elif facts.age_months > OLDEST_MONTHS:
        said = f"The age in the DICOM file is above {OLDEST_MONTHS} months and was not used."
    else:
        months = round(facts.age_months, 1)
        rough = " It is in whole years there; for more, give the age in months." if facts.age_is_in_whole_years else ""
        said = f"The child's age ({months:g} months) was taken from the DICOM file.{rough}"
        return months, [Warning("age_from_dicom", said)]
    return None, [Warning("dicom_age_not_used", said)]
