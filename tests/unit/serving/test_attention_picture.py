"""The picture of where the months came from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bone_age.errors import InputError
from bone_age.serving.attention_picture import overlay

GREY = np.full((40, 40), 120, np.uint8)
ONE_PLACE_EACH = np.array([[30.0, 0.0], [0.0, -15.0]], np.float32)


def test_without_opacity_it_is_what_the_model_saw() -> None:
    seen = np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)
    assert (overlay(seen, ONE_PLACE_EACH, 0) == seen[..., None]).all()


def test_what_adds_months_is_orange_what_takes_them_blue_and_the_rest_grey() -> None:
    drawn = overlay(GREY, ONE_PLACE_EACH, 0.8).astype(int)
    older, younger, nothing = drawn[2, 2], drawn[-3, -3], drawn[2, -3]
    assert older[0] > 180 > older[1] > older[2]
    assert younger[2] > 120 > younger[0]
    assert nothing == pytest.approx([120, 120, 120], abs=1)
    assert abs(older - 120).sum() > abs(younger - 120).sum()  # half the months, half the colour


@given(st.integers(2, 90), st.integers(1, 12), st.integers(1, 12), st.floats(0, 1), st.integers(0, 2**31))
def test_any_map_gives_a_picture_of_the_images_size(side: int, high: int, wide: int, opacity: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    attention = rng.choice(np.float32([np.nan, np.inf, -np.inf, 0, 1e38, -3, 5e-324]), (high, wide))
    drawn = overlay(rng.integers(0, 256, (side, side), dtype=np.uint8), attention, opacity)
    assert (drawn.shape, drawn.dtype) == ((side, side, 3), np.uint8)


@pytest.mark.parametrize("opacity", [-0.1, 1.1, float("nan")])
def test_an_opacity_that_is_none_is_refused(opacity: float) -> None:
    with pytest.raises(InputError, match="expected 0 to 1"):
        overlay(GREY, ONE_PLACE_EACH, opacity)
