from __future__ import annotations

import numpy as np
import pytest

from bone_age.serving.statistics import ImageStatistics


def test_statistics_are_those_of_the_levels() -> None:
    prepared = np.random.default_rng(1).integers(0, 256, (64, 64)).astype(np.uint8)
    found = ImageStatistics.of(prepared, 2000, 1500)
    assert (found.height_px, found.width_px) == (2000, 1500)
    assert found.mean == pytest.approx(prepared.mean())
    assert found.sd == pytest.approx(prepared.std())


def test_shares_of_black_and_white_count_what_is_nearly_so() -> None:
    prepared = np.full((10, 10), 128, np.uint8)
    prepared[0], prepared[1, :5] = 8, 247
    prepared[2], prepared[3] = 9, 246
    found = ImageStatistics.of(prepared, 10, 10)
    assert (found.black_share, found.white_share) == (0.1, 0.05)
