"""What a model refuses and flags: real hands, turned hands, drawn hands, and pictures that are no hand.

    python -m benchmarks.refusal --model models/reference --data DIR [--config configs/rsna_cpu.yaml] [--outcomes FILE]
    python -m benchmarks.refusal --model DIR --data DIR --fit

Every picture goes the way of an answer (`Predictor.answer`), without the mirror image, on which refusal does not
depend. Real radiographs are of the test split, as the pipeline draws it from the configuration and the data. The plain
measure that the model's is compared with (how far mean, spread, gradient and entropy of the grey levels are from the
training split's, in SDs) is fitted on the training split, and bounded where it flags as many real hands. A picture is
missed when it is neither refused nor flagged. With --outcomes what was found is kept, so that a run goes on where it
was ended. --fit fits the model's likeness to the training split and stores it in the model's folder.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.not_hands import climbed, not_hands
from bone_age.data.loading import load_dataset
from bone_age.data.manifest import Dataset
from bone_age.data.splits import assign_splits
from bone_age.data.synthetic import render_hand
from bone_age.data.threads import stream_in_threads
from bone_age.errors import BoneAgeError
from bone_age.evaluation.evaluated import LIKENESS_ROWS
from bone_age.evaluation.likeness import REFUSE_ABOVE, Likeness, UnlikeTrainingError
from bone_age.evaluation.robustness import lowest_hashes
from bone_age.imaging import GreyImage, ImageError, is_inverted, preprocess, read_image
from bone_age.provenance import code_digest
from bone_age.serving.bundle import LIKENESS, write_checksums
from bone_age.serving.onnx_network import OnnxNetwork
from bone_age.serving.predictor import Predictor
from bone_age.serving.references import load_predictor
from bone_age.settings import load_config

Picture = Callable[[], GreyImage]
DECIDING = ("imaging/decode", "imaging/preprocessing", "imaging/exposure", "evaluation/likeness", "serving/predictor")
NAMED = ("inverted", "rotated", "unlike_training")
Z95 = 1.959964


@dataclass(frozen=True)
class Outcome:
    """What became of one picture.

    Attributes:
        codes: Of the warnings; `refused` or `spoilt` (blank, saturated, too small) where there is no answer.
        grey: Mean, SD, mean gradient and entropy of what the model saw.
    """

    codes: tuple[str, ...]
    distance: float | None
    months: float | None
    grey: tuple[float, ...]

    @property
    def is_refused(self) -> bool:
        return "refused" in self.codes or "spoilt" in self.codes

    @property
    def is_flagged(self) -> bool:
        return "unlike_training" in self.codes

    @property
    def is_missed(self) -> bool:
        return not (self.is_refused or self.is_flagged)


class Outcomes:
    """Outcomes by set and picture, kept in a file of JSON lines where there is one."""

    def __init__(self, predictor: Predictor, file: Path | None) -> None:
        self.predictor, self.file = predictor, file
        self.code = code_digest(*DECIDING)[:12]
        self.known: dict[str, Outcome] = {}
        if file is not None and file.is_file():
            for line in file.read_text().splitlines():
                row = json.loads(line)
                key, codes, grey = row.pop("key"), tuple(row.pop("codes")), tuple(row.pop("grey"))
                self.known[key] = Outcome(codes=codes, grey=grey, **row)

    def of(self, name: str, pictures: dict[str, Picture]) -> dict[str, Outcome]:
        """The outcomes of a set of pictures, by their names."""
        full = {key: f"{self.code} {self.predictor.digest[:12]} {name} {key}" for key in pictures}
        unknown = [key for key in pictures if full[key] not in self.known]
        found = stream_in_threads(lambda key: outcome(self.predictor, pictures[key]()), unknown, name, len(unknown))
        for key, one in zip(unknown, found, strict=True):
            self.known[full[key]] = one
            self._keep(full[key])
        return {key: self.known[full[key]] for key in pictures}

    def _keep(self, key: str) -> None:
        if self.file is not None:
            with self.file.open("a") as stream:
                stream.write(json.dumps({"key": key} | vars(self.known[key])) + "\n")


def outcome(predictor: Predictor, image: GreyImage) -> Outcome:
    """Ask for an answer, and say what came."""
    grey = grey_figures(preprocess(image, predictor.preprocessing))
    try:
        answered = predictor.answer(image, "F")
    except UnlikeTrainingError as error:
        return Outcome(("refused",), error.distance, None, grey)
    except ImageError:
        return Outcome(("spoilt",), None, None, grey)
    codes = tuple(warning.code for warning in answered.prediction.warnings if warning.code in NAMED)
    return Outcome(codes, answered.likeness_distance, answered.prediction.bone_age_months, grey)


def grey_figures(image: npt.NDArray[np.uint8]) -> tuple[float, ...]:
    shares = np.bincount(image.ravel(), minlength=256) / image.size
    entropy = -float((shares[shares > 0] * np.log2(shares[shares > 0])).sum())
    gradient = float(np.hypot(cv2.Sobel(image, cv2.CV_32F, 1, 0), cv2.Sobel(image, cv2.CV_32F, 0, 1)).mean())
    return float(image.mean()), float(image.std()), gradient, entropy


def share(count: int, n: int) -> str:
    """A share with its 95 % Wilson interval."""
    middle, half = (count + Z95**2 / 2), Z95 * np.sqrt(count * (n - count) / n + Z95**2 / 4)
    low, high = (middle - half) / (n + Z95**2), (middle + half) / (n + Z95**2)
    return f"{count} of {n}, {count / n:.1%} [{max(low, 0):.1%}, {high:.1%}]"


# The sets of pictures -------------------------------------------------------------------------------------------------


def radiographs(
    dataset: Dataset, rows: pd.DataFrame, change: Callable[[GreyImage], GreyImage] = lambda image: image
) -> dict[str, Picture]:
    def picture(relative: str) -> Picture:
        return lambda: np.ascontiguousarray(change(read_image(dataset.path_of(relative))))  # type: ignore[return-value]

    return {image_id: picture(path) for image_id, path in zip(rows["image_id"], rows["path"], strict=True)}


def drawn_hands(count: int, seed: int) -> dict[str, Picture]:
    rng = np.random.default_rng(seed)
    ages, seeds = rng.uniform(6, 216, count), rng.integers(2**31, size=count)

    def picture(number: int) -> Picture:
        return lambda: render_hand(float(ages[number]), "MF"[number % 2], int(seeds[number]))  # type: ignore[arg-type]

    return {str(number): picture(number) for number in range(count)}


def pictures_of_no_hand(predictor: Predictor, each: int, climbs: int, steps: int, seed: int) -> dict[str, Picture]:
    """Named `<kind>/<number>`."""
    likeness = predictor.bundle.likeness
    pictures: dict[str, Picture] = {
        f"{one.kind}/{number % each}": (lambda image=one.image: image)  # type: ignore[misc]
        for number, one in enumerate(not_hands(each, seed))
    }

    def distances(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        prepared = np.stack([preprocess(image, predictor.preprocessing) for image in images])
        return likeness.distances(predictor.network.features(prepared))  # type: ignore[union-attr]

    def climb(number: int) -> Picture:
        return lambda: climbed(distances, steps, seed + number)

    return pictures | {f"climbed towards a hand/{number}": climb(number) for number in range(climbs)}


HALVES: dict[str, Callable[[GreyImage], GreyImage]] = {
    "upper half of a hand": lambda image: image[: len(image) // 2],
    "lower half of a hand": lambda image: image[len(image) // 2 :],
}


# What is printed ------------------------------------------------------------------------------------------------------


def report_hands(outcomes: Outcomes, dataset: Dataset, rows: pd.DataFrame, turned: int) -> dict[str, Outcome]:
    real = outcomes.of("test", radiographs(dataset, rows))
    n = len(real)
    print(f"real hands: {dataset.name}, test split, n = {n}, fingerprint {dataset.fingerprint[:12]}")
    print(f"  flagged {share(sum(one.is_flagged for one in real.values()), n)}")
    print(f"  refused {share(sum(one.is_refused for one in real.values()), n)}")
    print(f"  turned as they came {share(sum('rotated' in one.codes for one in real.values()), n)}")
    print(f"  largest distance {max(one.distance or 0 for one in real.values()):.2f}; refused above {REFUSE_ABOVE:g}")
    inverted = radiographs(dataset, rows, lambda image: np.iinfo(image.dtype).max - image)
    seen = sum(stream_in_threads(lambda one: is_inverted(one()), list(inverted.values()), "inverting", n))
    print(f"inverted, seen and turned back: {share(seen, n)}")
    some = lowest_hashes(rows, turned)
    print("turned counter-clockwise")
    for turns in (1, 2, 3):
        found = outcomes.of(f"turned {turns * 90}", radiographs(dataset, some, partial(np.rot90, k=turns)))
        righted = {key: one for key, one in found.items() if "rotated" in one.codes}
        off = [abs(one.months - before) for key, one in righted.items() if one.months and (before := real[key].months)]
        print(
            f"  by {turns * 90}: put right {share(len(righted), len(found))}; else refused or flagged "
            f"{sum(not one.is_missed and 'rotated' not in one.codes for one in found.values())}; neither "
            f"{sum(one.is_missed and 'rotated' not in one.codes for one in found.values())}; "
            f"put right, mean |months| from the upright {np.mean(off) if off else float('nan'):.1f}"
        )
    found = outcomes.of("mirrored", radiographs(dataset, some, lambda image: image[:, ::-1]))
    flagged = sum(not one.is_missed for one in found.values())
    print(f"  mirrored (a right hand): flagged or refused {share(flagged, len(found))}")
    return real


def report_kinds(title: str, found: dict[str, Outcome]) -> None:
    kinds = pd.DataFrame(
        {
            "kind": [key.split("/")[0] for key in found],
            "n": 1,
            "refused": [one.is_refused for one in found.values()],
            "flagged": [one.is_flagged for one in found.values()],
            "missed": [one.is_missed for one in found.values()],
            "distance": [one.distance if one.distance is not None else np.nan for one in found.values()],
        }
    )
    print(f"{title}, n = {len(found)}")
    counts = {"n": "sum", "refused": "sum", "flagged": "sum", "missed": "sum", "distance": "min"}
    by_kind = kinds.groupby("kind", sort=False).agg(counts).rename(columns={"distance": "least distance"})
    print(by_kind.to_string(float_format="{:.2f}".format))
    for name in ("refused", "missed"):
        print(f"  {name} {share(int(kinds[name].sum()), len(kinds))}")


def report_ratio(real: dict[str, Outcome], none: dict[str, Outcome], training: npt.NDArray[np.float64]) -> None:
    """Against the plain measure, allowed as many flags on real hands as the model's."""
    middle, spread = training.mean(axis=0), training.std(axis=0)

    def plain(outcomes: dict[str, Outcome]) -> npt.NDArray[np.float64]:
        figures = np.array([one.grey for one in outcomes.values()])
        return np.asarray(np.abs((figures - middle) / spread).max(axis=1))

    allowed = max(sum(not one.is_missed for one in real.values()), 1)
    bound = np.sort(plain(real))[-allowed]
    theirs, ours = int((plain(none) < bound).sum()), sum(one.is_missed for one in none.values())
    print(
        f"missed by the grey levels' largest z-score at as many flags on real hands: {share(theirs, len(none))}; "
        f"ratio to the model's {theirs / max(ours, 1):.0f}{' or more' if ours == 0 else ''}"
    )


