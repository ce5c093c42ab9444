"""Seventeen figures that stand for an image's pooled features where these would be too many to keep.

The features are projected to fixed directions, which keeps differences between sets of images visible (Johnson and
Lindenstrauss 1984): a shift of the features shifts the projections. The directions are signs taken from SHAKE-256, so
that any release, on any machine, gets the same ones, and monitoring can summarise a training set's features anew.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

PROJECTIONS = 16
_SEED = b"bone-age feature projections 1"


@dataclass(frozen=True)
class FeatureSummary:
    """Euclidean norm of the features, and their `PROJECTIONS` products with the directions."""

    norm: float
    projections: tuple[float, ...]

    @classmethod
    def of(cls, pooled_features: npt.NDArray[np.float32]) -> FeatureSummary:
        """Summarise one image's features, float32 [C]; values have seven digits."""
        norm = float(np.linalg.norm(pooled_features))
        projected = pooled_features @ directions(len(pooled_features))
        return cls(float(f"{norm:.7g}"), tuple(float(f"{value:.7g}") for value in projected))


@lru_cache(maxsize=8)
def directions(channels: int) -> npt.NDArray[np.float32]:
    """Orthogonal on average and of length one: float32 [C, PROJECTIONS], each value plus or minus 1/sqrt(C).

    Bit k of `SHAKE-256(seed)`, most significant first, is the sign of row k // 16, column k % 16; 1 is plus.
    """
    bits = np.unpackbits(np.frombuffer(hashlib.shake_256(_SEED).digest(channels * PROJECTIONS // 8), np.uint8))
    signs = bits.reshape(channels, PROJECTIONS).astype(np.float32) * 2 - 1
    return np.asarray(signs / np.sqrt(np.float32(channels)), np.float32)
