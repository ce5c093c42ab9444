"""Gates pass at their bound and fail beyond it; what is missing, not finite or stale fails."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bone_age.evaluation.bootstrap import Estimate
from bone_age.governance.evidence import Evidence, EvidenceFacts, Incumbent, MeasuredChampion
from bone_age.governance.gate import Decision, Gate
from bone_age.governance.gates import judge, relation_to_champion
from tests.worlds import FINGERPRINT, POLICY, evidence, predicted, robustness

CHAMPION = Incumbent(version=7, model_digest="77" * 32, synthetic=False)
MEASURED = MeasuredChampion(version=7, model_digest="77" * 32, latency_ms=10.0)
GOOD = evidence()
BESIDE_CHAMPION = evidence(7.0, champion=MEASURED)
NOT_A_FIGURE = (None, math.nan, math.inf, -math.inf)


def with_facts(found: Evidence, **changes: Any) -> Evidence:
    return replace(found, facts=found.facts.model_copy(update=changes))


def with_metrics(found: Evidence, **changes: Any) -> Evidence:
    return replace(found, test=replace(found.test, metrics=replace(found.test.metrics, **changes)))


def with_estimate(found: Evidence, name: str, **changes: float) -> Evidence:
    estimate = getattr(found.test.metrics, name)
    return with_metrics(found, **{name: replace(estimate, **changes)})


def with_subgroup(found: Evidence, **changes: Estimate) -> Evidence:
    """The second of the subgroups is changed, so that what comes first and last is a number."""
    groups = list(found.test.subgroups)
    assert groups[1].n >= POLICY.bounds.subgroup_rows
    groups[1] = replace(groups[1], **changes)
    return replace(found, test=replace(found.test, subgroups=tuple(groups)))


def gates(found: Evidence, champion: Incumbent | None = None, stale: str = "", **bounds: Any) -> dict[str, Gate]:
    policy = POLICY.model_copy(update={"bounds": POLICY.bounds.model_copy(update=bounds)})
    return {gate.name: gate for gate in judge(found, policy, champion, stale)}


def test_good_evidence_passes_every_gate() -> None:
    assert all(gate.passed for gate in gates(GOOD).values())
    assert all(gate.passed for gate in gates(BESIDE_CHAMPION, CHAMPION).values())


def test_every_gate_has_figure_bound_meaning_and_evidence() -> None:
    for gate in gates(BESIDE_CHAMPION, CHAMPION).values():
        assert gate.figure is not None
        assert gate.bound is not None
        assert gate.meaning
        assert gate.evidence
        assert gate.name in str(gate)


@pytest.mark.parametrize(
    ("name", "bound"),
    [
        ("test_mae", "test_mae_months"),
        ("test_mae_upper", "test_mae_upper_months"),
        ("beats_baseline", "share_of_baseline_mae"),
        ("test_r2", "test_r2"),
        ("large_errors", "large_errors_share"),
        ("worst_subgroup_mae", "subgroup_mae_months"),
        ("worst_subgroup_bias", "subgroup_bias_months"),
        ("interval_coverage", "coverage_tolerance"),
        ("worst_subgroup_coverage", "subgroup_coverage"),
        ("not_inferior_to_champion", "inferiority_margin_months"),
        ("latency", "latency_share_of_champion"),
        ("onnx_agrees", "onnx_difference_months"),
    ],
)
def test_a_gate_passes_at_its_bound_and_fails_beyond_it(name: str, bound: str) -> None:
    figure = gates(BESIDE_CHAMPION, CHAMPION)[name].figure
    assert figure is not None
    stricter = math.nextafter(figure, math.inf if name in ("test_r2", "worst_subgroup_coverage") else -math.inf)
    for value, passes in ((figure, True), (stricter, False)):
        gate = gates(BESIDE_CHAMPION, CHAMPION, **{bound: value})[name]
        assert (gate.figure, gate.bound, gate.passed) == (figure, value, passes)


@pytest.mark.parametrize("name", ["data_errors", "leaks", "preprocessing_differences"])
def test_one_of_what_must_not_be_fails(name: str) -> None:
    gate = {
        "data_errors": "data_validation",
        "leaks": "no_leakage",
        "preprocessing_differences": "preprocessing_agrees",
    }
    assert not gates(with_facts(GOOD, **{name: 1}))[gate[name]].passed
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        EvidenceFacts(**GOOD.facts.model_dump() | {name: -1})


def test_preprocessing_that_was_compared_on_no_image_fails() -> None:
    assert not gates(with_facts(GOOD, preprocessing_compared=0))["preprocessing_agrees"].passed


def test_the_figure_of_a_subgroup_is_that_of_the_worst_large_enough_one() -> None:
    worst = Estimate(33.0, 30.0, 36.0)
    gate = gates(with_subgroup(GOOD, mae=worst))["worst_subgroup_mae"]
    assert gate.figure == 33.0
    assert GOOD.test.subgroups[1].name in gate.meaning
    assert not gate.passed
    bias = gates(with_subgroup(GOOD, bias=Estimate(-33.0, -36.0, -30.0)))["worst_subgroup_bias"]
    assert (bias.figure, bias.passed) == (33.0, False)
    none = gates(GOOD, subgroup_rows=1000)
    for name in ("worst_subgroup_mae", "worst_subgroup_bias", "worst_subgroup_coverage"):
        assert (none[name].figure, none[name].passed) == (None, False)
        assert "there is none" in none[name].meaning


@pytest.mark.parametrize(("hi", "passes"), [(2.0, True), (2.01, False)])
def test_robustness_is_judged_by_the_rise_of_the_error(hi: float, passes: bool) -> None:
    assert gates(replace(GOOD, robustness=robustness(hi)))["robust_mirrored"].passed is passes


def test_robustness_that_was_not_measured_fails() -> None:
    assert not gates(replace(GOOD, robustness=None))["robust_mirrored"].passed
    assert not gates(GOOD, robustness_months={"mirrored": 2.0, "marker": 2.0})["robust_marker"].passed


@pytest.mark.parametrize(
    ("difference", "relation"),
    [
        (Estimate(-1.0, -2.0, -0.1), "superior"),
        (Estimate(-1.0, -2.0, 0.0), "non-inferior"),
        (Estimate(0.1, -0.2, 0.25), "non-inferior"),
        (Estimate(0.1, -0.2, 0.26), "inferior"),
        (Estimate(math.nan, math.nan, math.nan), "inferior"),
    ],
)
def test_how_a_version_stands_to_the_champion_is_said_in_one_word(difference: Estimate, relation: str) -> None:
    assert relation_to_champion(difference, 0.25) == relation


def test_the_difference_to_the_champion_is_paired() -> None:
    """The same radiographs are hard for both, so a small difference shows that two separate intervals would hide."""
    found = evidence(7.5, champion=MEASURED, champion_error_months=8.0)
    gate = gates(found, CHAMPION)["not_inferior_to_champion"]
    assert gate.passed
    assert ": superior" in gate.meaning
    assert gate.figure is not None
    champion = found.champion
    assert champion is not None
    assert gate.figure < 0 < found.test.metrics.mae.hi - champion.metrics.mae.lo
    worse = gates(evidence(8.5, champion=MEASURED, champion_error_months=8.0), CHAMPION)["not_inferior_to_champion"]
    assert not worse.passed
    assert ": inferior" in worse.meaning


def test_without_a_champion_nothing_is_compared() -> None:
    assert not {"same_test_rows", "not_inferior_to_champion", "latency"} & set(gates(GOOD))


def test_a_champion_that_was_not_measured_is_not_succeeded() -> None:
    found = gates(GOOD, CHAMPION)
    for name in ("same_test_rows", "not_inferior_to_champion"):
        assert not found[name].passed
        assert "when the evidence was collected the champion was none" in found[name].problem
    assert not found["latency"].passed
    damaged = MEASURED.model_copy(update={"why_not_measured": "model.onnx is damaged"})
    unmeasured = replace(with_facts(GOOD, champion=damaged), champion=None)
    assert "model.onnx is damaged" in gates(unmeasured, CHAMPION)["same_test_rows"].problem


def test_a_champion_measured_on_other_rows_is_no_opponent() -> None:
    champion = BESIDE_CHAMPION.champion
    assert champion is not None
    fewer = replace(champion, predictions=champion.predictions.iloc[1:].reset_index(drop=True))
    found = gates(replace(BESIDE_CHAMPION, champion=fewer), CHAMPION)
    for name in ("same_test_rows", "not_inferior_to_champion"):
        assert not found[name].passed
        assert "not tested on the same rows" in found[name].problem
    relabelled = champion.predictions.assign(bone_age_months=champion.predictions["bone_age_months"] + 1)
    found = gates(replace(BESIDE_CHAMPION, champion=replace(champion, predictions=relabelled)), CHAMPION)
    assert "different labels" in found["same_test_rows"].problem


def test_a_champion_of_before_is_compared_by_its_own_evidence_where_the_rows_are_the_same() -> None:
    other = Incumbent(version=8, model_digest="88" * 32, synthetic=False, evidence=evidence(8.0))
    found = gates(evidence(7.0), other)
    assert found["not_inferior_to_champion"].passed
    relabelled = GOOD.manifest.assign(sha256=[f"{sha256}x" for sha256 in GOOD.manifest["sha256"]])
    stranger = replace(other, evidence=evidence(8.0, manifest=relabelled))
    assert not gates(evidence(7.0), stranger)["not_inferior_to_champion"].passed


def test_a_model_of_synthetic_hands_never_follows_one_of_radiographs() -> None:
    synthetic = with_facts(BESIDE_CHAMPION, synthetic=True)
    policy = POLICY.model_copy(update={"synthetic_bounds": POLICY.bounds})
    failed = [gate.name for gate in judge(synthetic, policy, CHAMPION) if not gate.passed]
    assert failed == ["no_synthetic_successor"]
    also_synthetic = replace(CHAMPION, synthetic=True)
    assert all(gate.passed for gate in judge(synthetic, policy, also_synthetic))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model_digest": "99" * 32}, "measured with model 9999"),
        ({"dataset_fingerprint": "99" * 32}, "measured with data set 9999"),
        ({"policy_digest": "99" * 32}, "measured with policy 9999"),
    ],
)
def test_what_belongs_to_another_is_stale_and_fails_every_gate(changes: dict[str, str], told: str) -> None:
    stale = with_facts(GOOD, **changes).staleness(GOOD.facts.model_digest, FINGERPRINT, POLICY.digest)
    assert told in stale
    assert not any(gate.passed for gate in gates(GOOD, stale=stale).values())


def test_a_part_of_the_evidence_from_another_data_set_is_stale_too() -> None:
    told = (GOOD.facts.model_digest, FINGERPRINT, POLICY.digest)
    assert GOOD.staleness(*told) == ""
    other = "99" * 32
    for part in (
        replace(GOOD, test=predicted(8.0, fingerprint=other)),
        replace(GOOD, robustness=robustness(fingerprint=other)),
        replace(BESIDE_CHAMPION, champion=predicted(8.0, fingerprint=other)),
    ):
        assert "data set 9999" in part.staleness(*told)


FACTS = {
    "data_validation": "data_errors",
    "no_leakage": "leaks",
    "beats_baseline": "baseline_mae",
    "onnx_agrees": "onnx_difference_months",
    "preprocessing_agrees": "preprocessing_differences",
    "latency": "latency_ms",
}
METRICS = {
    "test_mae": ("mae", "value"),
    "test_mae_upper": ("mae", "hi"),
    "test_r2": ("r2", "value"),
    "large_errors": ("within_24m", "lo"),
    "interval_coverage": ("coverage", "value"),
}


def spoiled(name: str, wrong: float | None) -> Evidence:
    """Evidence of which the figure of one gate is no figure."""
    number = math.nan if wrong is None else wrong
    if name in FACTS:
        return with_facts(BESIDE_CHAMPION, **{FACTS[name]: wrong})
    if name in METRICS:
        metric, part = METRICS[name]
        return with_estimate(BESIDE_CHAMPION, metric, **{part: number})
    if name == "latency of the champion":
        return with_facts(BESIDE_CHAMPION, champion=MEASURED.model_copy(update={"latency_ms": wrong}))
    if name == "worst_subgroup_mae":
        return with_subgroup(BESIDE_CHAMPION, mae=Estimate(number, number, number))
    if name == "worst_subgroup_bias":
        return with_subgroup(BESIDE_CHAMPION, bias=Estimate(number, number, number))
    assert name == "not_inferior_to_champion"
    predictions = BESIDE_CHAMPION.test.predictions.copy()
    predictions.loc[3, "predicted_months"] = number
    return replace(BESIDE_CHAMPION, test=replace(BESIDE_CHAMPION.test, predictions=predictions))


SPOILABLE = (*FACTS, *METRICS, "latency of the champion", "worst_subgroup_mae", "worst_subgroup_bias",
             "not_inferior_to_champion")  # fmt: skip


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(name=st.sampled_from(SPOILABLE), wrong=st.sampled_from(NOT_A_FIGURE), stale=st.booleans())
def test_no_figure_that_is_missing_not_finite_or_stale_promotes_anything(
    name: str, wrong: float | None, stale: bool
) -> None:
    found = gates(spoiled(name, wrong), CHAMPION, stale="stale: of another model" if stale else "")
    failed = {gate.name for gate in found.values() if not gate.holds}
    assert name.removesuffix(" of the champion") in failed
    if stale:
        assert failed == set(found)


@given(
    figure=st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)),
    bound=st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)),
    rule=st.sampled_from(["at most", "at least"]),
    problem=st.sampled_from(["", "stale"]),
)
def test_a_gate_passes_only_with_two_numbers_in_order(figure: Any, bound: Any, rule: Any, problem: str) -> None:
    gate = Gate(name="x", figure=figure, bound=bound, rule=rule, meaning="m", problem=problem)
    both = [value for value in (figure, bound) if value is not None and math.isfinite(value)]
    in_order = len(both) == 2 and (both[0] <= both[1] if rule == "at most" else both[0] >= both[1])
    assert gate.passed is (in_order and not problem)
    assert gate.verdict == ("passed" if gate.passed else "FAILED")
    document = gate.to_json()
    assert document["figure"] is None or math.isfinite(document["figure"])


def test_an_override_lets_a_failed_gate_hold_and_is_said() -> None:
    gate = Gate(name="x", figure=2.0, bound=1.0, meaning="m", overridden_by="A. Roe", override_reason="known")
    assert (gate.passed, gate.holds, gate.verdict) == (False, True, "overridden")
    assert str(gate) == "x: 2, must be at most 1 (m; overridden by A. Roe: known)"


def test_a_decision_as_json_has_verdicts_and_only_numbers() -> None:
    broken = Gate(name="x", figure=math.nan, bound=1.0, meaning="m")
    decision = Decision(
        outcome="not promoted",
        version=1,
        architecture="xception_multi",
        test_mae=math.inf,
        gates=(broken,),
        reason="x",
        policy_digest="p",
        previous_champion=None,
    )
    document = decision.to_json()
    assert document["test_mae"] is None
    assert document["gates"][0]["figure"] is None
    assert document["gates"][0]["verdict"] == "FAILED"
    assert decision.failed == (broken,)
