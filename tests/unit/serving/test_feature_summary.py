from __future__ import annotations

import hashlib

import numpy as np
import pytest

from bone_age.serving.feature_summary import PROJECTIONS, FeatureSummary, directions


def test_directions_are_the_documented_bits() -> None:
    """Written out once more, bit by bit, so that no release changes them unseen."""
    stream = hashlib.shake_256(b"bone-age feature projections 1").digest(4096)
    for row, column in ((0, 0), (0, 15), (1, 0), (77, 3), (2047, 15)):
        bit = row * 16 + column
        sign = 1 if stream[bit // 8] >> (7 - bit % 8) & 1 else -1
        assert directions(2048)[row, column] == pytest.approx(sign / np.sqrt(2048))


def test_directions_are_nearly_orthogonal() -> None:
    products = directions(2048).T @ directions(2048)
    assert np.allclose(np.diag(products), 1, atol=1e-5)
    assert np.abs(products - np.eye(PROJECTIONS)).max() < 0.1


def test_a_shift_of_the_features_shifts_the_projections() -> None:
    """Two hundred images before and after a shift by one SD in a tenth of the channels: seen in a projection."""
    drawn = np.random.default_rng(2)
    features = drawn.gamma(2, 1, (400, 2048)).astype(np.float32)
    features[200:, :205] += 1.4
    projected = np.array([FeatureSummary.of(row).projections for row in features])
    before, after = projected[:200], projected[200:]
    shift = np.abs(after.mean(0) - before.mean(0)) / np.sqrt((before.var(0) + after.var(0)) / 200)
    halves = np.abs(before[:100].mean(0) - before[100:].mean(0)) / np.sqrt(2 * before.var(0) / 100)
    assert shift.max() > 4 > halves.max()


def test_norm_is_the_features_length() -> None:
    assert FeatureSummary.of(np.array([3, 4], np.float32)).norm == 5
