"""How often healthy children are called unusual or inconsistent, and how often growth stays indeterminate.

    .venv/bin/python benchmarks/age_consistency.py [--model REF] [--predictions FILE] [--children 4000]

Children are drawn from the growth reference: for each age and sex a bone age, normal around the reference's mean with
its SD. The model's answer is that bone age plus an error: one of the 40 rows of the same sex in a predictions.csv whose
labels are nearest to it (predictions as `bone-age evaluate` or model_limits.py write them, of radiographs that trained
and calibrated nothing), or, without the file, a normal error as wide as the model's interval. Prints the shares that
the rules give beside those of other choices of the model's error, and of none.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from bone_age.evaluation.intervals import IntervalCalibration
from bone_age.growth import Sex, assess_age_consistency, assess_growth, norm_at
from bone_age.growth.consistency import LIMIT_95, LIMIT_99
from bone_age.serving.references import load_predictor

Floats = npt.NDArray[np.float64]
AGES: dict[Sex, range] = {"M": range(24, 205, 12), "F": range(24, 193, 12)}
NEIGHBOURS = 40
PRODUCT, AT_ANSWER, ONE_WIDTH, NONE = "interval at the expected age", "interval at the answer", "one width", "none"


def with_errors(
    true: Floats, sex: Sex, calibration: IntervalCalibration, measured: pd.DataFrame | None, rng: np.random.Generator
) -> Floats:
    """Answers [n] of the model to children of these bone ages [n], months."""
    if measured is None:
        sd = np.array([calibration.error_sd_months(months) for months in true])
        return np.maximum(true + rng.normal(0, sd), 0)
    rows = measured[measured["sex"] == sex].sort_values("bone_age_months")
    labels = rows["bone_age_months"].to_numpy(float)
    errors = rows["predicted_months"].to_numpy(float) - labels
    first = np.clip(np.searchsorted(labels, true) - NEIGHBOURS // 2, 0, max(len(rows) - NEIGHBOURS, 0))
    return np.maximum(true + errors[first + rng.integers(0, min(NEIGHBOURS, len(rows)), len(true))], 0)


def of_one_age(answers: Floats, age: float, sex: Sex, calibration: IntervalCalibration) -> pd.DataFrame:
    """A row a child: the verdicts of both rules, and z under each choice of the model's error."""
    norm = norm_at(age, sex)
    expected_sd = calibration.error_sd_months(norm.mean_months)
    lower, upper = calibration.interval(answers)
    consistency = [assess_age_consistency(months, age, sex, expected_sd).verdict for months in answers]
    growth = [assess_growth(*three, age, sex).verdict for three in zip(answers, lower, upper, strict=True)]
    one_width = IntervalCalibration(
        coverage=calibration.coverage,
        n_calibration=calibration.n_calibration,
        half_width_months=calibration.half_width_months,
        knots=(calibration.knots[0].model_copy(update={"half_width_months": calibration.half_width_months}),),
    ).error_sd_months(0)
    at_answer = np.array([calibration.error_sd_months(months) for months in answers])
    choices = {PRODUCT: expected_sd, AT_ANSWER: at_answer, ONE_WIDTH: one_width, NONE: 0.0}
    away = answers - norm.mean_months
    z = {name: np.abs(away) / np.hypot(norm.sd_months, sd) for name, sd in choices.items()}
    bare = np.abs(away) / norm.sd_months > 2
    return pd.DataFrame({"sex": sex, "age": age, "consistency": consistency, "growth": growth, "bare": bare} | z)


def shares(children: pd.DataFrame) -> pd.Series[float]:
    """Shares of all healthy children; of whom the rule cannot tell there is no alarm, for any choice of the error."""
    told = children["consistency"] != "cannot_tell"
    return pd.Series(
        {
            "cannot tell": 1 - told.mean(),
            "outside 95 %": children["consistency"].isin(["unusual", "inconsistent"]).mean(),
            "outside 99 %": (children["consistency"] == "inconsistent").mean(),
            "naive 95 %": (told & (children[NONE] > LIMIT_95)).mean(),
            "naive 99 %": (told & (children[NONE] > LIMIT_99)).mean(),
            "indeterminate": (children["growth"] == "indeterminate").mean(),
            "growth alarm": children["growth"].isin(["delayed", "advanced"]).mean(),
            "bare 2 SD": children["bare"].mean(),
        }
    )


def compare_choices(children: pd.DataFrame) -> None:
    """Print the false alarms under each choice of the model's error, their ratio to the nominal, and the extremes."""
    told = children["consistency"] != "cannot_tell"
    print(f"\n{'model error':28s} outside 95 %  outside 99 %  ratio to 5 % and 1 %  most and least, of one age and sex")
    for name in (PRODUCT, AT_ANSWER, ONE_WIDTH, NONE):
        outside = [(children.loc[told, name] > limit).mean() for limit in (LIMIT_95, LIMIT_99)]
        groups = (told & (children[name] > LIMIT_95)).groupby([children["sex"], children["age"]]).mean()
        ratios = f"{outside[0] / 0.05:.2f} and {outside[1] / 0.01:.2f}"
        extremes = f"{groups.max():.1%} and {groups.min():.1%}"
        print(f"{name:28s} {outside[0]:12.1%}  {outside[1]:12.1%}  {ratios:>20s}  {extremes:>33s}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None)
    parser.add_argument("--predictions", type=Path)
    parser.add_argument("--children", type=int, default=4000, help="of each age and sex")
    options = parser.parse_args()
    predictor = load_predictor(options.model)
    calibration = predictor.calibration
    measured = pd.read_csv(options.predictions, dtype={"image_id": str}) if options.predictions else None
    rng = np.random.default_rng(0)
    parts = []
    for sex, ages in AGES.items():
        for age in ages:
            norm = norm_at(age, sex)
            true = np.maximum(rng.normal(norm.mean_months, norm.sd_months, options.children), 0)
            parts.append(of_one_age(with_errors(true, sex, calibration, measured, rng), age, sex, calibration))
    children = pd.concat(parts, ignore_index=True)
    errors = f"errors of {len(measured)} radiographs" if measured is not None else "errors drawn from its intervals"
    print(f"{predictor.name}; {len(children)} simulated healthy children, {options.children} an age; {errors}\n")
    pd.options.display.float_format = "{:.1%}".format
    with_all = pd.concat([children.assign(age="all"), children])
    print(with_all.groupby(["sex", "age"], sort=False).apply(shares, include_groups=False).to_string())
    compare_choices(children)


if __name__ == "__main__":
    main()
