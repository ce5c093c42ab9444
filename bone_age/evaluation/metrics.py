"""The figures a model is judged by, each with 95 % bootstrap bounds.

All figures come from the same resamples in one pass. The point value is computed by the same code as the replicates
(with every patient drawn once), so that a figure and its bounds cannot follow two definitions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from bone_age.errors import InputError
from bone_age.evaluation.bootstrap import (
    Estimate,
    FloatArray,
    IndexArray,
    patient_of_rows,
    resampled_counts,
    sums_by_patient,
)
from bone_age.evaluation.subgroups import Subgroup

WITHIN_MONTHS = (6, 12, 24)
_NEGLIGIBLE_VARIANCE = 1e-9  # months²; below it all labels are the same and R² is undefined


@dataclass(frozen=True)
class Metrics:
    """Figures over all scored radiographs; errors in months, shares from 0 to 1.

    Attributes:
        n, n_patients: Radiographs and the patients they are of.
        bias: Mean of predicted - true.
        r2: 1 - residual / total sum of squares; None where all labels are equal.
        p90_ae: 90th percentile of the absolute error, linear between ranks.
        within_6m, within_12m, within_24m: Share with an absolute error of at most that.
        coverage: Share of labels inside their prediction interval, bounds included.
        nominal_coverage: The share the intervals were made for.
    """

    n: int
    n_patients: int
    mae: Estimate
    rmse: Estimate
    r2: Estimate | None
    bias: Estimate
    p90_ae: Estimate
    within_6m: Estimate
    within_12m: Estimate
    within_24m: Estimate
    coverage: Estimate
    nominal_coverage: float

    @property
    def coverage_name(self) -> str:
        """`coverage_90` for intervals that were made to hold 90 %; another nominal share never goes by that name."""
        return f"coverage_{self.nominal_coverage * 100:g}"

    def estimates(self) -> dict[str, Estimate]:
        """Every figure that is defined, by its public name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        named = {name: value for name, value in values.items() if isinstance(value, Estimate)}
        named[self.coverage_name] = named.pop("coverage")
        return named

    def flat(self) -> dict[str, float]:
        """`n`, and for each figure `mae`, `mae_lo`, `mae_hi`; a figure that is undefined is absent."""
        flat: dict[str, float] = {"n": self.n, "n_patients": self.n_patients}
        for name, estimate in self.estimates().items():
            flat |= {name: estimate.value, f"{name}_lo": estimate.lo, f"{name}_hi": estimate.hi}
        return flat


@dataclass(frozen=True)
class ScoredRows:
    """Labels, predictions and prediction intervals of the same radiographs, months, each of shape [n].

    Raises:
        InputError: No rows, shapes that differ, or a value that is not finite: a prediction that is no number is a
            broken model, and dropping it would flatter the model. The message names the image.
    """

    image_ids: Sequence[str]
    true_months: FloatArray
    predicted_months: FloatArray
    lower_months: FloatArray
    upper_months: FloatArray
    subgroups: Sequence[str]
    patient_ids: Sequence[str] | None = None

    def __post_init__(self) -> None:
        n = len(self.image_ids)
        if not n:
            raise InputError("there is no radiograph to evaluate on")
        if len(self.subgroups) != n:
            raise InputError(f"{len(self.subgroups)} subgroup names for {n} images")
        for what in ("true", "predicted", "lower", "upper"):
            values: FloatArray = getattr(self, f"{what}_months")
            if values.shape != (n,):
                raise InputError(f"{what} months have shape {values.shape}, expected one value for each of {n} images")
            if not np.isfinite(values).all():
                row = int(np.argmin(np.isfinite(values)))
                raise InputError(f"image '{self.image_ids[row]}': {what} months are {values[row]}, not a finite number")


