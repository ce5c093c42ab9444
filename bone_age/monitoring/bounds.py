"""What a run compares, each figure with its bound, and how rarely a run without drift may say drift.

A run makes `COMPARISONS` comparisons; each may be wrong in that share of `FALSE_ALARMS` (Bonferroni), so that a run is
wrong in at most `FALSE_ALARMS`, however the figures hang together. From some 1,000 answers on, differences become
certain that nobody would act on, so a bound is never below a least distance. Both were chosen by benchmarks/drift.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from bone_age.evaluation.answer_sample import FIGURES
from bone_age.serving.prediction_log import FLAGS, REFUSALS

FALSE_ALARMS = 0.01
FINDINGS = (*FLAGS, *REFUSALS)
ERRORS = ("reader_mae_months", "reader_bias_months", "reader_outside_interval")
COMPARISONS = len(FIGURES) + len(FINDINGS) + len(ERRORS)

NEWEST, MIN_ANSWERS, MIN_REFERENCE, MIN_READ = 300, 100, 50, 50
LEAST_DISTANCE = 0.10  # between distributions, or between shares of boys
USUAL_FINDING = 0.02  # a rarer finding is none to act on
LEAST_MAE_RISE_MONTHS, LEAST_BIAS_MONTHS, LEAST_UNCOVERED = 1.0, 1.5, 0.03


@dataclass(frozen=True)
class Compared:
    """One figure, and whether it is beyond its bound.

    Attributes:
        name: One of `FIGURES`, `FINDINGS` or `ERRORS`.
        unit: What `value` and `bound` are: `distance` (Kolmogorov-Smirnov, 0 to 1), `difference` or `share` (0 to 1),
            or `months`.
        value: How far apart service and reference are, or the share or error found in service.
        now, before: What is usual in service and in the reference: median, share or error; None where it is not known.
        n: What it was measured on, in service.
    """

    name: str
    unit: str
    value: float
    bound: float
    now: float
    before: float | None
    n: int

    @property
    def is_drift(self) -> bool:
        """A figure that is no number is drift: something is very wrong."""
        return not self.value <= self.bound

    def __str__(self) -> str:
        return f"{self.name} {self.value:.3g} above {self.bound:.3g} ({self.unit})"


def alpha(false_alarms: float) -> float:
    """The probability of one comparison being wrong, so that a run is wrong in `false_alarms`."""
    return false_alarms / COMPARISONS
