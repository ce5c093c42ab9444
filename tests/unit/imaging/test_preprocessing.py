"""The one preprocessing: whatever the picture's size, depth, polarity or position, the model sees the same hand."""

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
from hypothesis.extra import numpy as arrays
from pydantic import ValidationError

from bone_age.imaging import (
    ClaheSettings,
    ImageError,
    PreprocessingSettings,
    is_inverted,
    preprocess,
    preprocess_with_findings,
    preprocessing,
    read_image,
)

PLAIN = PreprocessingSettings(image_size_px=64, orient=False, undo_inversion=False, clahe=None)
FOLDER = os.environ.get("BONE_AGE_RSNA_DIR")
needs_rsna = pytest.mark.skipif(not FOLDER, reason="BONE_AGE_RSNA_DIR is not set: no real radiographs here")

pictures = arrays.arrays(
    st.sampled_from([np.uint8, np.uint16]),
    st.tuples(st.integers(16, 60), st.integers(16, 60)),
    elements=st.integers(0, 255),
)
any_settings = st.builds(
    PreprocessingSettings,
    image_size_px=st.integers(32, 70),
    fit=st.sampled_from(["stretch", "letterbox"]),
    orient=st.booleans(),
    undo_inversion=st.booleans(),
    crop_to_hand=st.booleans(),
    clahe=st.none() | st.builds(ClaheSettings, clip_limit=st.floats(0.1, 40), tiles=st.integers(1, 32)),
)


def hand(height_px: int = 400, width_px: int = 300, seed: int = 0) -> npt.NDArray[np.uint8]:
    """A crude hand, fingers up, in the middle of a dark picture; bones brighter than flesh, forearm brightest."""
    unit, middle = height_px / 400, width_px // 2
    picture = np.random.default_rng(seed).normal(20, 2, (height_px, width_px))

    def bone(x0: float, y0: float, x1: float, y1: float, flesh: float, core: float, level: float) -> None:
        ends = [(middle + round(x * unit), round(y * unit)) for x, y in ((x0, y0), (x1, y1))]
        for thickness, brightness in ((flesh, 70), (core, level)):
            layer = np.zeros((height_px, width_px), np.uint8)
            cv2.line(layer, *ends, 1, round(thickness * unit))
            picture[layer > 0] = np.maximum(picture[layer > 0], brightness)

    for x, top in ((-80, 120), (-45, 60), (-10, 40), (25, 60)):
        bone(x * 0.5, 250, x, top, 26, 10, 150)
    bone(20, 240, 95, 160, 28, 12, 150)
    bone(-15, 260, -18, 400, 50, 16, 210)
    bone(15, 260, 14, 400, 50, 22, 230)
    return np.clip(picture, 0, 255).astype(np.uint8)


@settings(deadline=None)
@given(image=pictures, chosen=any_settings)
def test_any_picture_becomes_a_square_of_bytes_each_time_the_same(
    image: npt.NDArray[np.uint8], chosen: PreprocessingSettings
) -> None:
    before = image.copy()
    first, second = preprocess(image, chosen), preprocess(image, chosen)
    assert first.shape == (chosen.image_size_px, chosen.image_size_px)
    assert first.dtype == np.uint8
    assert first.flags.c_contiguous
    assert np.array_equal(first, second)
    assert np.array_equal(image, before)


@pytest.mark.parametrize("shape", [(16, 16), (16, 3000), (3000, 16), (17, 299), (299, 299)])
@pytest.mark.parametrize("level", [0, 7, 255])
@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
def test_constant_and_extreme_pictures_are_processed(shape: tuple[int, int], level: int, fit: str) -> None:
    chosen = PreprocessingSettings(image_size_px=96, fit=fit)
    for dtype in (np.uint8, np.uint16):
        result = preprocess_with_findings(np.full(shape, level, dtype), chosen)
        assert result.image.shape == (96, 96)
        assert not result.was_inverted


@pytest.mark.parametrize("shape", [(1, 1), (15, 400), (400, 15)])
def test_too_small_a_picture_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match=f"{shape[1]}x{shape[0]} pixels is too small: at least 16 a side"):
        preprocess(np.zeros(shape, np.uint8), PLAIN)


