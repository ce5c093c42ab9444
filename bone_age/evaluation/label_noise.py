"""How uncertain the labels are themselves, as far as labels and predictions can tell.

No model can be seen to be better than the labels it is judged by, so a report of its error has to say what they are
worth. Two things can be had without a second reader. Heaping: readers pick atlas plates and round, so labels pile up on
whole and half years and on the ages of plates. The plates are not all at half-years: of the RSNA training labels of 60
to 120 months 39 % are 82, 94 or 106 (n = 3,217), which multiples of 12 and 6 do not see, hence the share of the ten
commonest labels beside them. And an upper bound of the readers' random error, from a model that errs independently
of them.

The bound rests on label = true age + reader's error, and prediction = true age + shared error + random error, where the
image and its mirror image have the same shared error and independent random ones. The covariance of the two residuals
then is the variance of the reader's error and the shared error together: residual variance less the model's random
variance. The shared error cannot be told from the reader's, hence an *upper* bound. It fails, and may be too low, where
the model's errors go along with the reader's: on radiographs it was trained on, or where it learned a reader's habit.
A habit that all readers share is no noise in this sense. A model that averages over the mirror image itself has no
random part here, and the bound is then the whole residual.

For scale: the best five entries of the RSNA challenge had a mean absolute error of 4.2 to 4.5 months on 200 test
radiographs (Halabi et al., Radiology 2019;290:498-503).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from bone_age.data.manifest import AGE_BAND_EDGES_MONTHS, age_band
from bone_age.errors import InputError
from bone_age.evaluation.bootstrap import (
    Estimate,
    FloatArray,
    patient_of_rows,
    resampled_counts,
    sums_by_patient,
)
from bone_age.evaluation.evaluation import ScoredSet
from bone_age.evaluation.whole_file import write_whole
from bone_age.settings import EvaluationSettings, Strict

ASSUMPTIONS = (
    "The model was not trained on these radiographs, and its errors are independent of the readers'.",
    "The image and its mirror image are given the same shared error and independent random ones.",
    "What the model gets wrong in the same way for both counts as label noise, so the bound is an upper one.",
    "An error that all readers share is not seen.",
)
_ROUNDING_MONTHS = (12, 6)


class Heaping(Strict):
    """Labels on whole and half years in one band.

    Attributes:
        band: As in `060_120`, or `all`.
        share_of_12, share_of_6: Share of labels that are multiples of 12, and of 6 (those of 12 included).
        excess_of_12, excess_of_6: Those shares less 1/12 and 1/6, which labels spread evenly over months would have.
        share_of_10_commonest: Share of labels that are one of the ten commonest values of the band.
        rounding_sd_months: What rounding alone adds to the labels' error, if ages were even and every label was rounded
            to the nearest whole year, half year or month, in the shares that explain the two above. Too low where
            labels heap elsewhere.
    """

    band: str
    n: int
    share_of_12: float
    share_of_6: float
    excess_of_12: float
    excess_of_6: float
    share_of_10_commonest: float
    rounding_sd_months: float


class LabelNoise(Strict):
    """Heaping by band, and an upper bound of the SD of the readers' random error, months.

    Attributes:
        residual_sd: SD of predicted less labelled, of image and mirror image pooled.
        model_random_sd: SD of the part of one prediction that differs between image and mirror image.
        label_noise_sd_upper: The bound; the module says on what it rests.
        assumptions: In words, for whoever quotes it.
    """

    model: str
    scored_set: ScoredSet
    n: int
    residual_sd: Estimate
    model_random_sd: Estimate
    label_noise_sd_upper: Estimate
    heaping: tuple[Heaping, ...]
    assumptions: tuple[str, ...] = ASSUMPTIONS
    replicates: int
    seed: int

    def table(self) -> pd.DataFrame:
        """Heaping, one row a band."""
        return pd.DataFrame([band.model_dump() for band in self.heaping])

    def save(self, folder: Path) -> None:
        """Write `heaping.csv` and, last, `label_noise.json`.

        Raises:
            InputError: The folder cannot be written.
        """
        write_whole(folder / "heaping.csv", self.table().to_csv(index=False, lineterminator="\n").encode())
        write_whole(folder / "label_noise.json", self.model_dump_json(indent=2).encode())


def estimate_label_noise(
    true_months: npt.ArrayLike,
    predicted_months: npt.ArrayLike,
    mirrored_months: npt.ArrayLike,
    patient_ids: Sequence[str] | None,
    model: str,
    scored_set: ScoredSet,
    settings: EvaluationSettings,
    seed: int,
) -> LabelNoise:
    """Estimate the readers' noise.

    Args:
        true_months: Labels, 0 to 240, shape [n].
        predicted_months, mirrored_months: The same model's predictions of the radiographs and of their mirror images.
        patient_ids: Shape [n]; None where every row is a patient.
    Raises:
        InputError: Fewer than two rows, shapes that differ, or a value that is not finite.
    """
    labels, plain, mirrored = (
        np.asarray(values, dtype=np.float64).ravel() for values in (true_months, predicted_months, mirrored_months)
    )
    if len(labels) < 2 or not len(labels) == len(plain) == len(mirrored):
        raise InputError(f"label noise: {len(plain)} and {len(mirrored)} predictions for {len(labels)} labels")
    if not np.isfinite(labels + plain + mirrored).all():
        row = int(np.argmin(np.isfinite(labels + plain + mirrored)))
        raise InputError(f"label noise: row {row}: a label or prediction is not finite")
    patients = patient_of_rows(patient_ids, len(labels))
    a, b = plain - labels - (plain - labels).mean(), mirrored - labels - (mirrored - labels).mean()
    sums = sums_by_patient(np.column_stack([np.ones_like(a), a, b, a * a, b * b, a * b]), patients)
    point = _deviations(np.ones((1, len(sums))) @ sums)[0]
    counts = resampled_counts(patients, settings.bootstrap_replicates, seed)
    drawn = np.concatenate([_deviations(chunk @ sums) for chunk in counts])
    residual, random, noise = (
        Estimate.from_replicates(float(value), column) for value, column in zip(point, drawn.T, strict=True)
    )
    return LabelNoise(
        model=model,
        scored_set=scored_set,
        n=len(labels),
        residual_sd=residual,
        model_random_sd=random,
        label_noise_sd_upper=noise,
        heaping=heaping_by_band(labels),
        replicates=settings.bootstrap_replicates,
        seed=seed,
    )


def _deviations(sums: FloatArray) -> FloatArray:
    """SDs of the residual, of the model's random part and of the rest, [replicates, 3]; no variance is below 0."""
    n, a, b, aa, bb, ab = sums.T
    residual = ((aa - a**2 / n) + (bb - b**2 / n)) / (2 * n)
    shared = (ab - a * b / n) / n
    return np.asarray(np.sqrt(np.maximum(np.column_stack([residual, residual - shared, shared]), 0)))


