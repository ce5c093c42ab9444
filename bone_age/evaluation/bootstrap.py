"""Bootstrap bounds by resampling patients, never single radiographs of one patient.

Two radiographs of one child err together, so rows resampled one by one would give bounds that are too narrow.
A resample is a row of counts (how often each patient was drawn), which turns every figure that is a ratio of sums into
one matrix product: 2,000 replicates of 12,000 rows with all subgroups take about a second. Counts are made in chunks,
so that memory does not grow with the number of replicates.

Source: percentile bootstrap, Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bone_age.errors import InputError

FloatArray = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.intp]

CONFIDENCE = 0.95
CHUNK_CELLS = 1_000_000  # counts held at a time; one chunk and its temporaries stay below 60 MB


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % bootstrap bounds, all three in the figure's own unit."""

    value: float
    lo: float
    hi: float

    @classmethod
    def from_replicates(cls, value: float, replicates: FloatArray) -> Estimate:
        """Percentile bounds; replicates in which the figure was undefined (an absent subgroup) are left out."""
        tail = (1 - CONFIDENCE) / 2
        lo, hi = np.quantile(replicates[np.isfinite(replicates)], [tail, 1 - tail])
        return cls(float(value), float(lo), float(hi))

    @property
    def excludes_zero(self) -> bool:
        return self.lo > 0 or self.hi < 0


def patient_of_rows(patient_ids: Sequence[str] | None, n: int) -> IndexArray:
    """Index of each row's patient, shape [n]; a row without an id ('') is a patient of its own.

    Raises:
        InputError: There are not as many ids as rows.
    """
    if patient_ids is None:
        return np.arange(n)
    if len(patient_ids) != n:
        raise InputError(f"{len(patient_ids)} patient ids for {n} rows")
    keys = [("patient", str(patient)) if patient else ("row", str(row)) for row, patient in enumerate(patient_ids)]
    index = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([index[key] for key in keys], dtype=np.intp)


def resampled_counts(patient_of_row: IndexArray, replicates: int, seed: int) -> Iterator[FloatArray]:
    """Yield how often each patient was drawn, in chunks of shape [some replicates, patients]."""
    n_patients = int(patient_of_row.max()) + 1
    generator = np.random.default_rng(seed)
    chunk = max(1, CHUNK_CELLS // len(patient_of_row))
    for start in range(0, replicates, chunk):
        size = min(chunk, replicates - start)
        drawn = generator.integers(0, n_patients, size=(size, n_patients))
        drawn += np.arange(size)[:, None] * n_patients
        counts = np.bincount(drawn.ravel(), minlength=size * n_patients)
        yield counts.reshape(size, n_patients).astype(np.float64)


def sums_by_patient(columns: FloatArray, patient_of_row: IndexArray) -> FloatArray:
    """Sum the rows of `columns` [n, k] by patient: [patients, k]."""
    sums = np.zeros((int(patient_of_row.max()) + 1, columns.shape[1]))
    np.add.at(sums, patient_of_row, columns)
    return sums


def paired_mae_difference(
    true_months: npt.ArrayLike,
    a_months: npt.ArrayLike,
    b_months: npt.ArrayLike,
    patient_ids: Sequence[str] | None,
    replicates: int,
    seed: int,
) -> Estimate:
    """MAE of `a` minus MAE of `b` on the same rows, months; below zero `a` is better.

    Both models see the same resamples, so what is hard for both cancels out: the bounds are far narrower than a
    comparison of two separate intervals.

    Args:
        true_months, a_months, b_months: Labels and two models' predictions of the same radiographs, shape [n].
        patient_ids: Shape [n]; None where every row is a patient.
    Raises:
        InputError: No rows, shapes that differ, or a value that is not finite.
    """
    true, a, b = (np.asarray(values, dtype=np.float64).ravel() for values in (true_months, a_months, b_months))
    if not len(true) or not len(true) == len(a) == len(b):
        raise InputError(f"cannot compare {len(a)} and {len(b)} predictions on {len(true)} rows")
    difference = np.abs(a - true) - np.abs(b - true)
    if not np.isfinite(difference).all():
        raise InputError(f"row {int(np.argmin(np.isfinite(difference)))}: a label or prediction is not finite")
    patients = patient_of_rows(patient_ids, len(true))
    sums = sums_by_patient(np.column_stack([difference, np.ones_like(difference)]), patients)
    totals = np.concatenate([counts @ sums for counts in resampled_counts(patients, replicates, seed)])
    return Estimate.from_replicates(float(difference.mean()), totals[:, 0] / totals[:, 1])
