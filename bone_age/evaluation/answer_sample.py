"""Figures of many answers side by side: what drift is measured on, of a model's held-out radiographs and in service.

A version carries the sample of its held-out radiographs (validation and test; training's own would look more at ease
than any new one), so that monitoring needs neither the data set nor TensorFlow. Up to 2,000 radiographs of 24 figures
are 0.2 MB, and no picture can be made of them again. Serving needs this module: numpy only.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from bone_age.errors import ModelError
from bone_age.evaluation.likeness import FLAG_ABOVE, REFUSE_ABOVE
from bone_age.serving.feature_summary import PROJECTIONS, FeatureSummary
from bone_age.serving.statistics import ImageStatistics

Floats = npt.NDArray[np.float32]

GREY_LEVELS = ("grey_mean", "grey_sd", "black_share", "white_share")
FEATURES = ("feature_norm", *(f"feature_{number:02}" for number in range(1, PROJECTIONS + 1)))
LIKENESS, BOY, MONTHS, WIDTH = "likeness_distance", "boy", "bone_age_months", "interval_width_months"
FIGURES = (*GREY_LEVELS, *FEATURES, LIKENESS, BOY, MONTHS, WIDTH)
FLAGGED, REFUSED_UNLIKE = "unlike_training", "refused_unlike_training"
_COUNTS = "counts"


@dataclass(frozen=True, eq=False)
class AnswerSample:
    """Figures of N answers, and what else became of the questions.

    Attributes:
        figures: Float32 [N] by name, one for each of `FIGURES`; `boy` is 1 or 0. `likeness_distance` is absent where
            the model knows no likeness.
        asked: How many questions there were, refused ones too.
        findings: How many of them had a finding, by its code (`unlike_training`, `refused_unlike_training`, ...); a
            code that is absent was not looked for.
    """

    figures: Mapping[str, Floats]
    asked: int
    findings: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.figures[MONTHS])

    def save(self, path: Path) -> None:
        """Write as `.npz`, the same bytes for the same sample."""
        names = sorted(self.findings)
        counts = np.array([self.asked, *(self.findings[name] for name in names)], np.int64)
        arrays = {name: self.figures[name] for name in FIGURES if name in self.figures}
        np.savez(path, **arrays | {_COUNTS: counts, "findings": np.array(names, "U40")})  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ModelError: The file cannot be read, or a figure is absent, of another length, or not finite.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                figures = {name: np.asarray(archive[name], np.float32) for name in FIGURES if name in archive}
                asked, *counts = (int(count) for count in archive[_COUNTS])
                findings = dict(zip(map(str, archive["findings"]), counts, strict=True))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ModelError(f"{path}: cannot be read: {' '.join(str(error).split())[:200]}") from None
        if missing := sorted(set(FIGURES) - {LIKENESS} - set(figures)):
            raise ModelError(f"{path}: has no {missing[0]}")
        n = figures[MONTHS].size
        for name, values in figures.items():
            if values.shape != (n,) or not np.isfinite(values).all():
                raise ModelError(f"{path}: {name} is not {n} finite numbers")
        if asked < n or not all(0 <= count <= asked for count in findings.values()):
            raise ModelError(f"{path}: its counts do not fit each other")
        return cls(figures, asked, findings)


def figures_of_one(
    statistics: ImageStatistics,
    features: FeatureSummary,
    likeness_distance: float | None,
    sex: str,
    months: tuple[float, float, float],
) -> list[float]:
    """One answer's figures in the order of `FIGURES`; NaN where the model knows no likeness.

    Args:
        months: Bone age, lower and upper bound.
    """
    bone_age, lower, upper = months
    grey = (statistics.mean, statistics.sd, statistics.black_share, statistics.white_share)
    distance = float("nan") if likeness_distance is None else likeness_distance
    return [*grey, features.norm, *features.projections, distance, float(sex == "M"), bone_age, upper - lower]


def sample_of_rows(rows: list[list[float]], asked: int, findings: Mapping[str, int]) -> AnswerSample:
    """A sample of answers, each as `figures_of_one` gives it; a likeness that some of them lack is left out."""
    table = np.array(rows, np.float32).reshape(len(rows), len(FIGURES))
    figures = {name: table[:, column] for column, name in enumerate(FIGURES)}
    if np.isnan(figures[LIKENESS]).any():
        del figures[LIKENESS]
    return AnswerSample(figures, asked, findings)


def sample_of_held_out(
    prepared: npt.NDArray[np.uint8],
    pooled_features: npt.NDArray[np.float32],
    distances: npt.NDArray[np.float64] | None,
    sexes: list[str],
    months: npt.NDArray[np.floating[Any]],
) -> AnswerSample:
    """The sample that a version carries; what serving would refuse as unlike training is counted and left out.

    Args:
        prepared: What the model saw, uint8 [N, S, S].
        pooled_features: Of the same images, [N, C].
        distances: From the training radiographs, [N]; None where the model knows no likeness.
        months: Bone age, lower and upper bound, [N, 3].
    """
    rows, findings = [], {} if distances is None else {FLAGGED: 0, REFUSED_UNLIKE: 0}
    for place, image in enumerate(prepared):
        distance = None if distances is None else float(distances[place])
        if distance is not None and distance > FLAG_ABOVE:
            findings[REFUSED_UNLIKE if distance > REFUSE_ABOVE else FLAGGED] += 1
        if distance is not None and distance > REFUSE_ABOVE:
            continue
        statistics, summary = ImageStatistics.of(image, *image.shape), FeatureSummary.of(pooled_features[place])
        bone_age, lower, upper = (float(value) for value in months[place])
        rows.append(figures_of_one(statistics, summary, distance, sexes[place], (bone_age, lower, upper)))
    return sample_of_rows(rows, len(prepared), findings)
