from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bone_age.data.prepared import PreparedImages
from bone_age.errors import BoneAgeError
from bone_age.settings import TrainingConfig, load_config
from bone_age.tuning.result import best_trial, show_trials, write_result
from bone_age.tuning.study import FinishedTrial, Outcome


def tried(number: int, outcome: Outcome, mae: float | None, **recipe: Any) -> FinishedTrial:
    return FinishedTrial(number, outcome, mae, 2, recipe, "it diverged" if outcome == "failed" else None)


TRIALS = [
    tried(0, "complete", 14.2, dropout=0.1, augmentation=None),
    tried(1, "pruned", 9.0, dropout=0.2, augmentation=None),
    tried(2, "failed", None, dropout=0.3, augmentation=None),
    tried(4, "complete", 11.5, dropout=0.37, augmentation=None),
]


def test_the_best_configuration_trains_what_the_best_trial_trained(
    tiny_config: TrainingConfig, tiny_images: PreparedImages, tmp_path: Path
) -> None:
    write_result(tmp_path, "tiny-study", tiny_config, "xception_multi", TRIALS, tiny_images)
    best = load_config(tmp_path / "best.yaml")
    assert best.name == "tiny-tuned"
    assert best.search is None
    changed = {"dropout": 0.37, "augmentation": None}
    plans = {plan.name: plan for plan in best.plans}
    for plan in tiny_config.plans:
        expected = plan.training.model_copy(update=changed if plan.name == "xception_multi" else {})
        assert plans[plan.name].training == expected
        assert plans[plan.name].preprocessing == plan.preprocessing
    assert (best.data, best.split, best.seed) == (tiny_config.data, tiny_config.split, tiny_config.seed)
    head = (tmp_path / "best.yaml").read_text().split("name:")[0]
    assert "trial 4 of study tiny-study" in head
    assert "validation MAE 11.50 months" in head
    assert (tmp_path / "history.png").read_bytes().startswith(b"\x89PNG")


def test_a_pruned_trial_is_never_the_best() -> None:
    assert best_trial(TRIALS).number == 4


def test_a_search_in_which_nothing_could_be_trained_says_why() -> None:
    with pytest.raises(BoneAgeError, match="none of 1 trials was trained to its end: it diverged"):
        best_trial([TRIALS[2]])


def test_the_table_names_figures_values_and_what_they_were_measured_on(
    tiny_images: PreparedImages, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show_trials(TRIALS, tiny_images, tmp_path)
    shown = capsys.readouterr().out
    n = len(tiny_images.split("validation"))
    assert f"synthetic, validation split, n = {n}; months of validation MAE" in shown
    assert shown.index("11.50") < shown.index("14.20")
    assert "0.37" in shown
    assert "4 trials: 2 complete, 1 pruned, 1 failed" in shown
    assert "SYNTHETIC IMAGES" in shown
    assert shown.splitlines()[-1].endswith("best.yaml")
