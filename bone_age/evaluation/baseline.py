"""The floor every model has to beat: the mean bone age of the training radiographs of that sex."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bone_age.data.manifest import Sex
from bone_age.errors import InputError
from bone_age.evaluation.bootstrap import FloatArray

BASELINE_NAME = "mean for that sex"


@dataclass(frozen=True)
class SexMeanBaseline:
    """Predicts without looking at the radiograph.

    Attributes:
        mean_months: Mean training label by sex, months.
    """

    mean_months: Mapping[str, float]

    @classmethod
    def fit(cls, sexes: Sequence[Sex], bone_ages_months: Sequence[float]) -> SexMeanBaseline:
        """Take the means of the training split, both arguments of shape [n].

        Raises:
            InputError: There are no rows, or a label is not finite.
        """
        labels, is_of = np.asarray(bone_ages_months, dtype=np.float64), np.asarray(sexes)
        if not len(labels) or len(labels) != len(is_of) or not np.isfinite(labels).all():
            raise InputError(f"the baseline needs a sex and a finite bone age for each of {len(is_of)} training rows")
        return cls({str(sex): float(labels[is_of == sex].mean()) for sex in sorted(set(sexes))})

    def predict(self, sexes: Sequence[Sex]) -> FloatArray:
        """Months, shape [n].

        Raises:
            InputError: A sex that the training split did not have.
        """
        unknown = sorted(set(sexes) - set(self.mean_months))
        if unknown:
            raise InputError(f"the training split has no radiograph of sex '{unknown[0]}', so there is no mean for it")
        return np.array([self.mean_months[sex] for sex in sexes], dtype=np.float64)
