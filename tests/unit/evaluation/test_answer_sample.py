"""The sample of held-out radiographs that a version carries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bone_age.errors import ModelError
from bone_age.evaluation.answer_sample import FIGURES, LIKENESS, AnswerSample, sample_of_held_out
from bone_age.serving.feature_summary import FeatureSummary
from tests.monitored import drawn, sample


def test_saved_and_loaded_it_is_the_same_and_so_are_the_bytes(tmp_path: Path) -> None:
    before = sample(drawn(60, 1), unlike_training=2, refused_unlike_training=3)
    before.save(tmp_path / "a.npz")
    found = AnswerSample.load(tmp_path / "a.npz")
    found.save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert (found.asked, found.findings, len(found)) == (63, before.findings, 60)
    for name in FIGURES:
        np.testing.assert_array_equal(found.figures[name], before.figures[name])


def test_held_out_radiographs_are_summed_up_as_serving_sums_up_its_answers() -> None:
    chance = np.random.default_rng(1)
    images = chance.integers(0, 256, (4, 16, 16)).astype(np.uint8)
    features = chance.random((4, 32), np.float32)
    months = np.array([[100.0, 88.0, 112.0]] * 4)
    distances = np.array([0.5, 1.5, 2.5, 0.9])  # one flagged, one refused
    found = sample_of_held_out(images, features, distances, ["M", "F", "F", "M"], months)
    assert (len(found), found.asked) == (3, 4)
    assert found.findings == {"unlike_training": 1, "refused_unlike_training": 1}
    assert found.figures["boy"].tolist() == [1, 0, 1]
    assert found.figures["grey_mean"][0] == pytest.approx(images[0].mean())
    assert found.figures["feature_16"][2] == pytest.approx(FeatureSummary.of(features[3]).projections[15])
    assert found.figures["interval_width_months"].tolist() == [24, 24, 24]
    without = sample_of_held_out(images, features, None, ["M", "F", "F", "M"], months)
    assert LIKENESS not in without.figures
    assert without.findings == {}


def test_a_damaged_sample_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "held_out.npz"
    path.write_bytes(b"no archive")
    with pytest.raises(ModelError, match=r"held_out.npz: cannot be read"):
        AnswerSample.load(path)
    whole = sample(drawn(60, 1))
    without = {name: values for name, values in whole.figures.items() if name != "grey_sd"}
    AnswerSample(without, 60, {}).save(path)
    with pytest.raises(ModelError, match=r"has no grey_sd"):
        AnswerSample.load(path)
    spoilt = dict(whole.figures) | {"grey_sd": np.full(60, np.nan, np.float32)}
    AnswerSample(spoilt, 60, {}).save(path)
    with pytest.raises(ModelError, match=r"grey_sd is not 60 finite numbers"):
        AnswerSample.load(path)
    AnswerSample(whole.figures, 5, {}).save(path)
    with pytest.raises(ModelError, match=r"counts do not fit"):
        AnswerSample.load(path)
