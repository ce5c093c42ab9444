"""The box around the hand: it may be too large, or missing, but nothing of the hand lies outside it."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bone_age.data.synthetic import render_hand
from bone_age.imaging import HandBox, PreprocessingSettings, preprocess_with_findings, read_image

FOLDER = os.environ.get("BONE_AGE_RSNA_DIR")
needs_rsna = pytest.mark.skipif(not FOLDER, reason="BONE_AGE_RSNA_DIR is not set: no real radiographs here")
CROP = PreprocessingSettings(image_size_px=128, crop_to_hand=True)
WHOLE = HandBox(0, 0, 1, 1)

Picture = npt.NDArray[np.uint8]


def box_of(image: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> HandBox | None:
    return preprocess_with_findings(image, CROP).crop


def drawn(
    height_px: int = 600,
    width_px: int = 450,
    scale: float = 0.5,
    at: float = 0.5,
    background: int = 30,
    flesh: int = 80,
) -> tuple[Picture, npt.NDArray[np.bool_]]:
    """A crude hand, fingers up and forearm leaving below, and where it is; `scale` is its share of the height."""
    where = np.zeros((height_px, width_px), np.uint8)
    unit, middle, wrist = height_px * scale, width_px * at, height_px * (1 - 0.35 * scale)
    for x, length in ((-0.30, 0.50), (-0.12, 0.62), (0.02, 0.64), (0.16, 0.58), (0.38, 0.25)):
        tip = (round(middle + x * unit), round(wrist - length * unit))
        cv2.line(where, (round(middle + 0.4 * x * unit), round(wrist - 0.1 * unit)), tip, 1, max(round(0.07 * unit), 1))
    cv2.ellipse(
        where, (round(middle), round(wrist - 0.12 * unit)), (round(0.2 * unit), round(0.2 * unit)), 0, 0, 360, 1, -1
    )
    cv2.line(where, (round(middle), round(wrist)), (round(middle), height_px), 1, round(0.2 * unit))
    noise = np.random.default_rng(0).normal(0, 2, where.shape)
    bones = cv2.erode(where, np.ones((5, 5), np.uint8), iterations=max(round(unit / 100), 1))
    picture = background + flesh * where.astype(float) + 60 * bones + noise
    return np.clip(picture, 0, 255).astype(np.uint8), where > 0


def outside(where: npt.NDArray[np.bool_], box: HandBox) -> tuple[float, float, float, float]:
    """How far the hand reaches over each side of the box, in shares of the side: left, top, right, bottom."""
    rows, columns = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
    height, width = where.shape
    return (
        box.left - columns[0] / width,
        box.top - rows[0] / height,
        (columns[-1] + 1) / width - box.right,
        (rows[-1] + 1) / height - box.bottom,
    )


def framed(picture: Picture, share: float, level: int, tilt: float = 0.0) -> tuple[Picture, tuple[float, ...]]:
    """`picture` reduced to `share` of the side, tilted, on an even ground; and its corners' extent, in shares."""
    height, width = picture.shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), tilt, share)
    ground = cv2.warpAffine(picture, turn, (width, height), borderValue=float(level))
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]]) @ turn.T / (width, height)
    return np.asarray(ground, np.uint8), (*corners.min(axis=0), *corners.max(axis=0))


@pytest.mark.parametrize("at", [0.4, 0.5, 0.6])
def test_box_holds_a_small_hand_and_its_forearm_and_leaves_most_of_the_rest(at: float) -> None:
    picture, where = drawn(scale=0.5, at=at)
    box = box_of(picture)
    assert box is not None
    assert max(outside(where, box)) <= 0
    assert box.bottom == 1
    assert box.right - box.left < 0.75


