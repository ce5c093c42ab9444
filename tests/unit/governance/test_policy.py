"""The file with the rules: complete, strict, and named by its digest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bone_age.errors import InputError
from bone_age.evaluation.image_changes import CHANGES
from bone_age.governance.evidence import Incumbent
from bone_age.governance.gate import GATE_NAMES
from bone_age.governance.gates import judge
from bone_age.governance.policy import Bounds, Policy
from bone_age.provenance import PROJECT
from tests.worlds import evidence

OF_THE_PROJECT = PROJECT / "configs" / "policy.yaml"


def written(folder: Path, content: str) -> Path:
    path = folder / "policy.yaml"
    path.write_text(content)
    return path


def test_the_policy_of_the_project_is_valid_and_names_gates_that_exist() -> None:
    policy = Policy.read(OF_THE_PROJECT)
    assert policy.promotion == "auto"
    assert not policy.two_person
    champion = Incumbent(version=9, model_digest="22" * 32, synthetic=False)
    gates = {gate.name for gate in judge(evidence(), policy, champion)}
    assert set(policy.overridable) <= gates
    assert {f"robust_{change}" for change in policy.bounds.robustness_months} <= gates


def test_no_gate_of_validity_can_be_overridden_in_the_project() -> None:
    never = {"data_validation", "no_leakage", "same_test_rows", "onnx_agrees", "preprocessing_agrees", "test_mae"}
    assert not never & set(Policy.read(OF_THE_PROJECT).overridable)


def test_every_bound_is_written_in_the_file_and_none_is_left_to_a_default() -> None:
    document = yaml.safe_load(OF_THE_PROJECT.read_text())
    assert set(document) == set(Policy.model_fields)
    for which in ("bounds", "synthetic_bounds"):
        assert set(document[which]) == set(Bounds.model_fields)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("promotion: sometimes", "promotion"),
        ("bounds: {test_mae: 9}", "bounds.test_mae"),
        ("bounds: {test_mae_months: -1}", "bounds.test_mae_months"),
        ("bounds: {test_mae_months: .nan}", "bounds.test_mae_months"),
        ("bounds: {robustness_months: {turned: 3}}", "no change is named 'turned'"),
        ("two_persons: true", "two_persons"),
        ("predetermined_change: {rows_lost_share: 2}", "rows_lost_share"),
        ("bounds: {test_mae_months: .inf}", "bounds.test_mae_months"),
        ("bounds: {test_r2: -.inf}", "bounds.test_r2"),
        ("bounds: {robustness_months: {mirrored: .inf}}", "bounds.robustness_months.mirrored"),
        ("bounds: {robustness_months: {mirrored: .nan}}", "bounds.robustness_months.mirrored"),
        ("bounds: {test_mae_months: true}", "bounds.test_mae_months"),
        ("two_person: 'yes'", "two_person"),
        ("rollback_to_any_version: 1", "rollback_to_any_version"),
        ("overridable: [latency, charm]", "no gate is named 'charm'"),
        ("overridable: [robust_turned]", "no gate is named 'robust_turned'"),
        ("two_person: true\ntwo_person: false", "'two_person' is there twice"),
        ("bounds: {test_mae_months: 9, test_mae_months: 90}", "'test_mae_months' is there twice"),
        ("", "is empty"),
        ("# nothing but a comment", "is empty"),
        ("{}", "is empty"),
        ("[]", "is empty"),
        ("- a list", "cannot be read"),
        ("bounds: [", "cannot be read"),
    ],
)
def test_a_wrong_policy_is_one_line_with_file_and_key(content: str, named: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        Policy.read(written(tmp_path, content))
    assert named in str(refused.value)
    assert "policy.yaml" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_bounds_that_say_nothing_of_changes_still_have_a_gate_for_every_change(tmp_path: Path) -> None:
    policy = Policy.read(written(tmp_path, "bounds: {test_mae_months: 9}"))
    assert set(policy.bounds.robustness_months) == {change.name for change in CHANGES}
    none_at_all = Policy.read(written(tmp_path, "bounds: {robustness_months: {}}"))
    assert none_at_all.bounds.robustness_months == {}


def test_every_gate_can_be_named_and_no_other() -> None:
    champion = Incumbent(version=9, model_digest="22" * 32, synthetic=False)
    judged = [gate.name for gate in judge(evidence(), Policy(), champion)]
    assert {name for name in judged if not name.startswith("robust_")} == set(GATE_NAMES)
    assert Policy(overridable=tuple(judged)).overridable == tuple(judged)


def test_an_absent_policy_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such policy"):
        Policy.read(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "change",
    [
        {"promotion": "manual"},
        {"two_person": True},
        {"overridable": ("latency",)},
        {"bounds": Bounds(test_mae_months=8.99)},
        {"synthetic_bounds": Bounds(test_mae_months=8.99)},
    ],
)
def test_the_digest_follows_every_rule(change: dict[str, Any]) -> None:
    assert Policy(**change).digest != Policy().digest
    assert Policy(**change).digest == Policy(**change).digest


def test_models_of_synthetic_hands_have_bounds_of_their_own() -> None:
    policy = Policy(synthetic_bounds=Bounds(test_mae_months=40.0))
    assert policy.bounds_for(synthetic=True).test_mae_months == 40.0
    assert policy.bounds_for(synthetic=False).test_mae_months == 9.0
