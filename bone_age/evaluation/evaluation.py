"""One model's results on one set of radiographs: figures, predictions and where both come from.

Predictions are rounded to 0.0001 months before anything is computed, so that `metrics.json` can be recomputed from
`predictions.csv` to the last digit.
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from bone_age.errors import InputError
from bone_age.evaluation.bootstrap import Estimate
from bone_age.evaluation.intervals import IntervalCalibration
from bone_age.evaluation.metrics import Metrics, ScoredRows, measure
from bone_age.evaluation.subgroups import Subgroup, subgroup_name, subgroup_names
from bone_age.evaluation.whole_file import write_whole
from bone_age.settings import EvaluationSettings

PREDICTION_COLUMNS = ("image_id", "sex", "bone_age_months", "predicted_months", "lower_months", "upper_months")
_ROUNDED_TO_DECIMALS = 4
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "'")


@dataclass(frozen=True)
class ScoredSet:
    """The radiographs a figure was measured on; every figure is shown with it.

    Attributes:
        dataset: The data set's name.
        fingerprint: The data set's fingerprint.
        split: `train`, `validation`, `test`, or `all`.
        synthetic: Whether the images were rendered by this project.
    """

    dataset: str
    fingerprint: str
    split: str
    synthetic: bool = False

    def __str__(self) -> str:
        return f"{self.dataset}, {'all rows' if self.split == 'all' else f'{self.split} split'}"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Figures with bounds, subgroups and predictions of one model on one scored set.

    Attributes:
        model: The model's name or reference.
        predictions: `PREDICTION_COLUMNS`, one row a radiograph, months.
        replicates, seed: Of the bootstrap.
    """

    model: str
    scored_set: ScoredSet
    metrics: Metrics
    subgroups: tuple[Subgroup, ...]
    predictions: pd.DataFrame
    replicates: int
    seed: int

    @property
    def n(self) -> int:
        return self.metrics.n

    @property
    def caption(self) -> str:
        """What every plot and table says of its figures: `rsna, test split, n = 1,742`."""
        return f"{self.scored_set}, n = {self.n:,}"

    def flat(self, prefix: str = "") -> dict[str, float]:
        """Figures by name for a tracker: `mae`, `mae_lo`, `mae_hi`, ..., `mae__F_060_120`, `n__F_060_120`."""
        flat = self.metrics.flat()
        for group in self.subgroups:
            flat |= {f"{what}__{group.name}": getattr(group, what).value for what in ("mae", "bias")}
            flat[f"n__{group.name}"] = group.n
        return {f"{prefix}{name}": value for name, value in flat.items()}

    def to_json(self) -> dict[str, Any]:
        """The document of `metrics.json`; `r2` is null where all labels are equal."""
        return {
            "model": self.model,
            "dataset": self.scored_set.dataset,
            "dataset_fingerprint": self.scored_set.fingerprint,
            "split": self.scored_set.split,
            "synthetic": self.scored_set.synthetic,
            "r2": None,
            **self.metrics.flat(),
            "interval_nominal_coverage": self.metrics.nominal_coverage,
            "bootstrap_replicates": self.replicates,
            "seed": self.seed,
            "subgroups": {group.name: _group_to_json(group) for group in self.subgroups},
        }

    def save(self, folder: Path) -> None:
        """Write what `save_tables` does, and `plots/*.png`, which take another 2 s."""
        from bone_age.evaluation import plots  # Matplotlib and SciPy, which readers of stored figures do without

        for name, draw in plots.OF_AN_EVALUATION.items():
            write_whole(folder / "plots" / name, plots.to_png(draw(self)))
        self.save_tables(folder)

    def save_tables(self, folder: Path) -> None:
        """Write `predictions.csv` and, last, `metrics.json`; each file whole or not at all.

        Raises:
            InputError: The folder cannot be written.
        """
        write_whole(folder / "predictions.csv", predictions_csv(self.predictions))
        write_whole(folder / "metrics.json", json.dumps(self.to_json(), indent=2, allow_nan=False).encode())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save_tables` wrote; plots are drawn anew when they are asked for.

        Raises:
            InputError: A file is absent or is not what `save` writes.
        """
        try:
            document = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
            predictions = _read_predictions(folder / "predictions.csv")
            return cls(
                model=document["model"],
                scored_set=ScoredSet(
                    document["dataset"], document["dataset_fingerprint"], document["split"], document["synthetic"]
                ),
                metrics=_metrics_from_json(document),
                subgroups=tuple(_group_from_json(name, group) for name, group in document["subgroups"].items()),
                predictions=predictions,
                replicates=document["bootstrap_replicates"],
                seed=document["seed"],
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            cause = " ".join(f"{type(error).__name__}: {error}".split())
            raise InputError(f"{folder}: no evaluation: {cause}") from None


def evaluate_predictions(
    table: pd.DataFrame,
    model: str,
    scored_set: ScoredSet,
    calibration: IntervalCalibration,
    settings: EvaluationSettings,
    seed: int,
) -> Evaluation:
    """Score a model's predictions.

    Args:
        table: `image_id`, `sex`, `bone_age_months`, `predicted_months`, one row a radiograph; with `patient_id`
            patients are resampled for the bounds, otherwise rows.
        calibration: The model's own, from its validation split.
    Raises:
        InputError: No rows, a missing column, an image id that appears twice, a sex other than M and F, a label outside
            0 to 240 months, or a prediction that is not finite; the image is named.
    """
    missing = [column for column in PREDICTION_COLUMNS[:4] if column not in table.columns]
    if missing:
        raise InputError(f"{model}: predictions lack the column '{missing[0]}'")
    predictions = table[list(PREDICTION_COLUMNS[:4])].reset_index(drop=True)
    predictions["image_id"] = predictions["image_id"].astype(str)
    for column in ("bone_age_months", "predicted_months"):
        predictions[column] = predictions[column].astype(np.float64)
    predictions["predicted_months"] = predictions["predicted_months"].round(_ROUNDED_TO_DECIMALS)
    _refuse_unusable(predictions, model)
    lower, upper = calibration.interval(predictions["predicted_months"].to_numpy())
    predictions["lower_months"] = lower.round(_ROUNDED_TO_DECIMALS)
    predictions["upper_months"] = upper.round(_ROUNDED_TO_DECIMALS)
    rows = ScoredRows(
        image_ids=predictions["image_id"].tolist(),
        true_months=predictions["bone_age_months"].to_numpy(),
        predicted_months=predictions["predicted_months"].to_numpy(),
        lower_months=predictions["lower_months"].to_numpy(),
        upper_months=predictions["upper_months"].to_numpy(),
        subgroups=subgroup_names(predictions["sex"].tolist(), predictions["bone_age_months"].tolist()),
        patient_ids=table["patient_id"].fillna("").astype(str).tolist() if "patient_id" in table.columns else None,
    )
    metrics, subgroups = measure(rows, calibration.coverage, settings.bootstrap_replicates, seed)
    return Evaluation(model, scored_set, metrics, subgroups, predictions, settings.bootstrap_replicates, seed)


def _refuse_unusable(predictions: pd.DataFrame, model: str) -> None:
    if predictions.empty:
        raise InputError(f"{model}: there is no radiograph to evaluate on")
    duplicated = predictions["image_id"].duplicated()
    if duplicated.any():
        raise InputError(f"{model}: image '{predictions['image_id'][duplicated].iloc[0]}' is predicted more than once")
    for image, sex, label, predicted in zip(*(predictions[name].tolist() for name in predictions), strict=True):
        if not np.isfinite(predicted):
            raise InputError(f"{model}: image '{image}': predicted {predicted}, not a finite number")
        try:
            subgroup_name(sex, label)
        except (InputError, ValueError) as error:
            raise InputError(f"{model}: image '{image}': {error}") from None


def predictions_csv(predictions: pd.DataFrame) -> bytes:
    """The table as CSV whose text no spreadsheet takes for a formula.

    Image ids come from users' files: one that begins with `= + - @`, a tab, a return or `'` gets a leading `'`.
    """
    neutral = predictions.copy()
    neutral["image_id"] = [f"'{name}" if name.startswith(_FORMULA_STARTS) else name for name in neutral["image_id"]]
    return neutral.to_csv(index=False, lineterminator="\n").encode("utf-8")


def _read_predictions(path: Path) -> pd.DataFrame:
    text = io.StringIO(path.read_bytes().decode("utf-8"), newline="")
    table = pd.read_csv(text, dtype={"image_id": str, "sex": str}, keep_default_na=False, float_precision="round_trip")
    if tuple(table.columns) != PREDICTION_COLUMNS:
        raise ValueError(f"{path.name} has the columns {list(table.columns)}")
    table["image_id"] = table["image_id"].str.removeprefix("'")
    return table.astype(dict.fromkeys(PREDICTION_COLUMNS[2:], np.float64))


def _estimate(document: dict[str, Any], name: str) -> Estimate:
    return Estimate(document[name], document[f"{name}_lo"], document[f"{name}_hi"])


def _metrics_from_json(document: dict[str, Any]) -> Metrics:
    nominal = document["interval_nominal_coverage"]
    plain = ("mae", "rmse", "bias", "p90_ae", "within_6m", "within_12m", "within_24m")
    return Metrics(
        n=document["n"],
        n_patients=document["n_patients"],
        r2=None if document["r2"] is None else _estimate(document, "r2"),
        coverage=_estimate(document, f"coverage_{nominal * 100:g}"),
        nominal_coverage=nominal,
        **{name: _estimate(document, name) for name in plain},
    )


def _group_to_json(group: Subgroup) -> dict[str, Any]:
    bounds = {what: asdict(getattr(group, what)) for what in ("mae", "bias")}
    flat = {f"{what}{suffix}": bounds[what][key] for what in bounds for key, suffix in _SUFFIXES.items()}
    return {"n": group.n, **flat}


_SUFFIXES = {"value": "", "lo": "_lo", "hi": "_hi"}


def _group_from_json(name: str, document: dict[str, Any]) -> Subgroup:
    return Subgroup(name, document["n"], _estimate(document, "mae"), _estimate(document, "bias"))
