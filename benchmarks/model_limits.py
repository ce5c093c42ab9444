"""The limits of a model on a labelled data set: bias by age, changed radiographs, worst errors, label noise.

    .venv/bin/python benchmarks/model_limits.py --model REF --data DIR --out DIR [--limit N]
    .venv/bin/python benchmarks/model_limits.py --model REF --data DIR --config configs/rsna_cpu.yaml --out DIR

With --config only the rows of one split are measured (--split, by default `test`), as the pipeline draws it from the
configuration and the data, so that a model is not judged on what it learned from. Writes limits.json, limits.md,
predictions.csv and metrics.json, JSON and CSV for each part, and plots/; no radiograph. The network runs twice for each
radiograph and 19 times more for each of the --changed ones.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bone_age.data.loading import load_dataset
from bone_age.data.manifest import SPLITS, Dataset, require_labels
from bone_age.data.splits import assign_splits
from bone_age.errors import BoneAgeError
from bone_age.evaluation.limits import measure_limits
from bone_age.evaluation.robustness import lowest_hashes
from bone_age.serving.predictor import Predictor
from bone_age.serving.references import load_predictor
from bone_age.settings import DataSettings, EvaluationSettings, TrainingConfig, load_config


def chosen(options: argparse.Namespace) -> tuple[Dataset, pd.DataFrame, str, list[str]]:
    """The data set, the rows to measure on, what they are called, and a warning where they are only a part of that."""
    if options.config is None:
        dataset, split = load_dataset(DataSettings(source=options.data)), "all"
        rows = dataset.table
    else:
        config: TrainingConfig = load_config(options.config).with_source(options.data)
        dataset, split = assign_splits(load_dataset(config.data), config.split), options.split
        rows = dataset.split(split)
    part = lowest_hashes(rows, options.limit)
    require_labels(dataset.with_table(part))
    what = "rows" if split == "all" else f"rows of the {split} split"
    partial = [f"Only {len(part):,} of {len(rows):,} {what} were measured."] if len(part) < len(rows) else []
    return dataset, part, split, partial


def warnings_of(predictor: Predictor, dataset: Dataset, split: str) -> tuple[str, ...]:
    """What would make the figures better than they are, as far as the model's own facts tell."""
    warnings = [warning.message for warning in predictor.standing_warnings]
    learned_here = predictor.bundle.facts.dataset_fingerprint == dataset.fingerprint
    if learned_here and split == "all":
        warnings.append("The model was trained on this very data set: most of these radiographs it has seen.")
    elif learned_here and split != "test":
        warnings.append(f"The model was trained or selected on radiographs of this data set's {split} split.")
    elif split != "all" and not learned_here:
        warnings.append(
            "The model names another data set as its own, so this split need not be the one it was held to."
        )
    return tuple(warnings)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", metavar="REF", help="as for `bone-age evaluate`; by default the champion")
    parser.add_argument("--data", metavar="DIR", required=True)
    parser.add_argument("--out", metavar="DIR", type=Path, required=True)
    parser.add_argument("--config", type=Path, help="the configuration whose split to measure on")
    parser.add_argument("--split", choices=SPLITS, default="test", help="which one; only with --config")
    parser.add_argument("--limit", type=int, metavar="N", help="only so many rows, always the same ones")
    parser.add_argument("--changed", type=int, default=400, metavar="N", help="rows for the changed radiographs")
    parser.add_argument("--worst", type=int, default=25, metavar="K", help="how many of the largest errors to list")
    parser.add_argument("--replicates", type=int, default=2000, help="bootstrap resamples")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        settings = EvaluationSettings(bootstrap_replicates=options.replicates)
        predictor = load_predictor(options.model)
        dataset, rows, split, partial = chosen(options)
        warnings = (*warnings_of(predictor, dataset, split), *partial)
        limits, evaluation = measure_limits(
            predictor, dataset, rows, split, settings, options.seed, options.changed, options.worst, warnings
        )
        evaluation.save_tables(options.out)
        limits.save(options.out)
    except (BoneAgeError, ValueError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    outside = [f"{band.basis} {band.band_months}" for band in limits.calibration.outside]
    hardest = max(limits.robustness.effects, key=lambda effect: effect.mae_increase.value)
    print(f"{evaluation.caption}: MAE {evaluation.metrics.mae.value:.2f} months")
    print(f"bias beyond {limits.calibration.bound_months:g} months in: {', '.join(outside) or 'no band'}")
    print(f"hardest change: {hardest.description}, MAE {hardest.mae_increase.value:+.2f} months")
    print(f"written: {options.out / 'limits.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