@settings(deadline=None, max_examples=30)
@given(
    scale=st.floats(0.4, 1.0),
    at=st.floats(0.3, 0.7),
    background=st.integers(5, 120),
    flesh=st.integers(6, 80),
    inverted=st.booleans(),
)
def test_nothing_of_a_hand_is_cut_whatever_its_size_place_and_exposure(
    scale: float, at: float, background: int, flesh: int, inverted: bool
) -> None:
    picture, where = drawn(scale=scale, at=at, background=background, flesh=flesh)
    box = box_of(255 - picture if inverted else picture)
    assert max(outside(where, box or WHOLE)) <= 0


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 500), months=st.integers(6, 216), share=st.floats(0.5, 0.9), tilt=st.floats(-20, 20))
def test_frame_around_a_radiograph_is_cut_off_and_the_radiograph_is_not(
    seed: int, months: int, share: float, tilt: float
) -> None:
    picture, (left, top, right, bottom) = framed(render_hand(months, "F", seed, 320, 260), share, 0, tilt)
    box = box_of(picture) or WHOLE
    hand_reaches_in = 0.12 * share  # the hand fills most of its picture, and tilted corners are empty
    assert box.left < left + (right - left) / 2 < box.right
    assert box.top < top + hand_reaches_in + (bottom - top) / 2 < box.bottom
    assert box.bottom >= min(bottom, 1) - 0.05


@pytest.mark.parametrize(("level", "tilt"), [(0, 0), (128, 0), (255, 0), (0, 12), (128, 12)])
def test_frame_does_not_hide_the_hand(level: int, tilt: float) -> None:
    inner, where = drawn(450, 450, scale=0.8, background=60)
    picture, _ = framed(inner, 0.6, level, tilt)
    placed, _ = framed(where.astype(np.uint8), 0.6, 0, tilt)
    box = box_of(picture)
    assert box is not None
    assert max(outside(placed > 0, box)) <= 0.01  # of the forearm, the last pixels along the rim
    assert box.right - box.left < 0.8


def test_markers_and_lines_at_the_border_do_not_widen_the_box() -> None:
    picture, _ = drawn(scale=0.5)
    plain = box_of(picture)
    cv2.putText(picture, "L", (20, 70), cv2.FONT_HERSHEY_SIMPLEX, 1.5, 250, 8)
    picture[:, -6:] = 250
    assert box_of(picture) == plain