def measure(
    rows: ScoredRows, nominal_coverage: float, replicates: int, seed: int
) -> tuple[Metrics, tuple[Subgroup, ...]]:
    """Compute every figure over all rows, and MAE, bias and n by subgroup; a subgroup without rows is left out.

    Args:
        nominal_coverage: The share of labels the intervals were made to hold, 0 to 1.
        replicates: Bootstrap resamples; 2,000 settle a 95 % bound to about a tenth of its distance from the value.
    """
    patients = patient_of_rows(rows.patient_ids, len(rows.image_ids))
    names = sorted(set(rows.subgroups))
    figures = _Figures.of(rows, patients, names)
    point = figures.at(np.ones((1, len(figures.sums))))
    drawn = [figures.at(counts) for counts in resampled_counts(patients, replicates, seed)]

    def estimate(name: str) -> Estimate:
        return Estimate.from_replicates(point[name][0], np.concatenate([chunk[name] for chunk in drawn]))

    plain = ("mae", "rmse", "bias", "p90_ae", *(f"within_{m}m" for m in WITHIN_MONTHS), "coverage")
    metrics = Metrics(
        n=len(rows.image_ids),
        n_patients=len(figures.sums),
        r2=estimate("r2") if np.isfinite(point["r2"][0]) else None,
        nominal_coverage=nominal_coverage,
        **{name: estimate(name) for name in plain},
    )
    sizes = {name: list(rows.subgroups).count(name) for name in names}
    groups = [Subgroup(name, sizes[name], estimate(f"mae__{name}"), estimate(f"bias__{name}")) for name in names]
    return metrics, tuple(groups)


@dataclass(frozen=True)
class _Figures:
    """What is needed to compute all figures for any resample.

    Attributes:
        names: Names of the columns of `sums`, shape [patients, columns].
        sorted_error: Absolute errors in ascending order, shape [n], and whose they are (`sorted_patient`).
    """

    names: tuple[str, ...]
    subgroups: tuple[str, ...]
    sums: FloatArray
    sorted_error: FloatArray
    sorted_patient: IndexArray

    @classmethod
    def of(cls, rows: ScoredRows, patients: IndexArray, subgroups: Sequence[str]) -> _Figures:
        error = rows.predicted_months - rows.true_months
        size = np.abs(error)
        centred = rows.true_months - rows.true_months.mean()
        columns: dict[str, npt.NDArray[np.generic]] = {
            "n": np.ones_like(error),
            "absolute": size,
            "squared": error**2,
            "signed": error,
            "label": centred,
            "label_squared": centred**2,
            "covered": (rows.lower_months <= rows.true_months) & (rows.true_months <= rows.upper_months),
        }
        columns |= {f"within_{months}m": size <= months for months in WITHIN_MONTHS}
        member_of = np.array(rows.subgroups)
        for name in subgroups:
            inside = member_of == name
            columns |= {f"n__{name}": inside, f"absolute__{name}": inside * size, f"signed__{name}": inside * error}
        order = np.argsort(size, kind="stable")
        table = np.column_stack([column.astype(np.float64) for column in columns.values()])
        return cls(tuple(columns), tuple(subgroups), sums_by_patient(table, patients), size[order], patients[order])

    def at(self, counts: FloatArray) -> dict[str, FloatArray]:
        """All figures for counts [replicates, patients]; NaN where a figure is undefined."""
        total = dict(zip(self.names, (counts @ self.sums).T, strict=True))
        n = total["n"]
        spread = total["label_squared"] - total["label"] ** 2 / n
        with np.errstate(divide="ignore", invalid="ignore"):
            figures = {
                "mae": total["absolute"] / n,
                "rmse": np.sqrt(total["squared"] / n),
                "bias": total["signed"] / n,
                "r2": np.where(spread > _NEGLIGIBLE_VARIANCE * n, 1 - total["squared"] / spread, np.nan),
                "coverage": total["covered"] / n,
                "p90_ae": self._percentile_of_error(counts, 0.9),
            }
            figures |= {f"within_{months}m": total[f"within_{months}m"] / n for months in WITHIN_MONTHS}
            for name in self.subgroups:
                figures[f"mae__{name}"] = total[f"absolute__{name}"] / total[f"n__{name}"]
                figures[f"bias__{name}"] = total[f"signed__{name}"] / total[f"n__{name}"]
        return figures

    def _percentile_of_error(self, counts: FloatArray, share: float) -> FloatArray:
        """Percentile of the absolute error of each resample, linear between ranks as in `numpy.quantile`."""
        rank_after = np.cumsum(counts[:, self.sorted_patient], axis=1)
        position = share * (rank_after[:, -1] - 1)
        below, above = np.floor(position), np.ceil(position)
        at_below, at_above = (
            self.sorted_error[np.count_nonzero(rank_after <= rank[:, None], axis=1)] for rank in (below, above)
        )
        return np.asarray(at_below + (at_above - at_below) * (position - below))
