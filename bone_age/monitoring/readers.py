"""Where readers' bone ages came back: error, bias and coverage, rolling and by subgroup, against the test split's.

Readers do not answer at random: they look again at what surprises them. So a rise of the error is a reason to look at
the cases, and only a sample of all answers that is read without choosing measures the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from scipy.stats import binomtest, norm

from bone_age.evaluation.bootstrap import Estimate
from bone_age.evaluation.metrics import Metrics, ScoredRows, measure
from bone_age.evaluation.subgroups import subgroup_name
from bone_age.monitoring.bounds import (
    ERRORS,
    FALSE_ALARMS,
    LEAST_BIAS_MONTHS,
    LEAST_MAE_RISE_MONTHS,
    LEAST_UNCOVERED,
    MIN_READ,
    Compared,
    alpha,
)
from bone_age.monitoring.drift import most_by_chance
from bone_age.serving.prediction_table import LoggedAnswer

ROLLING, STEP, REPLICATES = 50, 10, 1000
MOST_STRETCHES = 60  # each takes some 20 ms
MIN_GROUP = 10
Z95 = 1.959964


@dataclass(frozen=True)
class ReadAnswer:
    """An answer whose radiograph was read; several readers' months are averaged, each reader's last reading counts."""

    time: datetime
    sex: str
    bone_age_months: float
    lower_months: float
    upper_months: float
    read_months: float

    @classmethod
    def of(cls, answer: LoggedAnswer) -> ReadAnswer | None:
        """None where nobody has read it."""
        last = {reading.reader: reading.bone_age_months for reading in answer.readings}
        if not last:
            return None
        months = (answer.bone_age_months, answer.lower_months, answer.upper_months)
        return cls(answer.time, answer.sex, *months, sum(last.values()) / len(last))

    @property
    def is_covered(self) -> bool:
        return self.lower_months <= self.read_months <= self.upper_months


@dataclass(frozen=True)
class GroupErrors:
    """Error of one subgroup or of one stretch of time, months, with 95 % bounds; coverage from 0 to 1."""

    name: str
    n: int
    mae: Estimate
    bias: Estimate
    coverage: Estimate


@dataclass(frozen=True)
class ReaderErrors:
    """Errors over all read answers, by subgroup (sex and age as read), and rolling over `ROLLING` of them.

    Attributes:
        rolling: By the time of the newest answer in it (ISO 8601, UTC), the oldest first.
    """

    overall: GroupErrors
    groups: tuple[GroupErrors, ...]
    rolling: tuple[GroupErrors, ...]


def reader_errors(read: Sequence[ReadAnswer], nominal_coverage: float) -> ReaderErrors | None:
    """Measure answers in the order of their time; None where fewer than `MIN_GROUP` were read."""
    if len(read) < MIN_GROUP:
        return None
    of_group: dict[str, list[ReadAnswer]] = {}
    for one in read:
        of_group.setdefault(subgroup_name(one.sex, one.read_months), []).append(one)
    groups = [
        _errors(name, rows, nominal_coverage) for name, rows in sorted(of_group.items()) if len(rows) >= MIN_GROUP
    ]
    step = max(STEP, len(read) // MOST_STRETCHES)
    ends = list(range(len(read), ROLLING - 1, -step))[::-1]
    stretches = [read[end - ROLLING : end] for end in ends]
    rolling = [_errors(rows[-1].time.isoformat(timespec="seconds"), rows, nominal_coverage) for rows in stretches]
    return ReaderErrors(_errors("all", read, nominal_coverage), tuple(groups), tuple(rolling))


def compare_errors(
    read: Sequence[ReadAnswer],
    reference: Mapping[str, float],
    nominal_coverage: float,
    false_alarms: float = FALSE_ALARMS,
) -> list[Compared]:
    """Error, bias and coverage against the model's own on its test split; nothing below `MIN_READ` read answers.

    Args:
        reference: The figures of the model's test split, as its `metrics.json` names them.
    """
    if len(read) < MIN_READ:
        return []
    n, limit = len(read), alpha(false_alarms)
    errors = np.array([one.bone_age_months - one.read_months for one in read])
    mae, bias = float(np.abs(errors).mean()), float(errors.mean())
    outside = sum(not one.is_covered for one in read) / n
    rise = max(norm.isf(limit) * _spread(np.abs(errors), "mae", reference), LEAST_MAE_RISE_MONTHS)
    shift = max(norm.isf(limit / 2) * _spread(errors, "bias", reference), LEAST_BIAS_MONTHS)
    coverage = min(reference.get(f"coverage_{nominal_coverage * 100:g}", nominal_coverage), nominal_coverage)
    expected = 1 - coverage
    most = max(most_by_chance(expected, n, limit), expected + LEAST_UNCOVERED)
    before = reference["mae"], reference["bias"]
    return [
        Compared(ERRORS[0], "months", mae, before[0] + float(rise), mae, before[0], n),
        Compared(ERRORS[1], "months", abs(bias - before[1]), float(shift), bias, before[1], n),
        Compared(ERRORS[2], "share", outside, most, outside, expected, n),
    ]


def _spread(values: np.ndarray[tuple[int], np.dtype[np.float64]], name: str, reference: Mapping[str, float]) -> float:
    """Standard error of a mean in service less the mean of the test split."""
    of_reference = (reference[f"{name}_hi"] - reference[f"{name}_lo"]) / (2 * Z95)
    return float(np.hypot(values.std(ddof=1) / np.sqrt(len(values)), of_reference))


def _errors(name: str, rows: Sequence[ReadAnswer], nominal_coverage: float) -> GroupErrors:
    table = np.array([(row.read_months, row.bone_age_months, row.lower_months, row.upper_months) for row in rows])
    true, predicted, lower, upper = table.T
    scored = ScoredRows([str(place) for place in range(len(rows))], true, predicted, lower, upper, [""] * len(rows))
    metrics: Metrics = measure(scored, nominal_coverage, REPLICATES, seed=0)[0]
    covered = sum(row.is_covered for row in rows)
    bounds = binomtest(covered, len(rows)).proportion_ci(method="wilson")  # the bootstrap's are 0 wide where all are
    coverage = Estimate(covered / len(rows), float(bounds.low), float(bounds.high))
    return GroupErrors(name, len(rows), metrics.mae, metrics.bias, coverage)
