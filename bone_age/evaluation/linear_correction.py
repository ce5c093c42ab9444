"""A straight line through a model's answers, against reading the young too old and the old too young.

Whoever learns uncertain labels by their error answers nearer to the mean than the truth lies. Two lines through answers
and labels of the validation split are usual: least squares has the smallest error and leaves that bias by age; equal
spread of answers and labels takes it away and costs error. The line here has the geometric mean of their two slopes
(figures: docs/experiments.md). Imports numpy and pydantic only: serving needs it.

Source of the two lines: Smith, Use and Misuse of the Reduced Major Axis, Am J Phys Anthropol 2009;140:476-486.
"""

from __future__ import annotations

from typing import Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

MIN_CORRELATION = 0.8  # below, answers say too little of the age for their spread to mean anything


class LinearCorrection(BaseModel):
    """`slope` times an answer plus `intercept_months`; by default the answer itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    slope: float = Field(1.0, gt=0, allow_inf_nan=False)
    intercept_months: float = Field(0.0, allow_inf_nan=False)

    @classmethod
    def fit(cls, true_months: npt.ArrayLike, predicted_months: npt.ArrayLike) -> Self:
        """Fit on the validation split, both arguments of shape [n]; no change where they correlate below 0.8."""
        true, predicted = (np.asarray(months, np.float64).ravel() for months in (true_months, predicted_months))
        if len(true) < 2 or true.std() == 0 or predicted.std() == 0:
            return cls()
        correlation = float(np.corrcoef(true, predicted)[0, 1])
        if not correlation >= MIN_CORRELATION:
            return cls()
        slope = float(np.sqrt(correlation) * true.std() / predicted.std())
        return cls(slope=slope, intercept_months=float(true.mean() - slope * predicted.mean()))

    def of(self, months: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Corrected months, float32 like the network's answer, of the same shape; the line leads none below birth."""
        if self == LinearCorrection():
            return months
        return np.maximum(self.slope * months.astype(np.float64) + self.intercept_months, 0).astype(np.float32)
