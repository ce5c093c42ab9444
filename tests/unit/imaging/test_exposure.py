"""Blank and clipped pictures are seen by their grey levels; radiographs, also faint and inverted ones, are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from bone_age.data.synthetic import render_hand
from bone_age.imaging import GreyImage, ImageError, PreprocessingSettings, read_image
from bone_age.imaging.exposure import Exposure
from bone_age.imaging.preprocessing import preprocess_with_findings

SETTINGS = PreprocessingSettings(image_size_px=128)


def judged(image: GreyImage) -> Exposure:
    return preprocess_with_findings(image, SETTINGS).exposure


@pytest.mark.parametrize("level", [0, 7, 128, 255])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_blank_picture_is_refused(level: int, kind: type) -> None:
    with pytest.raises(ImageError, match="blank: its grey levels span 0 of 256"):
        judged(np.full((300, 240), level, kind)).require_usable()


def test_a_nearly_blank_picture_with_a_speck_of_dust_is_refused() -> None:
    image = np.full((300, 240), 90, np.uint8)
    image[100:106, 40:46] = 250
    with pytest.raises(ImageError, match="blank"):
        judged(image).require_usable()


def test_a_hand_burnt_to_white_is_refused_and_says_how_much() -> None:
    hand = render_hand(120, "F", 3)
    exposure = Exposure.of(np.where(hand > np.quantile(hand, 0.5), 255, hand).astype(np.uint8))
    assert exposure.white_share > 0.45
    with pytest.raises(ImageError, match=r"saturated: \d+% of it is white"):
        exposure.require_usable()


def test_a_picture_that_is_nearly_all_black_is_refused() -> None:
    image = np.zeros((300, 240), np.uint8)
    image[:40, :30] = 200
    with pytest.raises(ImageError, match="nearly all black: 98% of it"):
        Exposure.of(image).require_usable()


def test_drawn_hands_pass_also_faint_and_inverted_ones() -> None:
    for seed in range(12):
        hand = render_hand(20 + 15 * seed, "M", seed)
        for image in (hand, 255 - hand, (100 + hand * 0.2).astype(np.uint8)):
            judged(image).require_usable()


def test_of_an_inverted_hand_the_levels_with_bright_bones_are_judged() -> None:
    hand = render_hand(120, "F", 3)
    assert judged(255 - hand) == judged(hand)
    left_dark = SETTINGS.model_copy(update={"undo_inversion": False})
    assert preprocess_with_findings(255 - hand, left_dark).exposure == judged(hand)


def test_real_radiographs_pass(rsna_dir: Path) -> None:
    images = sorted((rsna_dir / "boneage-training-dataset").glob("*.jpg"))[:: 11_611 // 400]
    assert len(images) >= 400
    for path in images:
        image: npt.NDArray[np.uint8] = read_image(path)  # type: ignore[assignment]
        judged(image).require_usable()
        judged(255 - image).require_usable()
