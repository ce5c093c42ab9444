from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from bone_age.data.manifest import Dataset
from bone_age.errors import InputError
from bone_age.evaluation.evaluation import ScoredSet
from bone_age.evaluation.image_changes import CHANGES
from bone_age.evaluation.robustness import Robustness, measure_robustness, predict_changed, robustness_of
from bone_age.settings import EvaluationSettings

QUICK = EvaluationSettings(bootstrap_replicates=100)
BY_NAME = {change.name: change for change in CHANGES}
MakePredictor = Callable[..., Any]


def mean_level(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    return images.astype(float).mean((1, 2))


def centre_of_light(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """How far right the light is, pixels of 64."""
    return (images.astype(float).sum(1) * np.arange(64)).sum(1) / images.sum((1, 2))


@pytest.fixture(scope="module")
def measured(hands: Dataset, fake_predictor: MakePredictor) -> Robustness:
    return measure_robustness(fake_predictor(mean_level), hands, hands.table, "test", QUICK, seed=1)


def test_every_change_is_measured_on_every_radiograph(measured: Robustness) -> None:
    assert [effect.name for effect in measured.effects] == list(BY_NAME)
    assert {effect.n for effect in measured.effects} == {8}


def test_a_model_of_brightness_follows_brightness(measured: Robustness) -> None:
    effects = {effect.name: effect for effect in measured.effects}
    assert 20 < effects["brighter"].mean_shift <= 0.15 * 255 + 1  # padding stays black, white stays white
    assert effects["darker"].mean_shift < -5
    assert effects["mirrored"].mean_absolute_shift < 0.5
    assert abs(effects["rotated_180"].mean_shift) < 0.5


def test_a_model_of_place_follows_the_mirror(hands: Dataset, fake_predictor: MakePredictor) -> None:
    table = predict_changed(
        fake_predictor(centre_of_light, fit="stretch"), hands, hands.table, [BY_NAME["mirrored"]], 0
    )
    assert table["mirrored"].to_numpy() == pytest.approx(63 - table["unchanged"].to_numpy(), abs=0.2)


def test_the_preprocessing_stands_between_change_and_model(hands: Dataset, fake_predictor: MakePredictor) -> None:
    """Inversion is undone where the model's settings say so, and only there."""
    inverted = [BY_NAME["inverted"]]
    undone = predict_changed(fake_predictor(mean_level, undo_inversion=True), hands, hands.table, inverted, 0)
    left = predict_changed(fake_predictor(mean_level), hands, hands.table, inverted, 0)
    assert np.abs(undone["inverted"] - undone["unchanged"]).max() < 1
    assert np.abs(left["inverted"] - left["unchanged"]).min() > 5


def test_a_model_that_does_not_look_is_not_moved(hands: Dataset, fake_predictor: MakePredictor) -> None:
    blind = fake_predictor(lambda images: np.full(len(images), 100.0))
    for effect in measure_robustness(blind, hands, hands.table, "test", QUICK, seed=1).effects:
        assert effect.mae == pytest.approx(51.5)  # of the labels about 100
        assert effect.mean_absolute_shift == effect.p95_absolute_shift == 0
        assert effect.mae_increase.lo == effect.mae_increase.value == effect.mae_increase.hi == 0


def test_the_same_seed_gives_the_same_figures_in_any_order_of_rows(
    hands: Dataset, fake_predictor: MakePredictor
) -> None:
    changes = [BY_NAME["low_exposure"], BY_NAME["marker"]]
    forth = predict_changed(fake_predictor(mean_level), hands, hands.table, changes, 5)
    back = predict_changed(fake_predictor(mean_level), hands, hands.table[::-1], changes, 5)
    pd.testing.assert_frame_equal(forth, back[::-1].reset_index(drop=True))
    other = predict_changed(fake_predictor(mean_level), hands, hands.table, changes, 6)
    assert not forth["low_exposure"].equals(other["low_exposure"])


def test_answers_that_move_across_the_label_show_as_shift_and_not_as_increase() -> None:
    true = np.array([100.0, 100.0, 100.0, 100.0])
    table = pd.DataFrame(
        {"image_id": list("abcd"), "sex": "M", "bone_age_months": true, "unchanged": true + 10, "marker": true - 10}
    )
    scored_set = ScoredSet("hands", "ab", "test")
    (effect,) = robustness_of(table, list("abcd"), [BY_NAME["marker"]], "m", scored_set, QUICK, 0).effects
    assert effect.mae_increase.value == 0
    assert effect.mean_absolute_shift == 20
    assert effect.mean_shift == -20


def test_an_image_that_cannot_be_read_is_named(hands: Dataset, fake_predictor: MakePredictor) -> None:
    rows = hands.table.assign(path="absent.png").head(1)
    with pytest.raises(InputError, match=r"absent\.png"):
        predict_changed(fake_predictor(mean_level), hands, rows, CHANGES, 0)


def test_no_rows_are_refused(hands: Dataset, fake_predictor: MakePredictor) -> None:
    with pytest.raises(InputError, match="no radiograph"):
        measure_robustness(fake_predictor(mean_level), hands, hands.table.head(0), "test", QUICK, 0)


def test_saved_figures_can_be_read_back(measured: Robustness, tmp_path: Path) -> None:
    measured.save(tmp_path)
    assert Robustness.model_validate_json((tmp_path / "robustness.json").read_text()) == measured
    table = pd.read_csv(tmp_path / "robustness.csv")
    assert table["name"].tolist() == list(BY_NAME)
    assert (table["mae_increase_lo"] <= table["mae_increase_hi"]).all()
    assert (tmp_path / "plots" / "robustness.png").read_bytes().startswith(b"\x89PNG")


def test_measuring_limits_needs_no_training_library() -> None:
    modules = ("robustness", "failures", "calibration_check", "label_noise")
    code = "".join(f"import bone_age.evaluation.{name}\n" for name in modules)
    code += "import sys\nprint({'keras', 'tensorflow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