def fit_likeness(predictor: Predictor, dataset: Dataset) -> Likeness:
    rows = lowest_hashes(dataset.split("train"), LIKENESS_ROWS)

    def prepared(relative: str) -> npt.NDArray[np.uint8]:
        return preprocess(read_image(dataset.path_of(relative)), predictor.preprocessing)

    images = stream_in_threads(prepared, rows["path"].tolist(), "running over the training split", len(rows))
    return Likeness.fit(np.concatenate([predictor.network.features(image[None]) for image in images]))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", metavar="REF", help="as for `bone-age evaluate`; by default the champion")
    parser.add_argument("--data", metavar="DIR", required=True)
    parser.add_argument("--config", type=Path, default=Path("configs/rsna_cpu.yaml"), help="whose split to use")
    parser.add_argument("--fit", action="store_true", help="fit the model's likeness, and store it")
    parser.add_argument("--outcomes", metavar="FILE", type=Path, help="JSON lines, kept and read again")
    parser.add_argument("--limit", type=int, metavar="N", help="only so many test rows, always the same ones")
    parser.add_argument("--turned", type=int, default=100, metavar="N", help="test rows to turn and to halve")
    parser.add_argument("--each", type=int, default=28, metavar="N", help="pictures of each kind that is no hand")
    parser.add_argument("--climbs", type=int, default=4, metavar="N", help="pictures found by climbing")
    parser.add_argument("--steps", type=int, default=60, metavar="N", help="steps of each climb, five runs each")
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args(arguments)
    try:
        predictor = load_predictor(options.model)
        config = load_config(options.config).with_source(options.data)
        dataset = assign_splits(load_dataset(config.data), config.split)
        if options.fit:
            fit_likeness(predictor, dataset).save(predictor.bundle.folder / LIKENESS)
            write_checksums(predictor.bundle.folder)
            return 0
        run(predictor, dataset, options)
    except (BoneAgeError, ValueError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    return 0


def run(predictor: Predictor, dataset: Dataset, options: argparse.Namespace) -> None:
    facts = predictor.bundle.facts.model_copy(update={"flip_averaging": False})
    asked = Predictor(replace(predictor.bundle, facts=facts), predictor.name)
    asked.network = OnnxNetwork(predictor.bundle.onnx, threads=1)  # many pictures at a time instead
    outcomes = Outcomes(asked, options.outcomes)
    rows = lowest_hashes(dataset.split("test"), options.limit)
    print(f"{predictor.name}, digest {predictor.digest[:12]}")
    real = report_hands(outcomes, dataset, rows, options.turned)
    drawn = outcomes.of("drawn", drawn_hands(options.turned, options.seed))
    report_kinds("drawn hands", {f"drawn hand/{key}": one for key, one in drawn.items()})
    some = lowest_hashes(rows, options.turned)
    halves = {
        f"{name}/{key}": one
        for name, cut in HALVES.items()
        for key, one in outcomes.of(name, radiographs(dataset, some, cut)).items()
    }
    report_kinds("parts of real hands", halves)
    pictures = pictures_of_no_hand(asked, options.each, options.climbs, options.steps, options.seed)
    none = outcomes.of("no hand", pictures)
    report_kinds("no hands", none)
    training = lowest_hashes(dataset.split("train"), LIKENESS_ROWS)
    settings = predictor.preprocessing
    pictures_of_training = list(radiographs(dataset, training).values())
    count = len(pictures_of_training)
    grey = stream_in_threads(
        lambda one: grey_figures(preprocess(one(), settings)), pictures_of_training, "grey levels", count
    )
    report_ratio(real, none, np.array(list(grey)))


if __name__ == "__main__":
    sys.exit(main())