def heaping_by_band(bone_ages_months: npt.ArrayLike) -> tuple[Heaping, ...]:
    """Heaping of all labels, then of each age band that has any; labels 0 to 240 months, shape [n > 0]."""
    labels = np.asarray(bone_ages_months, dtype=np.float64).ravel()
    band_of_row = np.array([age_band(label) for label in labels])
    bands = [age_band(start) for start in AGE_BAND_EDGES_MONTHS[:-1]]
    groups = {"all": labels} | {band: labels[band_of_row == band] for band in bands}
    return tuple(_heaping(band, group) for band, group in groups.items() if len(group))


def _heaping(band: str, labels: FloatArray) -> Heaping:
    of_12, of_6 = (float(np.isclose(labels, np.rint(labels / step) * step).mean()) for step in _ROUNDING_MONTHS)
    by_month = min((1 - of_6) / (1 - 1 / 6), 1.0)  # of labels rounded to months, 1/6 fall on half-years by chance
    by_year = min(max(2 * of_12 - of_6, 0.0), 1 - by_month)  # of half-years, every second is a whole one
    shares = {12: by_year, 6: 1 - by_month - by_year, 1: by_month}
    return Heaping(
        band=band,
        n=len(labels),
        share_of_12=of_12,
        share_of_6=of_6,
        excess_of_12=of_12 - 1 / 12,
        excess_of_6=of_6 - 1 / 6,
        share_of_10_commonest=float(np.sort(np.unique(labels, return_counts=True)[1])[-10:].sum() / len(labels)),
        rounding_sd_months=sqrt(sum(share * step**2 / 12 for step, share in shares.items())),
    )
