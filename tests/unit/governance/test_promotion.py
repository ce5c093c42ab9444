from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bone_age.errors import InputError
from bone_age.governance.promotion import Candidate, Champion, Decision, Policy, choose, decide

POLICY = Policy()
FIGURES = st.none() | st.floats(0, 300) | st.sampled_from([float("nan"), float("inf")])


def candidate(version: int = 1, architecture: str = "xception_multi", **figures: float | bool | None) -> Candidate:
    return Candidate.model_validate(
        {"version": version, "architecture": architecture, "validation_mae": 9.0, "test_mae": 9.0} | figures
    )


def decision(test_mae: float | None, baseline: float | None = 35.0, champion: Champion | None = None) -> Decision:
    return decide([candidate(test_mae=test_mae)], baseline, champion, POLICY)


def test_a_better_xception_is_promoted_and_says_why() -> None:
    made = decision(9.0, champion=Champion(version=7, test_mae=10.0))
    assert made.promoted
    assert made.previous_champion == 7
    assert "beats_champion: 9.00, must be below 10.00" in made.reason


@pytest.mark.parametrize("missing", [None, float("nan"), float("inf")])
def test_a_figure_that_is_missing_or_not_finite_means_no(missing: float | None) -> None:
    assert not decision(missing).promoted
    assert not decision(9.0, baseline=missing).promoted
    assert not decision(9.0, champion=Champion(version=7, test_mae=missing)).promoted


@pytest.mark.parametrize("champion_mae", [9.0, 8.99])
def test_equal_or_worse_than_the_champion_is_refused(champion_mae: float) -> None:
    made = decision(9.0, champion=Champion(version=7, test_mae=champion_mae))
    assert made.outcome == "not promoted"
    assert made.reason.startswith("failed beats_champion")


def test_a_champion_that_cannot_be_measured_is_not_replaced_and_the_reason_is_said() -> None:
    champion = Champion(version=7, test_mae=None, why_not_measured="checksum does not match")
    assert "checksum does not match" in decision(9.0, champion=champion).reason


def test_the_baseline_has_to_be_beaten() -> None:
    assert "failed beats_baseline" in decision(35.0).reason


def test_the_candidate_is_chosen_by_validation_not_by_test() -> None:
    better_on_test = candidate(1, validation_mae=10.0, test_mae=5.0)
    better_on_validation = candidate(2, validation_mae=9.0, test_mae=8.0)
    assert choose([better_on_test, better_on_validation]) == better_on_validation


def test_a_resnet_is_never_chosen() -> None:
    best = candidate(1, "resnet50_multi", validation_mae=1.0)
    assert choose([best, candidate(2)]) == candidate(2)
    assert choose([best]) is None
    assert decide([best], 35.0, None, POLICY).outcome == "not promoted"


def test_a_synthetic_model_never_replaces_one_of_radiographs() -> None:
    toy = candidate(2, test_mae=1.0, synthetic=True)
    made = decide([toy], 35.0, Champion(version=1, test_mae=9.0, synthetic=False), POLICY)
    assert made.reason.startswith("failed no_synthetic_successor")
    assert decide([toy], 35.0, Champion(version=1, test_mae=9.0, synthetic=True), POLICY).promoted


def test_the_champion_itself_is_neither_promoted_nor_refused() -> None:
    made = decide([candidate(7)], 35.0, Champion(version=7, test_mae=9.0), POLICY)
    assert made.outcome == "already champion"


@given(test_mae=FIGURES, baseline=FIGURES, champion_mae=FIGURES)
def test_nothing_is_promoted_unless_every_figure_is_there_and_better(
    test_mae: float | None, baseline: float | None, champion_mae: float | None
) -> None:
    champion = Champion(version=7, test_mae=champion_mae, synthetic=True)
    if decision(test_mae, baseline, champion).promoted:
        assert test_mae is not None
        assert baseline is not None
        assert champion_mae is not None
        assert test_mae < min(baseline, champion_mae) < float("inf")


@pytest.mark.parametrize(
    "text", ["max_share_of_baseline: 1", "champion_margin_months: -1", "[1, 2]", "a: b: c", "\xff"]
)
def test_a_wrong_policy_is_refused_by_file(text: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"policy\.yaml"):
        Policy.read(path)


def test_the_digest_follows_the_rules() -> None:
    assert Policy().digest == Policy().digest
    assert Policy().digest != Policy(champion_margin_months=0.5).digest
