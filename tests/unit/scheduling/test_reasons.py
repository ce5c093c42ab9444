"""Whether there is reason to train again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bone_age.scheduling.drift import DriftVerdict
from bone_age.scheduling.reasons import Champion, Finished, Grounds, Limits, reasons_to_train

NOW = datetime(2026, 3, 2, 3, 0, tzinfo=UTC)
OLD_DATA, NEW_DATA, RECIPE = "aa" * 32, "bb" * 32, "cc" * 32
CHAMPION = Champion(4, NOW - timedelta(days=40), OLD_DATA)
QUIET = Grounds(NOW, OLD_DATA, RECIPE, CHAMPION, None)
DRIFT = DriftVerdict(True, "brightness 0.31 above 0.20", NOW - timedelta(hours=5))


def ago(fingerprint: str = OLD_DATA, recipe: str = RECIPE, **since: float) -> Finished:
    return Finished(NOW - timedelta(**since), fingerprint, recipe)


def names(grounds: Grounds, **limits: object) -> list[str]:
    return list(reasons_to_train(grounds, Limits.model_validate(limits)))


def test_nothing_new_is_no_reason() -> None:
    assert names(QUIET, max_age_days=60) == []


def test_data_other_than_the_champions_are_a_reason_that_names_both() -> None:
    reasons = reasons_to_train(replace(QUIET, fingerprint=NEW_DATA), Limits())
    assert reasons == {"new_data": f"data {NEW_DATA[:12]} are not those of champion version 4, {OLD_DATA[:12]}"}


def test_new_data_are_used_up_by_the_training_on_them_also_when_it_was_refused() -> None:
    grounds = replace(QUIET, fingerprint=NEW_DATA)
    assert names(replace(grounds, finished=(ago(NEW_DATA, days=1),))) == []
    assert names(replace(grounds, finished=(ago(OLD_DATA, days=1),))) == ["new_data"]
    assert names(replace(grounds, finished=(ago(NEW_DATA, "another", days=1),))) == ["new_data"]


def test_a_home_without_a_champion_trains_once() -> None:
    grounds = replace(QUIET, champion=None)
    assert names(grounds) == ["no_champion"]
    assert names(replace(grounds, finished=(ago(days=1),))) == []
    assert names(replace(grounds, fingerprint=NEW_DATA, finished=(ago(days=1),))) == ["no_champion"]


def test_drift_is_a_reason_until_a_training_came_after_it() -> None:
    grounds = replace(QUIET, drift=DRIFT)
    assert names(grounds) == ["drift"]
    assert names(replace(grounds, finished=(ago(hours=6),))) == ["drift"]
    assert names(replace(grounds, finished=(ago(hours=4),))) == []
    assert names(replace(grounds, drift=replace(DRIFT, drifted=False))) == []


def test_a_champion_older_than_the_limit_is_a_reason_once_in_that_time() -> None:
    assert names(QUIET) == []
    assert names(QUIET, max_age_days=30) == ["age"]
    assert names(replace(QUIET, finished=(ago(days=29),)), max_age_days=30) == []
    assert names(replace(QUIET, finished=(ago(days=31),)), max_age_days=30) == ["age"]


def test_all_reasons_are_told() -> None:
    grounds = replace(QUIET, fingerprint=NEW_DATA, drift=DRIFT)
    assert names(grounds, max_age_days=1, always=True) == ["new_data", "drift", "age", "always"]


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_is_above_nothing(limit: float) -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        Limits(max_age_days=limit)


_champions = st.none() | st.builds(
    Champion, st.just(4), st.floats(0, 400).map(lambda days: NOW - timedelta(days=days)), st.sampled_from("ab")
)
_drifts = st.none() | st.builds(
    DriftVerdict, st.booleans(), st.just("x"), st.floats(0, 400).map(lambda days: NOW - timedelta(days=days))
)


@given(_champions, _drifts, st.none() | st.floats(0.1, 400), st.sampled_from("ab"))
def test_a_training_that_ended_just_now_leaves_no_reason(
    champion: Champion | None, drift: DriftVerdict | None, limit: float | None, fingerprint: str
) -> None:
    done = (Finished(NOW, fingerprint, RECIPE),)
    grounds = Grounds(NOW, fingerprint, RECIPE, champion, drift, done)
    assert reasons_to_train(grounds, Limits(max_age_days=limit)) == {}
