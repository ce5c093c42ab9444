"""How often monitoring calls drift where there is none, and how often it sees drift that there is.

    .venv/bin/python benchmarks/drift.py --data DIR --answers FILE [--model REF] [--limit N] [--changed 600]
    .venv/bin/python benchmarks/drift.py --answers FILE
    .venv/bin/python benchmarks/drift.py --data DIR --model DIR --store

Answers of radiographs that trained nothing (validation and test split), as they came and changed as another device
would change them, are made once and kept in FILE (JSON lines; run again, it goes on); with FILE alone they are only
read. Then, again and again at random, `--n` of the answers as they came are what a hospital asked and the others are
the reference, so that there is no drift; and once more with drift: radiographs changed (half of those in FILE, at most
`--n`), or other children drawn (with repetition). Prints for each bound on false alarms the share of samples that were
called drifted, with its 95 % interval, and the ratio of the least detection rate to the false alarms. --store gives
the folder of a model from before there was monitoring the sample that it lacks; its digest changes with that.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import binomtest

from bone_age.data.loading import load_dataset
from bone_age.data.manifest import Dataset
from bone_age.data.splits import assign_splits
from bone_age.data.threads import stream_in_threads
from bone_age.errors import BoneAgeError, InputError
from bone_age.evaluation.answer_sample import AnswerSample, figures_of_one, sample_of_held_out, sample_of_rows
from bone_age.evaluation.evaluated import SAMPLE_ROWS
from bone_age.evaluation.likeness import UnlikeTrainingError
from bone_age.evaluation.robustness import lowest_hashes
from bone_age.imaging import ImageError, preprocess, read_image
from bone_age.monitoring.bounds import FALSE_ALARMS, FINDINGS, MIN_REFERENCE, NEWEST
from bone_age.monitoring.drift import compare
from bone_age.serving.bundle import HELD_OUT, write_checksums
from bone_age.serving.feature_summary import FeatureSummary
from bone_age.serving.onnx_network import OnnxNetwork
from bone_age.serving.predictor import Predictor
from bone_age.serving.references import load_predictor
from bone_age.serving.statistics import ImageStatistics
from bone_age.settings import load_config

Grey = npt.NDArray[np.uint8]


def brighter(image: Grey) -> Grey:
    """By 40 of 256 levels, clipped."""
    return np.clip(image.astype(np.float32) + 40, 0, 255).astype(np.uint8)


def another_device(image: Grey) -> Grey:
    """Contrast of 70 %, noise of 8 levels, half the resolution."""
    height, width = image.shape
    half = cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    blurred = cv2.resize(half, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32)
    noise = np.random.default_rng(int(image.sum(dtype=np.int64))).normal(0, 8, image.shape)
    return np.clip(127 + 0.7 * (blurred - 127) + noise, 0, 255).astype(np.uint8)


def inverted(image: Grey) -> Grey:
    return 255 - image


def as_it_is(image: Grey) -> Grey:
    return image


CHANGES: dict[str, Callable[[Grey], Grey]] = {
    "as it is": as_it_is,
    "brighter": brighter,
    "another device": another_device,
    "inverted": inverted,
    "preprocessing off": as_it_is,
}


class Answers:
    """Answers by change and image id, kept in a file."""

    def __init__(self, predictor: Predictor, file: Path) -> None:
        facts = predictor.bundle.facts.model_copy(update={"flip_averaging": False})  # half the time, the same features
        predictor = Predictor(replace(predictor.bundle, facts=facts), predictor.name)
        off = replace(predictor.bundle, preprocessing=predictor.preprocessing.model_copy(update={"clahe": None}))
        self._with, self._without = predictor, Predictor(off, predictor.name)
        for asked in (self._with, self._without):
            asked.network = OnnxNetwork(predictor.bundle.onnx, threads=1)  # many radiographs at a time instead
        self._file = file
        self.kept = read(file) if file.is_file() else {}

    def make(self, dataset: Dataset, rows: pd.DataFrame, change: str) -> None:
        missing = [row for row in rows.to_dict("records") if (change, row["image_id"]) not in self.kept]

        def one(row: dict[str, Any]) -> dict[str, Any]:
            predictor = self._without if change == "preprocessing off" else self._with
            image = np.ascontiguousarray(CHANGES[change](read_image(dataset.path_of(row["path"]))))
            known = {"change": change, "image_id": row["image_id"], "sex": row["sex"], "label": row["bone_age_months"]}
            try:
                found = predictor.answer(image, row["sex"])
            except UnlikeTrainingError:
                return known | {"refused": "refused_unlike_training"}
            except ImageError:
                return known | {"refused": "refused_unusable_image"}
            summary, grey = FeatureSummary.of(found.pooled_features), found.statistics
            return known | {
                "refused": None,
                "grey": [grey.mean, grey.sd, grey.black_share, grey.white_share],
                "features": [summary.norm, *summary.projections],
                "likeness_distance": found.likeness_distance,
                "months": [getattr(found.prediction, f"{name}_months") for name in ("bone_age", "lower", "upper")],
                "warnings": [warning.code for warning in found.prediction.warnings],
            }

        with self._file.open("a") as file:
            for row in stream_in_threads(one, missing, f"answering, {change}", len(missing)):
                self.kept[change, row["image_id"]] = row
                file.write(json.dumps(row) + "\n")
                file.flush()


Rows = list[dict[str, Any]]


def sample(rows: Rows) -> AnswerSample:
    """What monitoring would see of these answers in a log."""
    figures = []
    for row in rows:
        if row["refused"] is None:
            statistics = ImageStatistics(0, 0, *row["grey"])
            summary = FeatureSummary(row["features"][0], tuple(row["features"][1:]))
            figures.append(figures_of_one(statistics, summary, row["likeness_distance"], row["sex"], row["months"]))
    found = Counter(code for row in rows for code in [row["refused"], *row.get("warnings", ())])
    return sample_of_rows(figures, len(rows), {code: found[code] for code in FINDINGS})


def of_boys(rows: Rows, count: int, chance: np.random.Generator) -> Rows:
    """80 % boys."""
    return _drawn(rows, [4.0 if row["sex"] == "M" else 1.0 for row in rows], count, chance, by="sex")


def of_the_young(rows: Rows, count: int, chance: np.random.Generator) -> Rows:
    """Ten years of bone age and older half as often as they were, younger children in their place."""
    return _drawn(rows, [0.5 if row["label"] >= 120 else 1.0 for row in rows], count, chance)


def _drawn(rows: Rows, weights: list[float], count: int, chance: np.random.Generator, by: str | None = None) -> Rows:
    shares = np.array(weights)
    if by is not None:  # so that the weights are those of the groups, however large they are
        sizes = Counter(row[by] for row in rows)
        shares /= np.array([sizes[row[by]] for row in rows])
    return [rows[place] for place in chance.choice(len(rows), count, p=shares / shares.sum())]


MIXES = {"boys 80 %": of_boys, "younger children": of_the_young}


def trials(
    kept: dict[tuple[str, str], dict[str, Any]], n: int, repeats: int, bounds: Sequence[float]
) -> Iterator[tuple[str, dict[float, int], Counter[str], int]]:
    """By kind of drift (`none` first): how often it was called drift at each bound, by what, and of how many."""
    base = [row for (change, _), row in kept.items() if change == "as it is"]
    if len(base) < n + MIN_REFERENCE:
        raise InputError(f"{len(base)} answers as they came; {n} asked and a reference need {n + MIN_REFERENCE}")
    kinds = ["none", *(change for change in CHANGES if change != "as it is"), *MIXES]
    for kind in kinds:
        chance = np.random.default_rng(2026)
        called, names, done = dict.fromkeys(bounds, 0), Counter[str](), 0
        changed = [row for (change, _), row in kept.items() if change == kind]
        if kind in CHANGES and not changed:
            continue
        for _ in range(repeats):
            order = chance.permutation(len(base))
            asked = [base[place] for place in order[:n]]
            others = order[n:]
            if kind in MIXES:
                asked = MIXES[kind](asked, n, chance)
            elif kind != "none":
                some = chance.choice(len(changed), min(n, len(changed) // 2), replace=False)
                asked = [changed[place] for place in some]
                ids = {row["image_id"] for row in asked}
                others = np.array([place for place in order if base[place]["image_id"] not in ids])
            reference, service = sample([base[place] for place in others]), sample(asked)
            for bound in bounds:
                drifted = [one.name for one in compare(reference, service, bound) if one.is_drift]
                called[bound] += bool(drifted)
                names.update(drifted if bound == FALSE_ALARMS else [])
            done += 1
        yield f"{kind}, {len(asked)} asked", called, names, done


def report(kept: dict[tuple[str, str], dict[str, Any]], n: int, repeats: int) -> None:
    bounds = (FALSE_ALARMS, 0.05)
    counts = Counter(change for change, _ in kept)
    print("answers: " + ", ".join(f"{count} {change}" for change, count in counts.items()))
    print(f"samples of {n}; share called drifted where a run may be wrong in")
    print(f"{'':30}" + "".join(f"{bound:>24.1%}" for bound in bounds) + "   most often by")
    least, false_alarms = 1.0, 0.0
    for kind, called, names, done in trials(kept, n, repeats, bounds):
        shown = "".join(f"{share(called[bound], done):>24}" for bound in bounds)
        print(f"{kind:30}{shown}   {', '.join(name for name, _ in names.most_common(3))}", flush=True)
        if kind.startswith("none"):
            false_alarms = max(called[FALSE_ALARMS], 1) / done
        else:
            least = min(least, called[FALSE_ALARMS] / done)
    print(f"least detection rate / false alarms at {FALSE_ALARMS:.1%}: ratio {least / false_alarms:.0f}")


def share(count: int, n: int) -> str:
    bounds = binomtest(count, n).proportion_ci(method="wilson")
    return f"{count / n:.1%} [{bounds.low:.1%}, {bounds.high:.1%}]"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", metavar="REF", help="as for `bone-age evaluate`; by default the champion")
    parser.add_argument("--data", metavar="DIR", help="left out: only what FILE holds")
    parser.add_argument("--config", type=Path, default=Path("configs/rsna_cpu.yaml"), help="whose split to use")
    parser.add_argument("--answers", metavar="FILE", type=Path, help="kept and read again")
    parser.add_argument("--limit", type=int, metavar="N", help="only so many rows, always the same ones")
    parser.add_argument("--changed", type=int, default=600, metavar="N", help="rows to change")
    parser.add_argument("--store", action="store_true", help="make the model's sample of held-out radiographs")
    parser.add_argument("--n", type=int, default=NEWEST, metavar="N", help="answers in a sample")
    parser.add_argument("--repeats", type=int, default=200, metavar="N", help="samples of each kind")
    options = parser.parse_args(arguments)
    try:
        if options.store:
            store(load_predictor(options.model), *held_out(options))
            return 0
        if options.answers is None:
            raise InputError("--answers names the file that answers are kept in")
        answers = made(options) if options.data else read(options.answers)
        report(answers, options.n, options.repeats)
    except (BoneAgeError, OSError, ValueError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    return 0


def read(file: Path) -> dict[tuple[str, str], dict[str, Any]]:
    rows = map(json.loads, file.read_text().splitlines())
    return {(row["change"], row["image_id"]): row for row in rows}


def held_out(options: argparse.Namespace) -> tuple[Dataset, pd.DataFrame]:
    if options.data is None:
        raise InputError("--data names the data set that the model was trained on")
    config = load_config(options.config).with_source(options.data)
    dataset = assign_splits(load_dataset(config.data), config.split)
    rows = dataset.table[dataset.table["split"].isin(["validation", "test"])]
    return dataset, lowest_hashes(rows, options.limit)


def made(options: argparse.Namespace) -> dict[tuple[str, str], dict[str, Any]]:
    dataset, rows = held_out(options)
    answers = Answers(load_predictor(options.model), options.answers)
    for change in CHANGES:
        answers.make(dataset, rows if change == "as it is" else lowest_hashes(rows, options.changed), change)
    return answers.kept


def store(predictor: Predictor, dataset: Dataset, rows: pd.DataFrame) -> None:
    """Give a model's folder its sample, as the training pipeline would have."""
    if predictor.bundle.facts.dataset_fingerprint != dataset.fingerprint:
        raise InputError(f"{predictor.name} was not trained on these data: their fingerprint is {dataset.fingerprint}")
    rows = lowest_hashes(rows, SAMPLE_ROWS)

    def prepared(relative: str) -> Grey:
        return preprocess(read_image(dataset.path_of(relative)), predictor.preprocessing)

    seen = np.stack(list(stream_in_threads(prepared, rows["path"].tolist(), "preprocessing", len(rows))))
    features = predictor.network.features(seen)
    months = predictor.predict_prepared(seen, rows["sex"].tolist()).astype(np.float64)
    likeness = predictor.bundle.likeness
    distances = None if likeness is None else likeness.distances(features)
    bounds = np.stack([months, *predictor.calibration.interval(months)], axis=1)
    found = sample_of_held_out(seen, features, distances, rows["sex"].tolist(), bounds)
    found.save(predictor.bundle.folder / HELD_OUT)
    write_checksums(predictor.bundle.folder)


if __name__ == "__main__":
    sys.exit(main())
