"""Sex and age band: the groups for which a model has to answer separately.

A mean over all children hides a model that fails for young girls. Bands are of the labelled bone age, since that is
known for every scored radiograph, and are the same bands by which splits are balanced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bone_age.data.manifest import age_band
from bone_age.errors import InputError
from bone_age.evaluation.bootstrap import Estimate


@dataclass(frozen=True)
class Subgroup:
    """Figures of one sex and age band, months.

    Attributes:
        name: Sex and band, as in `F_060_120`.
        n: Radiographs in it; bounds from a handful mean little, so n goes wherever the figures go.
    """

    name: str
    n: int
    mae: Estimate
    bias: Estimate

    @property
    def sex(self) -> str:
        return self.name[0]

    @property
    def band_months(self) -> str:
        """The band for readers: `60-120`."""
        first, last = self.name[2:].split("_")
        return f"{int(first)}-{int(last)}"


def subgroup_name(sex: str, bone_age_months: float) -> str:
    """`F_060_120` for a girl with a bone age of 75 months.

    Raises:
        InputError: The sex is neither M nor F.
        ValueError: The age is outside 0 to 240 months.
    """
    if sex not in ("M", "F"):
        raise InputError(f"sex is '{sex}', expected M or F")
    return f"{sex}_{age_band(bone_age_months)}"


def subgroup_names(sexes: Sequence[str], bone_ages_months: Sequence[float]) -> list[str]:
    return [subgroup_name(sex, age) for sex, age in zip(sexes, bone_ages_months, strict=True)]