@pytest.mark.parametrize("shape", [(16, 16), (16, 3000), (3000, 16), (299, 299)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pictures_without_a_hand_are_left_whole(shape: tuple[int, int], dtype: type) -> None:
    noise = np.random.default_rng(1).integers(0, 200, shape).astype(dtype)
    fade = np.broadcast_to(np.linspace(0, 250, shape[1]), shape).astype(dtype)
    for picture in (np.full(shape, 7, dtype), noise, np.ascontiguousarray(fade)):
        assert box_of(picture) is None


@pytest.mark.parametrize("tilt", [0, 10, 45])
@pytest.mark.parametrize("width", [30, 45, 60, 90])
def test_strip_too_narrow_for_a_hand_is_no_exposed_field(tilt: float, width: int) -> None:
    strip = np.zeros((400, 400), np.uint8)
    corners = cv2.boxPoints(((200, 200), (width, 620), tilt))
    cv2.fillConvexPoly(strip, np.rint(corners).astype(np.int32), 200)
    assert box_of(strip) is None


def test_hand_that_fills_the_picture_or_hardly_shows_is_left_whole() -> None:
    assert box_of(drawn(scale=1.1)[0]) is None
    assert box_of(drawn(scale=0.2)[0]) is None
    faint = 40 + drawn(scale=0.5)[1] + np.random.default_rng(0).normal(0, 4, (600, 450))
    assert box_of(faint.astype(np.uint8)) is None


def test_box_is_a_zoom_and_the_same_for_a_stretched_copy_and_for_16_bits() -> None:
    picture, _ = drawn(1200, 900, scale=0.55, at=0.45)
    box, copy = box_of(picture), box_of(np.asarray(cv2.resize(picture, (299, 299), interpolation=cv2.INTER_AREA)))
    assert box is not None
    assert copy is not None
    assert box.right - box.left == pytest.approx(box.bottom - box.top)
    assert np.allclose([box.left, box.top, box.right], [copy.left, copy.top, copy.right], atol=0.02)
    deep = box_of(picture.astype(np.uint16) * 16)
    assert deep is not None
    assert np.allclose([box.left, box.top, box.right], [deep.left, deep.top, deep.right], atol=0.01)


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("lying", [0, 1, 3])
def test_box_is_found_with_turn_and_inversion_undone(inverted: bool, lying: int) -> None:
    picture, _ = drawn(scale=0.55)
    upright = preprocess_with_findings(picture, CROP)
    changed = np.ascontiguousarray(np.rot90(255 - picture if inverted else picture, lying))
    found = preprocess_with_findings(changed, CROP)
    assert found.crop is not None
    assert upright.crop is not None
    assert np.allclose(
        [found.crop.left, found.crop.top, found.crop.right, found.crop.bottom],
        [upright.crop.left, upright.crop.top, upright.crop.right, upright.crop.bottom],
        atol=0.02,
    )
    assert np.abs(found.image.astype(int) - upright.image).mean() < 8


def test_inversion_that_is_kept_does_not_hide_the_hand() -> None:
    picture, _ = drawn(scale=0.55)
    kept = preprocess_with_findings(255 - picture, CROP.model_copy(update={"undo_inversion": False}))
    assert kept.crop == box_of(255 - picture)
    assert not kept.was_inverted


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
def test_cropping_is_cutting_out_of_the_full_size_picture(fit: str) -> None:
    picture, _ = drawn(1200, 900, scale=0.5)
    chosen = CROP.model_copy(update={"fit": fit})
    cropped = preprocess_with_findings(picture, chosen)
    assert cropped.crop is not None
    rows = slice(round(cropped.crop.top * 1200), round(cropped.crop.bottom * 1200))
    columns = slice(round(cropped.crop.left * 900), round(cropped.crop.right * 900))
    cut_out = np.ascontiguousarray(picture[rows, columns])
    whole = preprocess_with_findings(cut_out, chosen.model_copy(update={"crop_to_hand": False}))
    assert whole.crop is None
    assert np.array_equal(cropped.image, whole.image)


def test_threads_give_what_one_thread_gives() -> None:
    pictures = [drawn(scale=0.4 + seed / 50)[0] for seed in range(12)]
    alone = [preprocess_with_findings(picture, CROP) for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda picture: preprocess_with_findings(picture, CROP), pictures))
    for one, other in zip(alone, together, strict=True):
        assert one.crop == other.crop
        assert np.array_equal(one.image, other.image)


@needs_rsna
def test_real_original_and_its_stretched_copy_get_the_same_box() -> None:
    differences, cropped = [], 0
    for path in sorted((Path(FOLDER or "") / "full-size").glob("*.png")):
        copy = path.parents[1] / "boneage-training-dataset" / f"{path.stem}.jpg"
        one, other = box_of(read_image(path)), box_of(read_image(copy))
        assert (one is None) == (other is None)
        cropped += one is not None
        one, other = one or WHOLE, other or WHOLE
        differences += [abs(one.left - other.left), abs(one.top - other.top)]
        differences += [abs(one.right - other.right), abs(one.bottom - other.bottom)]
    assert cropped >= 5
    assert max(differences) < 0.04
    assert np.mean(differences) < 0.005


@needs_rsna
def test_about_a_third_of_real_radiographs_is_cropped() -> None:
    paths = sorted((Path(FOLDER or "") / "boneage-training-dataset").glob("*.jpg"))
    boxes = [box_of(read_image(path)) for path in paths[:: len(paths) // 100][:100]]
    assert 0.2 < sum(box is not None for box in boxes) / 100 < 0.45
