"""Models side by side: who is best, and on which rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from bone_age.errors import InputError
from bone_age.evaluation.comparison import Comparison, DatasetFacts, ModelSummary, compare, paired_difference
from bone_age.evaluation.evaluation import Evaluation
from bone_age.evaluation.report import report_json
from bone_age.settings import EvaluationSettings

Summarise = Callable[..., ModelSummary]
Simulate = Callable[..., pd.DataFrame]
FACTS = DatasetFacts("hands", "ab" * 32, True, {"train": 280, "validation": 40, "test": 60})


def compared(models: list[ModelSummary], baseline: Evaluation) -> Comparison:
    return compare(models, baseline, FACTS, {}, "", "night", EvaluationSettings(bootstrap_replicates=200), 3)


def test_the_best_model_is_chosen_on_validation_not_on_test(summary: Summarise, baseline: Evaluation) -> None:
    lucky = summary("xception_single", test_error=4, validation_error=20)
    better = summary("xception_multi", test_error=9, validation_error=8)
    assert compared([lucky, better], baseline).best.name == "xception_multi"


def test_the_candidate_is_the_best_xception(summary: Summarise, baseline: Evaluation) -> None:
    models = [summary("resnet50_multi", 5), summary("xception_single", 12), summary("xception_multi", 8)]
    comparison = compared(models, baseline)
    assert comparison.best.name == "resnet50_multi"
    assert comparison.best_xception is not None
    assert comparison.best_xception.name == "xception_multi"
    assert compared(models[:1], baseline).best_xception is None


def test_an_ablation_is_never_the_best_and_is_shown_last(comparison: Comparison) -> None:
    assert comparison.best.name == "xception_multi"
    assert [model.name for model in comparison.models][-1] == "xception_multi_clahe_off"


def test_an_ablation_is_compared_with_the_model_it_changes(summary: Summarise, baseline: Evaluation) -> None:
    models = [
        summary("xception_multi", 6),
        summary("resnet50_multi", 9),
        summary("xception_multi_clahe_off", 20, architecture="xception_multi", ablation_of="xception_multi"),
    ]
    (ablation,) = compared(models, baseline).ablations
    assert (ablation.changed, ablation.base) == ("xception_multi_clahe_off", "xception_multi")
    expected = models[2].test.metrics.mae.value - models[0].test.metrics.mae.value
    assert ablation.difference.value == pytest.approx(expected)
    assert ablation.finding == "xception_multi_clahe_off is worse than xception_multi"


def test_a_difference_within_its_bounds_is_no_finding(summary: Summarise, baseline: Evaluation) -> None:
    base = summary("xception_multi", 8)
    same = summary("off", 8, architecture="xception_multi", ablation_of="xception_multi")
    assert compared([base, same], baseline).ablations[0].finding == "no difference could be shown"


def test_rows_are_matched_by_image_whatever_their_order(
    evaluate: Callable[..., Evaluation], simulate: Simulate
) -> None:
    table, other = simulate(40, 8), simulate(40, 14)
    straight = paired_difference(evaluate(table), evaluate(other), {}, 200, 3)
    shuffled = paired_difference(evaluate(table), evaluate(other.sample(frac=1, random_state=1)), {}, 200, 3)
    assert shuffled == straight


def test_models_tested_on_other_rows_are_refused(evaluate: Callable[..., Evaluation], simulate: Simulate) -> None:
    table = simulate(40)
    with pytest.raises(InputError, match="image 'image-39' is in one only"):
        paired_difference(evaluate(table), evaluate(table.iloc[:-1]), {}, 200, 3)


def test_models_tested_against_other_labels_are_refused(
    evaluate: Callable[..., Evaluation], simulate: Simulate
) -> None:
    table, other = simulate(40), simulate(40)
    other.loc[5, "bone_age_months"] += 1
    with pytest.raises(InputError, match="different labels for image 'image-5'"):
        paired_difference(evaluate(table), evaluate(other), {}, 200, 3)


def test_a_comparison_of_nothing_is_refused(summary: Summarise, baseline: Evaluation) -> None:
    for models in ([], [summary("off", 8, ablation_of="xception_multi")]):
        with pytest.raises(InputError, match="no model to compare"):
            compared(models, baseline)


def test_two_models_of_one_name_are_refused(summary: Summarise, baseline: Evaluation) -> None:
    with pytest.raises(InputError, match="two models are named 'xception_multi'"):
        compared([summary("xception_multi", 8), summary("xception_multi", 9)], baseline)


@pytest.mark.parametrize("name", ["", "../outside", "a/b", ".hidden", "<b>", "x" * 100])
def test_a_name_that_is_no_folder_name_is_refused(summary: Summarise, name: str) -> None:
    with pytest.raises(InputError, match="model name"):
        summary(name, 8)


def test_a_comparison_survives_its_folder(comparison: Comparison, tmp_path: Path) -> None:
    comparison.save(tmp_path)
    loaded = Comparison.load(tmp_path)
    assert report_json(loaded) == report_json(comparison)
    assert loaded.models[0].history.equals(comparison.models[0].history)


def test_a_folder_that_holds_no_comparison_is_refused(tmp_path: Path) -> None:
    (tmp_path / "comparison.json").write_text("{}")
    with pytest.raises(InputError, match="no comparison"):
        Comparison.load(tmp_path)
