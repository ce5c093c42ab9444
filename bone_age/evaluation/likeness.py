"""How like the training radiographs a picture is, by the pooled features of the run that answers it.

Features are brought to length 1, so that what they point to counts and not how strong they are. Their distance from
the training's mean has two parts of equal weight: a Mahalanobis distance along the 64 directions in which the training
radiographs vary most, and what lies outside of these, where a hand has little. The unit is the distance that 99 % of
the training radiographs stay within, each measured by a fit to the other folds: 1 is the edge of what training saw.

Above `FLAG_ABOVE` an answer carries a warning; above `REFUSE_ABOVE` there is none. The second bound was chosen on the
RSNA validation split, whose farthest radiograph is at 1.78, and on drawn hands (the project's examples and teaching
material), of which 1.5 % lie beyond. A hand that lies on its side or on its head is farther away than the same hand
upright (300 of 300 turned validation radiographs) and above `LOOK_TURNED_ABOVE` (299 of them; 5 % of the upright ones
are). What all this comes to on other pictures: benchmarks/refusal.py.

Source: Lee et al., A Simple Unified Framework for Detecting Out-of-Distribution Samples, NeurIPS 2018 (Mahalanobis
distance of a network's features); the part outside of the principal directions as in Ammar et al., NECO, ICLR 2024.
Serving needs this module: numpy only, scipy where it fits.
"""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from bone_age.errors import InputError, ModelError
from bone_age.imaging import ImageError

Floats = npt.NDArray[np.float32]

FLAG_ABOVE = 1.0
LOOK_TURNED_ABOVE = 0.65
REFUSE_ABOVE = 2.2
QUANTILE = 0.99
MAX_DIRECTIONS = 64
ROWS_A_DIRECTION = 8  # with fewer a direction's variance is a guess
MIN_ROWS = 20
FOLDS = 5
_LEAST, _LEAST_UNIT = 1e-12, 0.1  # of a variance and of the unit: features that never vary must not divide by 0


class UnlikeTrainingError(ImageError):
    """A picture so unlike the training radiographs that no answer is given; `distance` says how far it is."""

    def __init__(self, message: str, distance: float) -> None:
        super().__init__(message)
        self.distance = distance


@dataclass(frozen=True, eq=False)
class Likeness:
    """What the distance of a picture is measured by; C features, K directions, all float32.

    Attributes:
        mean: [C], of features of length 1.
        directions: [K, C], orthonormal.
        variances: [K], of the training features along them.
        rest: [1], mean square of what lies outside the directions, in radiographs held out.
        unit: [1], the distance that `QUANTILE` of the training radiographs stay within.
    """

    mean: Floats
    directions: Floats
    variances: Floats
    rest: Floats
    unit: Floats

    @classmethod
    def fit(cls, features: npt.NDArray[np.floating[Any]]) -> Self:
        """Fit to the pooled features [N, C] of training radiographs, in no order that means something.

        Raises:
            InputError: Fewer than `MIN_ROWS` rows, or a feature that is not finite.
        """
        if len(features) < MIN_ROWS:
            raise InputError(f"likeness: {len(features)} training radiographs, needs {MIN_ROWS}")
        if not np.isfinite(features).all():
            raise InputError("likeness: a pooled feature of a training radiograph is not finite")
        unit_length = _of_length_one(features)
        fold = np.arange(len(features)) % FOLDS
        along, outside = np.empty(len(features)), np.empty(len(features))
        for held_out in range(FOLDS):
            axes = _principal(unit_length[fold != held_out])
            rows = fold == held_out
            along[rows], outside[rows] = _parts(unit_length[rows], *axes)
        rest = max(float(outside.mean()), _LEAST)
        distances = np.sort(np.sqrt((along + outside / rest) / 2))
        unit = distances[min(math.ceil(QUANTILE * (len(distances) + 1)), len(distances)) - 1]
        axes = (*_principal(unit_length), np.array([rest]), np.array([max(unit, _LEAST_UNIT)]))
        return cls(*(np.asarray(array, np.float32) for array in axes))

    def distances(self, features: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        """Distances [N] of pooled features [N, C]; 1 is the edge of the training's. Infinite where not finite."""
        with np.errstate(invalid="ignore"):
            along, outside = _parts(_of_length_one(features), self.mean, self.directions, self.variances)
        distances = np.sqrt((along + outside / self.rest[0]) / 2) / self.unit[0]
        return np.asarray(np.where(np.isfinite(distances), distances, np.inf), np.float64)

    def save(self, path: Path) -> None:
        """Write as `.npz`, the same bytes for the same fit."""
        np.savez(path, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ModelError: The file cannot be read, or holds arrays of other shapes or values that are not finite.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                found = cls(**{field.name: archive[field.name] for field in fields(cls)})
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ModelError(f"{path}: cannot be read: {' '.join(str(error).split())[:200]}") from None
        found._require_usable(path)
        return found

    def _require_usable(self, path: Path) -> None:
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, array in arrays.items():
            if array.dtype != np.float32 or not np.isfinite(array).all():
                raise ModelError(f"{path}: {name} is not of finite float32 numbers")
        count, width = (len(self.variances), len(self.mean)) if self.variances.ndim == self.mean.ndim == 1 else (-1, -1)
        expected = {"mean": (width,), "directions": (count, width), "variances": (count,), "rest": (1,), "unit": (1,)}
        if {name: array.shape for name, array in arrays.items()} != expected:
            raise ModelError(f"{path}: shapes do not fit each other")
        if min(self.variances.min(initial=np.inf), self.rest[0], self.unit[0]) <= 0:
            raise ModelError(f"{path}: a variance or the unit is not above 0")


def _of_length_one(features: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    features = np.asarray(features, np.float64)
    return np.asarray(features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), _LEAST))


def _principal(rows: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], ...]:
    """Mean [C], directions [K, C] and variances [K] of rows [N, C]."""
    from scipy.linalg import eigh

    mean = rows.mean(axis=0)
    centred = rows - mean
    count = min(MAX_DIRECTIONS, max(len(rows) // ROWS_A_DIRECTION, 1), rows.shape[1])
    if len(rows) < rows.shape[1]:  # the same directions from the smaller of two matrices, where all of them vary
        variances, weights = eigh(centred @ centred.T / (len(rows) - 1), subset_by_index=_last(count, len(rows)))
        if variances.min() > _LEAST:
            return mean, (centred.T @ weights / np.sqrt(variances * (len(rows) - 1))).T, variances
    variances, vectors = eigh(centred.T @ centred / (len(rows) - 1), subset_by_index=_last(count, rows.shape[1]))
    return mean, vectors.T, np.maximum(variances, _LEAST)


def _last(count: int, size: int) -> list[int]:
    return [size - count, size - 1]


def _parts(
    unit_length: npt.NDArray[np.float64],
    mean: npt.NDArray[np.floating[Any]],
    directions: npt.NDArray[np.floating[Any]],
    variances: npt.NDArray[np.floating[Any]],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean squared coordinate along the directions, in variances, and the square of what lies outside; both [N]."""
    centred = unit_length - mean
    coordinates = centred @ directions.T
    outside = (centred**2).sum(axis=1) - (coordinates**2).sum(axis=1)
    return (coordinates**2 / variances).mean(axis=1), np.maximum(outside, 0)
