"""What calibrating for a site gives and costs, by how many cases the site has and by what is different there.

    bone-age evaluate --model models/reference --data DIR --out evaluation
    .venv/bin/python benchmarks/site_calibration.py --predictions evaluation/predictions.csv [--repeats 200]

The predictions should be of a split that trained nothing. A site is made of them by changing labels or answers, some
cases are drawn at random, six in ten of them fit (as `bone-age calibrate` does), and everybody who was not drawn is
asked: MAE after over MAE before, and how often the intervals hold the label, before and after.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from bone_age.evaluation.intervals import IntervalCalibration
from bone_age.evaluation.site_correction import fit_site

Floats = npt.NDArray[np.float64]
COVERAGE, FITTED_SHARE = 0.9, 0.6
CASES = (50, 100, 200, 400)

SITES: dict[str, Callable[[Floats, Floats, np.random.Generator], tuple[Floats, Floats]]] = {
    "as in training": lambda true, predicted, random: (true, predicted),
    "readers 6 months higher": lambda true, predicted, random: (true + 6, predicted),
    "answers spread a tenth less": lambda true, predicted, random: (true, 125 + 0.9 * (predicted - 125)),
    "another device, 8 months more noise": lambda true, predicted, random: (
        true,
        predicted + random.normal(0, 8, len(predicted)),
    ),
}


@dataclass(frozen=True)
class Effect:
    """Means over all repeats; `ratio` is MAE after over MAE before, `worst_ratio` that of the worst repeat in 20."""

    site: str
    cases: int
    mae_before: float
    ratio: float
    worst_ratio: float
    coverage_before: float
    coverage_after: float
    worst_coverage: float
    corrected_share: float


def effect(site: str, cases: int, true: Floats, predicted: Floats, own: IntervalCalibration, repeats: int) -> Effect:
    rows = []
    for repeat in range(repeats):
        random = np.random.default_rng([repeat, cases])
        labels, answers = SITES[site](true, predicted, random)
        drawn = random.permutation(len(labels))
        fitted, asked = drawn[: round(FITTED_SHARE * cases)], drawn[cases:]
        fit = fit_site(labels[fitted], answers[fitted], own)
        corrected = fit.correction.of(answers[asked].astype(np.float32)).astype(np.float64)
        before, after = (np.abs(months - labels[asked]).mean() for months in (answers[asked], corrected))
        held = [_held(own, answers[asked], labels[asked]), _held(fit.intervals, corrected, labels[asked])]
        rows.append([before, after / before, *held, fit.kind != "none"])
    table = np.array(rows, dtype=np.float64)
    before, ratio, held_before, held_after, corrected_share = table.mean(axis=0)
    return Effect(
        site, cases, before, ratio, float(np.quantile(table[:, 1], 0.95)), held_before, held_after,
        float(np.quantile(table[:, 3], 0.05)), corrected_share,
    )  # fmt: skip


def _held(intervals: IntervalCalibration, months: Floats, labels: Floats) -> float:
    lower, upper = intervals.interval(months)
    return float(((lower <= labels) & (labels <= upper)).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predictions", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=200)
    options = parser.parse_args()
    table = pd.read_csv(options.predictions)
    true, predicted = (table[name].to_numpy(np.float64) for name in ("bone_age_months", "predicted_months"))
    own = IntervalCalibration.fit(true, predicted, COVERAGE)
    print(f"n = {len(table)}, {options.repeats} repeats; intervals made for {COVERAGE:g}\n")
    print("| site | cases | MAE before | after / before (worst in 20) | intervals hold: before, after (worst in 20) "
          "| corrected in |")  # fmt: skip
    print("|---|---|---|---|---|---|")
    for site in SITES:
        for cases in CASES:
            found = effect(site, cases, true, predicted, own, options.repeats)
            print(
                f"| {found.site} | {found.cases} | {found.mae_before:.2f} "
                f"| {found.ratio:.3f} ({found.worst_ratio:.3f}) "
                f"| {found.coverage_before:.3f}, {found.coverage_after:.3f} ({found.worst_coverage:.3f}) "
                f"| {found.corrected_share:.0%} |"
            )


if __name__ == "__main__":
    main()
