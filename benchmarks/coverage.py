"""What interval widths that follow the predicted age are worth, against one width, bands, and one curve for each sex.

    .venv/bin/python benchmarks/coverage.py --predictions evaluation/predictions.csv [--repeats 200]

The predictions (as `bone-age evaluate` or the pipeline writes them) should be of a split that trained nothing. They are
halved at random again and again: one half calibrates, the other is covered. Prints mean coverage, that of the worst
sex-and-age group of at least 30 rows, and the mean width as a ratio to that of one width for all.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from bone_age.evaluation.intervals import IntervalCalibration
from bone_age.evaluation.subgroups import subgroup_names

Floats = npt.NDArray[np.float64]
Sexes = npt.NDArray[np.str_]
COVERAGE, BANDS, MIN_ROWS_FOR_BAND, MIN_GROUP = 0.9, (60.0, 120.0, 168.0), 100, 30


def one_width(true: Floats, predicted: Floats, new: Floats, _: Sexes, __: Sexes) -> Floats:
    return np.full(len(new), IntervalCalibration.fit(true, predicted, COVERAGE).half_width_months)


def bands(true: Floats, predicted: Floats, new: Floats, sex: Sexes, new_sex: Sexes) -> Floats:
    """A width for each band of predicted age that holds 100 rows; the others take that of all rows."""
    half = one_width(true, predicted, new, sex, new_sex)
    band, band_of_new = np.digitize(predicted, BANDS), np.digitize(new, BANDS)
    for number in range(len(BANDS) + 1):
        rows = band == number
        if rows.sum() >= MIN_ROWS_FOR_BAND:
            fitted = IntervalCalibration.fit(true[rows], predicted[rows], COVERAGE)
            half[band_of_new == number] = fitted.half_width_months
    return half


def scaled(true: Floats, predicted: Floats, new: Floats, _: Sexes, __: Sexes) -> Floats:
    knots = IntervalCalibration.fit(true, predicted, COVERAGE).knots
    return np.interp(new, [knot.at_months for knot in knots], [knot.half_width_months for knot in knots])


def scaled_for_each_sex(true: Floats, predicted: Floats, new: Floats, sex: Sexes, new_sex: Sexes) -> Floats:
    half = np.empty(len(new))
    for one in np.unique(new_sex):
        rows, asked = sex == one, new_sex == one
        half[asked] = scaled(true[rows], predicted[rows], new[asked], sex[rows], new_sex[asked])
    return half


METHODS: dict[str, Callable[[Floats, Floats, Floats, Sexes, Sexes], Floats]] = {
    "one width": one_width,
    "bands": bands,
    "scaled by predicted age": scaled,
    "the same for each sex": scaled_for_each_sex,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predictions", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=200)
    options = parser.parse_args()
    table = pd.read_csv(options.predictions, dtype={"image_id": str})
    true, predicted = table["bone_age_months"].to_numpy(float), table["predicted_months"].to_numpy(float)
    groups = np.array(subgroup_names(table["sex"].tolist(), table["bone_age_months"].tolist()))
    sex = table["sex"].to_numpy(str)
    rng = np.random.default_rng(0)
    held: dict[str, list[npt.NDArray[np.bool_]]] = {name: [] for name in METHODS}
    group_of: list[npt.NDArray[np.str_]] = []
    widths: dict[str, list[float]] = {name: [] for name in METHODS}
    for _ in range(options.repeats):
        order = rng.permutation(len(table))
        fit, new = order[: len(order) // 2], order[len(order) // 2 :]
        group_of.append(groups[new])
        for name, method in METHODS.items():
            half = method(true[fit], predicted[fit], predicted[new], sex[fit], sex[new])
            held[name].append(np.abs(predicted[new] - true[new]) <= half)
            widths[name].append(float(2 * half.mean()))
    pooled_groups = np.concatenate(group_of)
    large = [group for group in np.unique(groups) if (groups == group).sum() >= MIN_GROUP]
    base = float(np.mean(widths["one width"]))
    print(f"{len(table)} radiographs, {options.repeats} random halves, nominal coverage {COVERAGE:.0%}")
    for name in METHODS:
        covered = np.concatenate(held[name])
        by_group = {str(group): float(covered[pooled_groups == group].mean()) for group in large}
        worst = min((share, group) for group, share in by_group.items())
        width = float(np.mean(widths[name]))
        print(
            f"{name:24s} coverage {covered.mean():.3f}   worst group {worst[0]:.3f} ({worst[1]})   "
            f"mean width {width:.1f} months   ratio {width / base:.2f}"
        )
        print("    " + "  ".join(f"{group} {share:.3f}" for group, share in by_group.items()))


if __name__ == "__main__":
    main()
