"""Whether answers are right on average: bias by age band, and the line of true on predicted bone age.

Two ways to form bands, and they say different things. By *predicted* age: what somebody who holds an answer meets; a
calibrated model has no bias there. By *true* age: every model that hedges is too high for the youngest and too low for
the oldest (regression to the mean), and labels with errors of their own make it look so even for a perfect model. Both
are shown, and a slope of true on predicted below 1 says that answers are spread too far, above 1 not far enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from bone_age.data.manifest import AGE_BAND_EDGES_MONTHS, MAX_BONE_AGE_MONTHS, age_band
from bone_age.errors import InputError
from bone_age.evaluation import plots
from bone_age.evaluation.bootstrap import Estimate, FloatArray, patient_of_rows, resampled_counts, sums_by_patient
from bone_age.evaluation.evaluation import Evaluation, ScoredSet
from bone_age.evaluation.whole_file import write_whole
from bone_age.settings import Strict

Basis = Literal["true", "predicted"]
Verdict = Literal["within", "outside", "too few rows"]

BIAS_BOUND_MONTHS = 3.0
MIN_ROWS_FOR_VERDICT = 100
BANDS = tuple(age_band(start) for start in AGE_BAND_EDGES_MONTHS[:-1])
_NEGLIGIBLE_VARIANCE = 1e-9  # months²; below it all predictions are the same and there is no line


class BandBias(Strict):
    """Mean of predicted less true in one band.

    Attributes:
        basis: Which age the band is of.
        band: As in `060_120`; what lies below 0 or above 240 months is in the nearest band.
        verdict: Whether the bias itself is within the bound, from 100 rows on.
        is_settled: The whole of the 95 % bounds lies on the verdict's side.
    """

    basis: Basis
    band: str
    n: int
    bias: Estimate
    verdict: Verdict
    is_settled: bool

    @property
    def band_months(self) -> str:
        """The band for readers: `60-120`."""
        first, last = self.band.split("_")
        return f"{int(first)}-{int(last)}"


class CalibrationCheck(Strict):
    """Bias by band, and the least-squares line true = intercept + slope * predicted.

    Attributes:
        slope, intercept_months: None where all predictions are equal. The intercept is at a prediction of 0 months,
            where there are hardly any children; it belongs to the slope and means little alone.
        bands: Those with rows, by true age first; ascending.
    """

    model: str
    scored_set: ScoredSet
    n: int
    bias: Estimate
    slope: Estimate | None
    intercept_months: Estimate | None
    bound_months: float
    min_rows: int
    bands: tuple[BandBias, ...]
    replicates: int
    seed: int

    @property
    def caption(self) -> str:
        return f"{self.scored_set}, n = {self.n:,}"

    @property
    def outside(self) -> tuple[BandBias, ...]:
        """The bands that do not hold the bound."""
        return tuple(band for band in self.bands if band.verdict == "outside")

    def of(self, basis: Basis) -> list[BandBias]:
        return [band for band in self.bands if band.basis == basis]

    def table(self) -> pd.DataFrame:
        """One row a band, the bounds of the bias in columns of their own."""
        return pd.DataFrame(
            [
                {
                    "basis": band.basis,
                    "band": band.band,
                    "n": band.n,
                    "bias": band.bias.value,
                    "bias_lo": band.bias.lo,
                    "bias_hi": band.bias.hi,
                    "verdict": band.verdict,
                    "is_settled": band.is_settled,
                }
                for band in self.bands
            ]
        )

    def save(self, folder: Path) -> None:
        """Write `plots/bias_by_band.png`, `calibration.csv` and, last, `calibration.json`.

        Raises:
            InputError: The folder cannot be written.
        """
        panels = [
            (f"{basis} bone age, months", [(band.band_months, band.n, band.bias) for band in self.of(basis)])
            for basis in ("true", "predicted")
        ]
        figure = plots.bias_by_band(panels, self.bound_months, self.model, self.caption, self.scored_set.synthetic)
        write_whole(folder / "plots" / "bias_by_band.png", plots.to_png(figure))
        write_whole(folder / "calibration.csv", self.table().to_csv(index=False, lineterminator="\n").encode())
        write_whole(folder / "calibration.json", self.model_dump_json(indent=2).encode())


def check_calibration(
    evaluation: Evaluation, patient_ids: Sequence[str] | None = None, bound_months: float = BIAS_BOUND_MONTHS
) -> CalibrationCheck:
    """Check an evaluation's predictions, with its own number of replicates and seed.

    Args:
        patient_ids: In the order of the predictions; None where every row is a patient.
    Raises:
        InputError: There are not as many patient ids as predictions.
    """
    true = evaluation.predictions["bone_age_months"].to_numpy(dtype=np.float64)
    predicted = evaluation.predictions["predicted_months"].to_numpy(dtype=np.float64)
    members = _members(true, predicted)
    patients = patient_of_rows(patient_ids, len(true))
    centre = (float(true.mean()), float(predicted.mean()))  # products of centred values keep their digits
    columns = _columns(true - centre[0], predicted - centre[1], predicted - true, members)
    sums = sums_by_patient(columns, patients)
    point = _figures(np.ones((1, len(sums))) @ sums, len(members), centre)
    counts = resampled_counts(patients, evaluation.replicates, evaluation.seed)
    drawn = np.concatenate([_figures(chunk @ sums, len(members), centre) for chunk in counts])
    slope, intercept, bias, *by_band = (
        Estimate.from_replicates(value, column) if np.isfinite(value) else None
        for value, column in zip(point[0], drawn.T, strict=True)
    )
    if bias is None:
        raise InputError(f"{evaluation.model}: there is no finite prediction to check")
    bands = [
        _band(basis, name, int(inside.sum()), estimate, bound_months)
        for ((basis, name), inside), estimate in zip(members.items(), by_band, strict=True)
        if estimate is not None
    ]
    return CalibrationCheck(
        model=evaluation.model,
        scored_set=evaluation.scored_set,
        n=len(true),
        bias=bias,
        slope=slope,
        intercept_months=intercept,
        bound_months=bound_months,
        min_rows=MIN_ROWS_FOR_VERDICT,
        bands=tuple(bands),
        replicates=evaluation.replicates,
        seed=evaluation.seed,
    )


def _members(true: FloatArray, predicted: FloatArray) -> dict[tuple[Basis, str], npt.NDArray[np.bool_]]:
    """Which rows are in which band, by true and by predicted age."""
    members: dict[tuple[Basis, str], npt.NDArray[np.bool_]] = {}
    ages: tuple[tuple[Basis, FloatArray], ...] = (("true", true), ("predicted", predicted))
    for basis, months in ages:
        band_of_row = np.array([age_band(age) for age in np.clip(months, 0, MAX_BONE_AGE_MONTHS)])
        members |= {(basis, band): band_of_row == band for band in BANDS}
    return members


def _columns(
    true: FloatArray, predicted: FloatArray, error: FloatArray, members: dict[tuple[Basis, str], npt.NDArray[np.bool_]]
) -> FloatArray:
    """Everything whose sums give the figures: six columns for the line and the bias, two for each band."""
    line = [np.ones_like(true), true, predicted, predicted * true, predicted**2, error]
    bands = [column for inside in members.values() for column in (inside.astype(np.float64), inside * error)]
    return np.column_stack([*line, *bands])


def _figures(sums: FloatArray, n_bands: int, centre: tuple[float, float]) -> FloatArray:
    """Slope, intercept, bias, bias by band from sums [replicates, columns]; NaN where undefined."""
    n, true, predicted, product, square, error = sums[:, :6].T
    by_band = sums[:, 6:].reshape(len(sums), n_bands, 2)
    spread = square - predicted**2 / n
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.where(spread > _NEGLIGIBLE_VARIANCE * n, (product - predicted * true / n) / spread, np.nan)
        intercept = (true / n + centre[0]) - slope * (predicted / n + centre[1])
        return np.column_stack([slope, intercept, error / n, by_band[:, :, 1] / by_band[:, :, 0]])


def _band(basis: Basis, band: str, n: int, bias: Estimate, bound: float) -> BandBias:
    holds = abs(bias.value) <= bound
    verdict: Verdict = "too few rows" if n < MIN_ROWS_FOR_VERDICT else "within" if holds else "outside"
    inside, beyond = -bound <= bias.lo and bias.hi <= bound, bias.lo > bound or bias.hi < -bound
    settled = verdict != "too few rows" and (inside if holds else beyond)
    return BandBias(basis=basis, band=band, n=n, bias=bias, verdict=verdict, is_settled=settled)
