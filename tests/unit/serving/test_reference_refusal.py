"""What the reference model refuses, flags and puts right: pictures that are no hand, drawn hands, real hands turned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.not_hands import not_hands
from bone_age.data.synthetic import render_hand
from bone_age.evaluation.likeness import UnlikeTrainingError
from bone_age.imaging import GreyImage, ImageError, read_image
from bone_age.serving.bundle import LIKENESS
from bone_age.serving.predictor import Answered, Predictor
from bone_age.serving.references import REFERENCE_MODEL

REFUSED_KINDS = {"chest film", "text page", "empty film with a label", "noise", "checks and stripes", "gradient"}


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.from_folder(REFERENCE_MODEL)


def codes(answered: Answered) -> list[str]:
    return [warning.code for warning in answered.prediction.warnings]


def test_its_likeness_is_small() -> None:
    assert (REFERENCE_MODEL / LIKENESS).stat().st_size < 700_000


def test_of_every_kind_that_is_no_hand_none_is_answered_without_a_word(predictor: Predictor) -> None:
    refused = set()
    for picture in not_hands(1, seed=5):
        try:
            assert "unlike_training" in codes(predictor.answer(picture.image, "F")), picture.kind
        except ImageError:
            refused.add(picture.kind)
    assert refused >= REFUSED_KINDS


def test_a_misleading_pattern_is_refused_as_unlike_and_the_figure_is_said(predictor: Predictor) -> None:
    pattern = next(picture.image for picture in not_hands(1, seed=6) if picture.kind == "adversarial pattern")
    with pytest.raises(
        UnlikeTrainingError, match=r"does not look like a hand radiograph: its distance .* is [2-9]\.\d"
    ):
        predictor.answer(pattern, "M")


def test_a_drawn_hand_is_answered_and_mostly_flagged(predictor: Predictor) -> None:
    found = [codes(predictor.answer(render_hand(40 + 20 * seed, "M", seed), "M")) for seed in range(8)]
    assert sum("unlike_training" in one for one in found) >= 4


@pytest.fixture(scope="module")
def originals(rsna_dir: Path) -> list[GreyImage]:
    found = [read_image(path) for path in sorted((rsna_dir / "full-size").glob("*.png"))]
    assert len(found) == 24
    return found


def test_real_hands_are_neither_refused_nor_turned_and_hardly_flagged(
    predictor: Predictor, originals: list[GreyImage]
) -> None:
    found = [codes(predictor.answer(image, "F")) for image in originals]
    assert not any("rotated" in one for one in found)
    assert sum("unlike_training" in one for one in found) <= 1


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_turned_hands_are_put_right_or_flagged(turns: int, predictor: Predictor, originals: list[GreyImage]) -> None:
    righted = []
    for image in originals[turns - 1 :: 3]:
        found = predictor.answer(np.ascontiguousarray(np.rot90(image, turns)), "F")  # type: ignore[arg-type]
        assert {"rotated", "unlike_training"} & set(codes(found))
        if "rotated" in codes(found):
            righted.append(found.prediction.bone_age_months - predictor.predict(image, "F").bone_age_months)
    assert len(righted) >= 7
    assert np.mean(np.abs(righted)) < 2


def test_inverted_hands_are_put_right(predictor: Predictor, originals: list[GreyImage]) -> None:
    for image in originals[::4]:
        found = predictor.answer(np.iinfo(image.dtype).max - image, "F")
        assert codes(found) == ["inverted"]
        assert found.prediction.bone_age_months == pytest.approx(predictor.predict(image, "F").bone_age_months, abs=0.5)