@pytest.mark.parametrize("image", [np.zeros((20, 20, 3), np.uint8), np.zeros((20, 20)), np.zeros((20, 20), np.int16)])
def test_what_is_no_grey_picture_of_8_or_16_bits_is_refused(image: npt.NDArray[np.uint8]) -> None:
    with pytest.raises(ImageError, match="expected a grey image"):
        preprocess(image, PLAIN)


def test_8_bit_picture_of_the_right_size_is_left_as_it_is() -> None:
    image = hand(64, 64)
    assert np.array_equal(preprocess(image, PLAIN), image)


@pytest.mark.parametrize("shape", [(200, 100), (100, 200), (300, 70)])
def test_letterbox_keeps_the_aspect_ratio_and_pads_with_black(shape: tuple[int, int]) -> None:
    result = preprocess(np.full(shape, 200, np.uint8), PLAIN)
    rows, columns = np.flatnonzero(result.any(1)), np.flatnonzero(result.any(0))
    assert max(len(rows), len(columns)) == 64
    assert len(rows) / len(columns) == pytest.approx(shape[0] / shape[1], rel=0.05)
    assert abs(rows[0] - (63 - rows[-1])) <= 1
    assert abs(columns[0] - (63 - columns[-1])) <= 1
    assert set(np.unique(result)) == {0, 200}


def test_stretch_fills_the_square() -> None:
    stretched = preprocess(np.full((200, 100), 200, np.uint8), PLAIN.model_copy(update={"fit": "stretch"}))
    assert np.unique(stretched).tolist() == [200]


def test_clahe_raises_the_contrast_of_a_faint_exposure_and_can_be_off() -> None:
    faint = (hand(256, 256) // 4).astype(np.uint8)
    with_clahe = preprocess(faint, PLAIN.model_copy(update={"clahe": ClaheSettings()}))
    assert with_clahe.std() > 1.2 * preprocess(faint, PLAIN).std()


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 99), fit=st.sampled_from(["stretch", "letterbox"]))
def test_16_bit_copy_gives_nearly_the_same_as_8_bits(seed: int, fit: str) -> None:
    image = hand(seed=seed)
    image = np.rint((image - image.min()) / float(np.ptp(image)) * 255).astype(np.uint8)  # both use their whole range
    chosen = PreprocessingSettings(image_size_px=128, fit=fit)
    deep = preprocess(image.astype(np.uint16) * 257, chosen)
    assert np.abs(deep.astype(int) - preprocess(image, chosen)).mean() < 12


@pytest.mark.parametrize("factor", [1, 3, 16])
def test_unit_of_16_bit_levels_does_not_matter(factor: int) -> None:
    deep = hand().astype(np.uint16) * 16
    assert np.abs(preprocess(deep * factor, PLAIN).astype(int) - preprocess(deep, PLAIN)).max() <= 1


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 99), turns=st.integers(0, 3), fit=st.sampled_from(["stretch", "letterbox"]))
def test_inversion_is_undone(seed: int, turns: int, fit: str) -> None:
    image = np.ascontiguousarray(np.rot90(hand(seed=seed), turns))
    chosen = PreprocessingSettings(image_size_px=128, fit=fit)
    plain, undone = preprocess_with_findings(image, chosen), preprocess_with_findings(255 - image, chosen)
    assert (plain.was_inverted, undone.was_inverted) == (False, True)
    assert plain.quarter_turns == undone.quarter_turns
    assert np.abs(plain.image.astype(int) - undone.image).mean() < 2


def test_inversion_is_seen_within_a_dark_or_bright_shutter() -> None:
    for shutter in (0, 255):
        for image, inverted in ((hand(), False), (255 - hand(), True)):
            framed = np.pad(image[30:-30, 25:-25], ((30, 30), (25, 25)), constant_values=shutter)
            assert is_inverted(framed) is inverted


def test_inversion_stays_where_the_settings_say_so() -> None:
    kept = preprocess_with_findings(255 - hand(), PLAIN)
    assert not kept.was_inverted
    assert kept.image.mean() > 128


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize(("lying", "undone"), [(1, 3), (3, 1)])
def test_hand_on_its_side_is_turned_upright(lying: int, undone: int, inverted: bool) -> None:
    image = 255 - hand() if inverted else hand()
    upright = preprocess_with_findings(image, PreprocessingSettings())
    turned = preprocess_with_findings(np.ascontiguousarray(np.rot90(image, lying)), PreprocessingSettings())
    assert (upright.quarter_turns, turned.quarter_turns) == (0, undone)
    assert np.abs(upright.image.astype(int) - turned.image).mean() < 1


