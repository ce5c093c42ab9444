"""A model's limits in one document: bias, changed radiographs, worst errors, and what the labels are worth.

The test split is looked at, nothing is chosen by it. The radiographs of a full set are predicted twice (as they are and
mirrored, for the label noise) and a part of them once for each change, which takes most of the time; the part is the
one whose ids hash lowest, so a larger one holds all of a smaller one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pandas as pd

from bone_age.data.manifest import Dataset
from bone_age.errors import InputError
from bone_age.evaluation.bootstrap import Estimate
from bone_age.evaluation.calibration_check import CalibrationCheck, check_calibration
from bone_age.evaluation.evaluation import Evaluation, ScoredSet, evaluate_predictions
from bone_age.evaluation.failures import Failures, find_failures
from bone_age.evaluation.image_changes import MIRRORED
from bone_age.evaluation.intervals import IntervalCalibration
from bone_age.evaluation.label_noise import LabelNoise, estimate_label_noise
from bone_age.evaluation.markdown import markdown_table
from bone_age.evaluation.robustness import (
    UNCHANGED,
    PreparedPredictor,
    Robustness,
    lowest_hashes,
    measure_robustness,
    predict_changed,
)
from bone_age.evaluation.whole_file import write_whole
from bone_age.settings import EvaluationSettings, Strict

SCHEMA_VERSION = 1


class IntervalPredictor(PreparedPredictor, Protocol):
    """What is needed of a model; `serving.predictor.Predictor` is one."""

    @property
    def calibration(self) -> IntervalCalibration: ...


class Limits(Strict):
    """Everything measured of one model on one scored set.

    Attributes:
        metrics: Figures of the evaluation by name, months and shares, with `_lo` and `_hi` for 95 % bounds.
        warnings: What the reader of a figure has to know, a sentence each.
    """

    schema_version: int = SCHEMA_VERSION
    model: str
    scored_set: ScoredSet
    n: int
    preprocessing_digest: str
    warnings: tuple[str, ...]
    metrics: dict[str, float]
    calibration: CalibrationCheck
    robustness: Robustness
    failures: Failures
    label_noise: LabelNoise

    def save(self, folder: Path) -> None:
        """Write CSV files and plots of the four parts, `limits.md` and, last, `limits.json`.

        Raises:
            InputError: The folder cannot be written.
        """
        for part in (self.calibration, self.robustness, self.failures, self.label_noise):
            part.save(folder)
        write_whole(folder / "limits.md", self.to_markdown().encode())
        write_whole(folder / "limits.json", self.model_dump_json(indent=2).encode())

    def to_markdown(self) -> str:
        """The document for people; its pictures are below `plots/`."""
        return "\n".join([*_head(self), *_bias(self.calibration), *_changes(self.robustness), *_end(self)])


def measure_limits(
    predictor: IntervalPredictor,
    dataset: Dataset,
    rows: pd.DataFrame,
    split: str,
    settings: EvaluationSettings,
    seed: int,
    changed_rows: int | None = None,
    worst: int = 25,
    warnings: tuple[str, ...] = (),
) -> tuple[Limits, Evaluation]:
    """Measure a model on `rows` (of `dataset.table`).

    Args:
        split: What `rows` are: `train`, `validation`, `test` or `all`.
        changed_rows: How many of them are predicted with every change; None is all.
        worst: How many of the largest errors are listed.
    Raises:
        InputError: Too few rows, an image that cannot be used, or a prediction that is not finite.
    """
    if len(rows) < 2:
        raise InputError(f"limits cannot be measured on {len(rows)} radiographs")
    scored_set = ScoredSet(dataset.name, dataset.fingerprint, split, dataset.synthetic)
    predicted = predict_changed(predictor, dataset, rows, [MIRRORED], seed)
    table = rows.reset_index(drop=True).assign(predicted_months=predicted[UNCHANGED])
    evaluation = evaluate_predictions(table, predictor.name, scored_set, predictor.calibration, settings, seed)
    patients = rows["patient_id"].tolist()
    noise = estimate_label_noise(
        predicted["bone_age_months"],
        predicted[UNCHANGED],
        predicted[MIRRORED.name],
        patients,
        predictor.name,
        scored_set,
        settings,
        seed,
    )
    part = lowest_hashes(rows, changed_rows)
    limits = Limits(
        model=predictor.name,
        scored_set=scored_set,
        n=evaluation.n,
        preprocessing_digest=predictor.preprocessing.digest,
        warnings=warnings,
        metrics=evaluation.metrics.flat(),
        calibration=check_calibration(evaluation, patients),
        robustness=measure_robustness(predictor, dataset, part, split, settings, seed),
        failures=find_failures(evaluation, dataset, predictor.preprocessing, worst),
        label_noise=noise,
    )
    return limits, evaluation


def _head(limits: Limits) -> Iterator[str]:
    metrics = limits.metrics
    yield f"# Limits of {limits.model}\n"
    yield f"Measured on {limits.scored_set}, n = {limits.n:,}, data fingerprint `{limits.scored_set.fingerprint[:12]}`."
    yield "Bounds in brackets are 95 % bootstrap bounds; figures are months unless they say otherwise.\n"
    yield from (f"> {warning}\n" for warning in limits.warnings)
    yield (
        f"MAE {metrics['mae']:.2f} [{metrics['mae_lo']:.2f}, {metrics['mae_hi']:.2f}], "
        f"bias {metrics['bias']:+.2f} [{metrics['bias_lo']:+.2f}, {metrics['bias_hi']:+.2f}], "
        f"90 % of errors below {metrics['p90_ae']:.1f}.\n"
    )


def _bias(check: CalibrationCheck) -> Iterator[str]:
    yield "## Bias by age\n"
    yield (
        f"Bias is predicted less labelled. The verdict is against ±{check.bound_months:g} months, from "
        f"{check.min_rows} rows on. By true age, hedging and errors of the labels push the ends towards the "
        "middle in any model; by predicted age a calibrated model has none.\n"
    )
    rows = [
        (
            f"{band.basis} {band.band_months}",
            band.n,
            _bounds(band.bias, "+.1f"),
            _verdict(band.verdict, band.is_settled),
        )
        for band in check.bands
    ]
    yield markdown_table(("age band", "n", "bias", "verdict"), rows)
    if check.slope and check.intercept_months:
        yield (
            f"True = intercept + slope times predicted: slope {_bounds(check.slope, '.3f')}, "
            f"intercept {_bounds(check.intercept_months, '+.1f')}.\n"
        )
    yield "![Bias by band](plots/bias_by_band.png)\n"


def _changes(robustness: Robustness) -> Iterator[str]:
    yield "## Changed radiographs\n"
    yield (
        f"{robustness.n:,} of the radiographs, each change alone, before the preprocessing; unchanged, their MAE is "
        f"{robustness.mae:.2f}. The shift is changed less unchanged answer.\n"
    )
    header = ("change", "MAE increase", "mean |shift|", "95th percentile", "mean shift")
    rows = [
        (
            effect.description,
            _bounds(effect.mae_increase, "+.2f"),
            f"{effect.mean_absolute_shift:.1f}",
            f"{effect.p95_absolute_shift:.1f}",
            f"{effect.mean_shift:+.1f}",
        )
        for effect in robustness.effects
    ]
    yield markdown_table(header, rows)
    yield "![Changed radiographs](plots/robustness.png)\n"


def _end(limits: Limits) -> Iterator[str]:
    failures, noise = limits.failures, limits.label_noise
    yield f"## The {len(failures.worst)} largest errors\n"
    yield (
        f"{failures.n_outside_interval:,} of {failures.n:,} labels lie outside their prediction interval; "
        f"{failures.n_inverted:,} radiographs looked inverted and were turned back. Grey and contrast are mean and "
        "SD of the grey levels before preprocessing, 0 to 255.\n"
    )
    yield failures.to_markdown()
    yield "## What the labels are worth\n"
    yield (
        f"Residual SD {_bounds(noise.residual_sd, '.1f')}, of which random in the model "
        f"{_bounds(noise.model_random_sd, '.1f')} (image against mirror image). The SD of the readers' random error is "
        f"at most {_bounds(noise.label_noise_sd_upper, '.1f')}. This rests on:\n"
    )
    yield from (f"- {assumption}" for assumption in noise.assumptions)
    yield "\nLabels on whole and half years; even over months they would be 8.3 % and 16.7 %.\n"
    yield "Atlas plates that lie between half-years show in the share of the ten commonest labels only.\n"
    header = ("band", "n", "multiples of 12", "multiples of 6", "ten commonest", "SD from that rounding alone")
    rows = [
        (
            band.band,
            band.n,
            f"{band.share_of_12:.1%}",
            f"{band.share_of_6:.1%}",
            f"{band.share_of_10_commonest:.1%}",
            f"{band.rounding_sd_months:.1f}",
        )
        for band in noise.heaping
    ]
    yield markdown_table(header, rows)


def _verdict(verdict: str, is_settled: bool) -> str:
    return verdict if is_settled or verdict == "too few rows" else f"{verdict}, not settled by the bounds"


def _bounds(estimate: Estimate, form: str) -> str:
    return f"{estimate.value:{form}} [{estimate.lo:{form}}, {estimate.hi:{form}}]"
