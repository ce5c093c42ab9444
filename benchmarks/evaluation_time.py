"""Evaluation with bootstrap intervals of every figure and subgroup, against resampling row by row.

    .venv/bin/python -m benchmarks.evaluation_time [--rows 12000] [--replicates 2000] [--rounds 3]

The rows are made up, one radiograph a patient. The other way draws each replicate's rows with NumPy and computes the
same figures from them (MAE, RMSE, R², bias, shares, MAE and bias by group), as one would write it down; it runs a
twentieth of the replicates, and its time is taken times twenty.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd

from benchmarks.measured import Measured, add_json, tell
from bone_age.evaluation.evaluation import ScoredSet, evaluate_predictions
from bone_age.evaluation.intervals import IntervalCalibration
from bone_age.evaluation.subgroups import subgroup_names
from bone_age.settings import EvaluationSettings

SHARE = 20


def rows_of(n: int) -> pd.DataFrame:
    random = np.random.default_rng(0)
    true = np.clip(random.normal(127, 41, n), 1, 228)
    return pd.DataFrame(
        {
            "image_id": [str(row) for row in range(n)],
            "patient_id": [str(row) for row in range(n)],
            "sex": random.choice(["M", "F"], n),
            "bone_age_months": true,
            "predicted_months": np.maximum(true + random.laplace(0, 7, n), 0),
        }
    )


def row_by_row(table: pd.DataFrame, replicates: int) -> None:
    random = np.random.default_rng(0)
    groups = np.array(subgroup_names(table["sex"].tolist(), table["bone_age_months"].tolist()))
    true, predicted = (table[name].to_numpy() for name in ("bone_age_months", "predicted_months"))
    for _ in range(replicates):
        drawn = random.integers(0, len(table), len(table))
        error, labels, of_group = predicted[drawn] - true[drawn], true[drawn], groups[drawn]
        size = np.abs(error)
        (size.mean(), np.sqrt((error**2).mean()), 1 - (error**2).mean() / labels.var(), error.mean())
        [(size <= bound).mean() for bound in (6, 12, 24)]
        np.quantile(size, 0.9)
        [(size[of_group == name].mean(), error[of_group == name].mean()) for name in np.unique(of_group)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=12_000)
    parser.add_argument("--replicates", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    add_json(parser)
    options = parser.parse_args()
    table = rows_of(options.rows)
    calibration = IntervalCalibration.fit(table["bone_age_months"], table["predicted_months"], 0.9)
    settings = EvaluationSettings(bootstrap_replicates=options.replicates)
    scored_set = ScoredSet("made up", "0" * 64, "test", True)
    ours = naive = float("inf")
    for _ in range(options.rounds):
        started = time.perf_counter()
        evaluate_predictions(table, "model", scored_set, calibration, settings, 0)
        ours = min(ours, time.perf_counter() - started)
        started = time.perf_counter()
        row_by_row(table, options.replicates // SHARE)
        naive = min(naive, SHARE * (time.perf_counter() - started))
    print(f"{options.rows:,} rows, {options.replicates:,} replicates, all subgroups\n")
    print("| way | seconds | ours, as a ratio |")
    print("|---|---|---|")
    print(f"| ours | {ours:.2f} | 1 |")
    print(f"| row by row | {naive:.2f} | {naive / ours:.1f} |")
    seconds = Measured(f"seconds for {options.rows:,} rows, {options.replicates:,} replicates", ours, at_most=3.0)
    tell([seconds, Measured("time, row by row / ours", naive / ours)], options.json)


if __name__ == "__main__":
    main()
