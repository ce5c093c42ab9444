"""The search space: refused with one line where it is wrong, and turned into recipes where it is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
import yaml

from bone_age.data.manifest import Dataset
from bone_age.errors import InputError
from bone_age.settings import TrainingConfig, load_config
from bone_age.tuning.space import choose_architecture, plan_trial, require_values, searched, study_name, suggest

SPACE: dict[str, Any] = {
    "learning_rate": {"low": 3e-5, "high": 1e-3, "log": True},
    "dropout": {"low": 0, "high": 0.5},
    "head_units": {"low": 16, "high": 64},
    "huber_delta_months": {"choices": [4, 8, 16]},
    "augmentation": {"choices": [None, {"rotation_degrees": 5}]},
}


def configured(space: dict[str, Any], **changes: Any) -> TrainingConfig:
    return TrainingConfig.model_validate({"name": "x", "search": {"space": space}} | changes)


@pytest.mark.parametrize(
    ("space", "named"),
    [
        ({"learning_rat": {"low": 1e-5, "high": 1e-3}}, "learning_rat is no key of `training`"),
        ({"dropout": {"low": 0.5, "high": 0.1}}, "low 0.5 is not below high 0.1"),
        ({"dropout": {"low": 0.5}}, "give low and high, or choices"),
        ({"dropout": {"low": 0.1, "high": 0.2, "choices": [0.1, 0.2]}}, "not both"),
        ({"dropout": {"low": 0, "high": 1.5}}, "search.space.dropout: 1.5: Input should be less than 1"),
        ({"dropout": {"low": 0, "high": 0.5, "log": True}}, "log needs a low above 0"),
        ({"dropout": {"low": 0, "high": 0.5, "step": 0.1}}, "step"),
        ({"dropout": {"choices": [0.1]}}, "two values"),
        ({"huber_delta_months": {"choices": [8, -1]}}, "search.space.huber_delta_months: -1"),
        ({"epochs": {"low": 1.5, "high": 4}}, "whole numbers"),
        ({"freeze_batchnorm": {"low": 0, "high": 1}}, "search: Value error, space.freeze_batchnorm is no number"),
        ({"weights": {"low": 0, "high": 1}}, "give choices"),
        ({}, "search.space"),
    ],
)
def test_a_wrong_space_is_one_line_that_names_the_key(space: dict[str, Any], named: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"name": "x", "search": {"space": space}}))
    with pytest.raises(InputError) as refused:
        load_config(path)
    assert named in str(refused.value)
    assert "config.yaml" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


def test_a_search_has_no_keys_but_its_own() -> None:
    with pytest.raises(ValueError, match="trails"):
        TrainingConfig.model_validate({"name": "x", "search": {"space": SPACE, "trails": 3}})


def test_suggested_values_lie_in_the_space_and_make_a_recipe() -> None:
    config = configured(SPACE)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    seen = [suggest(study.ask(), searched(config).space) for _ in range(30)]
    assert all(set(recipe) == set(SPACE) for recipe in seen)
    assert all(3e-5 <= recipe["learning_rate"] <= 1e-3 and 0 <= recipe["dropout"] <= 0.5 for recipe in seen)
    assert all(isinstance(recipe["head_units"], int) and 16 <= recipe["head_units"] <= 64 for recipe in seen)
    assert {recipe["huber_delta_months"] for recipe in seen} == {4, 8, 16}
    sections = [recipe["augmentation"] for recipe in seen]
    assert None in sections
    assert {"rotation_degrees": 5} in sections
    for number, recipe in enumerate(seen):
        plan = plan_trial(config, "xception_multi", recipe, f"trial-{number}")
        assert plan.training.learning_rate == recipe["learning_rate"]
        assert (plan.training.augmentation is None) == (recipe["augmentation"] is None)


def test_a_searched_value_goes_before_the_one_of_the_architecture() -> None:
    config = configured({"dropout": {"choices": [0.1, 0.3]}}, architectures={"xception_multi": {"dropout": 0.9}})
    assert plan_trial(config, "xception_multi", {"dropout": 0.3}, "trial-0").training.dropout == 0.3


def test_the_architecture_is_the_one_asked_for_or_the_best_known() -> None:
    both = configured(SPACE, architectures={"resnet50_multi": {}, "xception_multi": {}})
    assert choose_architecture(both, None) == "xception_multi"
    assert choose_architecture(both, "resnet50_multi") == "resnet50_multi"
    assert choose_architecture(configured(SPACE, architectures={"resnet50_single": {}}), None) == "resnet50_single"
    with pytest.raises(InputError, match="'vgg16', configuration x has resnet50_multi, xception_multi"):
        choose_architecture(both, "vgg16")


def test_a_configuration_without_a_search_and_absent_weights_are_refused() -> None:
    with pytest.raises(InputError, match="no `search:`"):
        searched(TrainingConfig(name="x"))
    with pytest.raises(InputError, match=r"gone\.h5 is not a file"):
        require_values(configured({"weights": {"choices": ["none", "gone.h5"]}}), "xception_multi")


def test_values_that_only_this_architecture_cannot_take_are_refused() -> None:
    stages = [{"epochs": 5, "image_size_px": 64}]
    config = configured(
        {"trainable_from": {"choices": ["block13_sepconv1", "block5_sepconv1"]}},
        architectures={"xception_multi": {"earlier_stages": stages}, "xception_single": {}},
    )
    require_values(config, "xception_single")
    with pytest.raises(InputError, match="one image_size_px"):
        require_values(config, "xception_multi")


def dataset(age: float = 100.0) -> Dataset:
    return Dataset("hands", Path(), pd.DataFrame({"sha256": ["0"], "sex": ["M"], "bone_age_months": [age]}))


@pytest.mark.parametrize(
    "other",
    [
        (configured(SPACE | {"dropout": {"low": 0, "high": 0.4}}), "xception_multi", dataset()),
        (configured(SPACE, seed=18), "xception_multi", dataset()),
        (configured(SPACE, training={"epochs": 3}), "xception_multi", dataset()),
        (configured(SPACE, preprocessing={"image_size_px": 96}), "xception_multi", dataset()),
        (configured(SPACE, split={"salt": "other"}), "xception_multi", dataset()),
        (configured(SPACE), "xception_single", dataset()),
        (configured(SPACE), "xception_multi", dataset(101)),
    ],
    ids=["space", "seed", "recipe", "images", "split", "architecture", "data"],
)
def test_another_experiment_is_another_study(other: tuple[Any, Any, Dataset]) -> None:
    assert study_name(*other) != study_name(configured(SPACE), "xception_multi", dataset())


def test_a_study_can_be_made_longer() -> None:
    longer = TrainingConfig.model_validate({"name": "x", "search": {"space": SPACE, "trials": 99}})
    name = study_name(longer, "xception_multi", dataset())
    assert name == study_name(configured(SPACE), "xception_multi", dataset())
    assert name.startswith(f"x-xception_multi-{dataset().fingerprint[:8]}-")
