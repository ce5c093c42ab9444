from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bone_age.evaluation.image_changes import CHANGES, ImageChange
from bone_age.imaging import PreprocessingSettings, preprocess

BY_NAME = {change.name: change for change in CHANGES}
EACH = pytest.mark.parametrize("change", CHANGES, ids=BY_NAME)
IMAGES = arrays.arrays(np.uint8, st.tuples(st.integers(16, 40), st.integers(16, 40)))


def picture(dtype: type = np.uint8, top: int = 255, height: int = 120, width: int = 90) -> npt.NDArray[np.generic]:
    """A bright disc off the middle on a grey slope."""
    down, across = np.mgrid[0:height, 0:width] / min(height, width)
    levels = 0.15 + 0.3 * across + 0.4 * ((down - 0.5) ** 2 + (across - 0.4) ** 2 < 0.06)
    return np.rint(levels * top).astype(dtype)


@EACH
def test_a_change_changes_the_picture_and_leaves_the_original_alone(change: ImageChange) -> None:
    original = picture()
    changed = change.of(original, "a", 0)
    assert np.array_equal(original, picture())
    assert changed.shape != original.shape or not np.array_equal(changed, original)


@EACH
def test_a_change_is_the_same_for_the_same_seed_and_image(change: ImageChange) -> None:
    assert np.array_equal(change.of(picture(), "a", 4), change.of(picture(), "a", 4))


@pytest.mark.parametrize("name", ["low_exposure", "marker"])
def test_what_is_drawn_by_chance_differs_between_images_and_seeds(name: str) -> None:
    drawn = {BY_NAME[name].of(picture(), str(image), seed).tobytes() for image in range(6) for seed in range(6)}
    assert len(drawn) > 4


@EACH
@pytest.mark.parametrize("shape", [(16, 16), (16, 300), (1200, 900)])
def test_every_size_can_be_changed_and_then_preprocessed(change: ImageChange, shape: tuple[int, int]) -> None:
    changed = change.of(picture(height=shape[0], width=shape[1]), "a", 0)
    assert preprocess(changed, PreprocessingSettings(image_size_px=32)).shape == (32, 32)


@EACH
def test_twelve_bits_are_changed_as_eight_are(change: ImageChange) -> None:
    deep = picture(np.uint16, 4095)
    deep[0, 0] = 4095
    shallow = np.rint(deep / 4095 * 255).astype(np.uint8)
    changed, expected = change.of(deep, "a", 0), change.of(shallow, "a", 0)
    top = 4095 if changed.dtype == np.uint16 else 255
    difference = np.abs(changed / top - expected / 255)
    assert np.quantile(difference, 0.98) < 0.03


@given(IMAGES)
@settings(max_examples=30, deadline=None)
def test_mirror_half_turn_and_inversion_undo_themselves(image: npt.NDArray[np.uint8]) -> None:
    for name in ("mirrored", "rotated_180", "inverted"):
        twice = BY_NAME[name].of(BY_NAME[name].of(image, "a", 0), "a", 0)
        assert np.array_equal(twice, image)


@given(IMAGES)
@settings(max_examples=30, deadline=None)
def test_four_quarter_turns_are_none(image: npt.NDArray[np.uint8]) -> None:
    turned = image
    for _ in range(4):
        turned = BY_NAME["rotated_90"].of(turned, "a", 0)
    assert np.array_equal(turned, image)


@given(IMAGES)
@settings(max_examples=30, deadline=None)
def test_brightness_moves_levels_one_way_and_keeps_their_order(image: npt.NDArray[np.uint8]) -> None:
    brighter, darker = BY_NAME["brighter"].of(image, "a", 0), BY_NAME["darker"].of(image, "a", 0)
    assert (brighter >= image).all()
    assert (darker <= image).all()
    order = np.argsort(image, axis=None, kind="stable")
    assert (np.diff(brighter.ravel()[order].astype(int)) >= 0).all()


def test_fifteen_degrees_left_moves_the_top_to_the_left() -> None:
    image = np.zeros((101, 101), np.uint8)
    image[10:16, 48:53] = 255
    across = np.nonzero(BY_NAME["rotated_15_left"].of(image, "a", 0))[1].mean()
    assert across == pytest.approx(50 - 37 * np.sin(np.deg2rad(15)), abs=1)


def test_a_marker_whitens_a_corner_and_nothing_else() -> None:
    image = np.zeros((200, 150), np.uint8)
    down, across = np.nonzero(BY_NAME["marker"].of(image, "a", 0))
    assert 30 < len(down) < 400
    assert max(down.max() - down.min(), across.max() - across.min()) < 25
    assert min(abs(down.mean() - 100), abs(across.mean() - 75)) > 35


def test_names_and_descriptions_are_distinct() -> None:
    assert len(BY_NAME) == len({change.description for change in CHANGES}) == len(CHANGES)
