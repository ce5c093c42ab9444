from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from bone_age.errors import InputError
from bone_age.settings import Home, TrainingConfig, digest_of, load_config

ROOT = Path(__file__).parents[2]


def written(folder: Path, content: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(content)
    return path


EXPERIMENTS = sorted(path for path in (ROOT / "configs").glob("*.yaml") if not path.name.startswith("policy"))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.name)
def test_every_configuration_of_the_project_is_valid(path: Path) -> None:
    assert load_config(path).plans


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("name: x\nepochz: 3", "epochz"),
        ("name: x\ntraining: {epochs: 0}", "training.epochs"),
        ("name: x\ntraining: {epochs: many}", "many"),
        ("name: x\narchitectures: {vgg16: {}}", "vgg16"),
        ("name: x\narchitectures: {}", "architectures"),
        ("name: x\narchitectures: {xception_multi: {epohcs: 1}}", "epohcs"),
        ("name: x\npreprocessing: {fit: crop}", "crop"),
        ("name: x\nsplit: {test: 0.6}", "split.test"),
        ("name: ../x", "name"),
        ("seed: 1", "name"),
        ("- a list", "list"),
        ("", "NoneType"),
        ("name: [", "cannot be read"),
    ],
)
def test_a_wrong_configuration_is_one_line_with_key_and_value(content: str, named: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        load_config(written(tmp_path, content))
    assert named in str(refused.value)
    assert "config.yaml" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_absent_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such configuration"):
        load_config(tmp_path / "none.yaml")


def test_weights_files_have_to_be_there(tmp_path: Path) -> None:
    there = tmp_path / "some.weights.h5"
    there.write_text("")
    for weights in ("none", "imagenet", str(there)):
        TrainingConfig(name="x", training={"weights": weights}).require_weights()
    with pytest.raises(InputError, match=r"weights of xception_single: gone\.h5 is not a file"):
        TrainingConfig(name="x", training={"weights": "gone.h5"}).require_weights()


def test_an_architecture_keeps_the_common_recipe_but_for_what_it_overrides() -> None:
    config = TrainingConfig(
        name="x",
        training={"epochs": 3, "dropout": 0.5},
        architectures={"resnet50_multi": {"epochs": 9, "image_size_px": 96}, "xception_multi": {}},
    )
    resnet, xception = config.plans
    assert (resnet.training.epochs, resnet.training.dropout, resnet.preprocessing.image_size_px) == (9, 0.5, 96)
    assert (xception.training.epochs, xception.preprocessing.image_size_px) == (3, 299)
    assert (resnet.inputs, xception.inputs) == ("image + sex", "image + sex")


def test_an_ablation_changes_what_it_names_and_nothing_else() -> None:
    ablations = {
        "clahe_off": {"preprocessing": {"clahe": None}},
        "without_sex": {"architecture": "xception_single"},
        "unfrozen": {"training": {"freeze_batchnorm": True}},
        "another_seed": {"seed": 0},
    }
    plans = {plan.name: plan for plan in TrainingConfig(name="x", ablations=ablations).plans}
    base = plans["xception_multi"]
    assert not base.is_ablation
    assert {plans[name].ablation_of for name in ablations} == {"xception_multi"}
    assert plans["clahe_off"].preprocessing == base.preprocessing.model_copy(update={"clahe": None})
    assert plans["clahe_off"].training == plans["without_sex"].training == base.training
    assert plans["without_sex"].architecture == "xception_single"
    assert (plans["another_seed"].seed, plans["clahe_off"].seed, base.seed) == (0, 17, 17)
    assert plans["another_seed"].training == base.training
    assert plans["unfrozen"].training == base.training.model_copy(update={"freeze_batchnorm": True})


@pytest.mark.parametrize(
    ("ablations", "named"),
    [
        ({"x": {"preprocessing": {"clahe_limit": 3}}}, "clahe_limit"),
        ({"x": {"training": {"epoch": 3}}}, "epoch"),
        ({"x": {"base": "resnet50_multi"}}, "not among the architectures"),
        ({"xception_multi": {}}, "an architecture has that name"),
        ({"Über mich": {}}, "pattern"),
    ],
)
def test_an_ablation_of_nothing_is_refused(ablations: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        TrainingConfig(name="x", architectures={"xception_multi": {}}, ablations=ablations)


@pytest.mark.parametrize(
    ("stage", "named"),
    [
        ({"epoch": 3}, "epoch"),
        ({"weights": "imagenet"}, "weights has to be the same"),
        ({"trainable_from": "block5_sepconv1", "image_size_px": 64}, "one image_size_px"),
    ],
)
def test_a_stage_that_cannot_be_is_refused(stage: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        TrainingConfig(name="x", training={"earlier_stages": [stage]})


@pytest.mark.parametrize("recipe", [{}, {"trainable_from": "block5_sepconv1", "cached_features": False}])
def test_cached_views_that_would_have_no_effect_are_refused(recipe: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="no effect"):
        TrainingConfig(name="x", training={"cached_views": 1} | recipe)


def test_a_stage_is_the_recipe_with_what_it_changes() -> None:
    without_cache = {"trainable_from": "block5_sepconv1", "cached_features": False}
    stages = [{"epochs": 2, "image_size_px": 96} | without_cache, {"learning_rate": 0.5}]
    plan = TrainingConfig(name="x", training={"epochs": 7, "dropout": 0.4, "earlier_stages": stages}).plans[0]
    assert [stage.training.epochs for stage in plan.stages] == [2, 7, 7]
    assert [stage.training.learning_rate for stage in plan.stages] == [1e-3, 0.5, 1e-3]
    assert [stage.preprocessing.image_size_px for stage in plan.stages] == [96, 299, 299]
    assert {stage.training.dropout for stage in plan.stages} == {0.4}
    assert all(not stage.training.earlier_stages for stage in plan.stages)


def test_what_travels_does_not_name_a_place_on_this_machine(tmp_path: Path) -> None:
    config = TrainingConfig(name="x").with_source(str(tmp_path))
    assert str(tmp_path) not in str(config.portable())
    assert TrainingConfig(name="x").portable() == TrainingConfig(name="x")


def test_a_digest_follows_every_value() -> None:
    assert digest_of(TrainingConfig(name="x")) == digest_of(TrainingConfig(name="x"))
    assert digest_of(TrainingConfig(name="x")) != digest_of(TrainingConfig(name="x", seed=18))


def test_two_homes_are_two_worlds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("ZENML_CONFIG_PATH", raising=False)
    one, two = Home(home=tmp_path / "a").exports(), Home(home=tmp_path / "b").exports()
    for name in ("BONE_AGE_HOME", "MLFLOW_TRACKING_URI", "ZENML_CONFIG_PATH"):
        assert one[name] != two[name]


def _keys(model: type[BaseModel]) -> set[str]:
    keys = set()
    for name, field in model.model_fields.items():
        keys.add(name)
        for inner in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                keys |= _keys(inner)
    return keys


def test_every_key_is_in_the_reference() -> None:
    reference = (ROOT / "docs" / "reference" / "configuration.md").read_text()
    written_there = set(re.findall(r"[a-z0-9_]+", reference))
    assert _keys(TrainingConfig) - written_there == set()