def test_upright_hand_in_a_wide_picture_is_not_turned() -> None:
    assert preprocess_with_findings(hand(400, 560), PreprocessingSettings()).quarter_turns == 0


def test_square_and_upright_pictures_are_never_turned() -> None:
    lying = np.ascontiguousarray(np.rot90(hand()))
    for shape in ((300, 300), (330, 300), (300, 340)):
        assert preprocess_with_findings(cv2.resize(lying, shape[::-1]), PreprocessingSettings()).quarter_turns == 0


def test_turning_can_be_off() -> None:
    lying = np.ascontiguousarray(np.rot90(hand()))
    assert preprocess_with_findings(lying, PreprocessingSettings(orient=False)).quarter_turns == 0


def test_threads_give_what_one_thread_gives() -> None:
    images = [hand(seed=seed) for seed in range(16)]
    alone = [preprocess(image, PreprocessingSettings()) for image in images]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda image: preprocess(image, PreprocessingSettings()), images))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


def test_digest_changes_with_every_setting_and_with_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    variants: list[dict[str, object]] = [
        {},
        {"image_size_px": 256},
        {"fit": "stretch"},
        {"orient": False},
        {"undo_inversion": False},
        {"crop_to_hand": True},
        {"clahe": None},
        {"clahe": {"clip_limit": 3.0}},
        {"clahe": {"tiles": 4}},
    ]
    digests = {PreprocessingSettings.model_validate(variant).digest for variant in variants}
    assert len(digests) == len(variants)
    monkeypatch.setattr(preprocessing, "PREPROCESSING_VERSION", preprocessing.PREPROCESSING_VERSION + 1)
    assert PreprocessingSettings().digest not in digests


def test_digest_survives_json() -> None:
    chosen = PreprocessingSettings(image_size_px=256, clahe=ClaheSettings(clip_limit=3))
    assert PreprocessingSettings.model_validate_json(chosen.model_dump_json()).digest == chosen.digest


@pytest.mark.parametrize("wrong", [{"image_size": 299}, {"fit": "crop"}, {"image_size_px": 8}, {"clahe": {"tiles": 0}}])
def test_unknown_and_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PreprocessingSettings.model_validate(wrong)


def real_radiographs(folder: str, pattern: str, n: int) -> list[Path]:
    paths = sorted(Path(folder).glob(pattern))
    return paths[:: max(len(paths) // n, 1)][:n]


@needs_rsna
def test_inversion_of_real_radiographs_is_seen() -> None:
    images = [read_image(path) for path in real_radiographs(FOLDER or "", "boneage-training-dataset/*.jpg", 200)]
    assert len(images) == 200
    assert sum(is_inverted(image) for image in images) <= 1
    assert sum(not is_inverted(255 - image) for image in images) <= 1


@needs_rsna
def test_real_full_size_radiographs_on_their_side_are_turned_upright() -> None:
    chosen = PreprocessingSettings(image_size_px=64)
    for path in real_radiographs(FOLDER or "", "full-size/*.png", 8):
        image = read_image(path)
        assert preprocess_with_findings(image, chosen).quarter_turns == 0
        if image.shape[0] > 1.15 * image.shape[1]:
            for lying, undone in ((1, 3), (3, 1)):
                turned = np.ascontiguousarray(np.rot90(image, lying))
                assert preprocess_with_findings(turned, chosen).quarter_turns == undone


@needs_rsna
def test_full_size_radiograph_and_its_stretched_copy_look_alike_to_the_model() -> None:
    chosen = PreprocessingSettings(fit="stretch")
    for path in real_radiographs(FOLDER or "", "full-size/*.png", 6):
        copy = path.parents[1] / "boneage-training-dataset" / f"{path.stem}.jpg"
        full, small = preprocess(read_image(path), chosen), preprocess(read_image(copy), chosen)
        assert np.corrcoef(full.ravel(), small.ravel())[0, 1] > 0.99
