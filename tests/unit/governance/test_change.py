"""What a retraining may change and still be promoted by the pipeline alone."""

from __future__ import annotations

import pandas as pd
import pytest

from bone_age.governance.change import changed_population, changed_settings, what_changed
from bone_age.governance.evidence import Incumbent
from bone_age.governance.policy import PredeterminedChange
from tests.worlds import evidence, manifest_table

RULES = PredeterminedChange()
BEFORE = "name: a\nseed: 1\ndata: {source: x, synthetic: {n: 3}}\ntraining: {epochs: 2, stages: [1, 2]}\n"


@pytest.mark.parametrize(
    ("after", "found"),
    [
        (BEFORE, []),
        (BEFORE.replace("seed: 1", "seed: 2").replace("name: a", "name: b"), []),
        (BEFORE.replace("source: x", "source: y").replace("n: 3", "n: 4"), []),
        (BEFORE.replace("epochs: 2", "epochs: 3"), ["training.epochs is 3, was 2"]),
        (BEFORE.replace("[1, 2]", "[1]"), ["training.stages is [1], was [1, 2]"]),
        (BEFORE + "database: y\n", ["database is 'y', was None"]),
        (BEFORE.replace(", stages: [1, 2]", ""), ["training.stages is None, was [1, 2]"]),
        ("name: a\nseed: 1\ndata: {}\ntraining: null\n", ["training.epochs is None, was 2",
                                                          "training.stages is None, was [1, 2]"]),
    ],
)  # fmt: skip
def test_settings_that_were_not_foreseen_are_named_with_both_values(after: str, found: list[str]) -> None:
    assert changed_settings(BEFORE, after, RULES) == found


def test_the_policy_says_which_settings_may_differ() -> None:
    rules = PredeterminedChange(settings=("training.epochs",))
    assert changed_settings(BEFORE, BEFORE.replace("epochs: 2", "epochs: 3"), rules) == []
    assert changed_settings(BEFORE, BEFORE.replace("seed: 1", "seed: 2"), rules) == ["seed is 2, was 1"]


def test_more_radiographs_of_the_same_kind_are_no_change() -> None:
    before = manifest_table()
    more = before.assign(sha256=[f"{sha256}x" for sha256 in before["sha256"]])
    assert changed_population(before, pd.concat([before, more]), RULES) == []


def test_radiographs_that_are_gone_are_told() -> None:
    before = manifest_table()
    assert changed_population(before, before.iloc[1:], RULES) == ["0.3% of the champion's radiographs are gone"]
    assert changed_population(before, before.iloc[1:], PredeterminedChange(rows_lost_share=0.01)) == []


def test_other_labels_and_test_radiographs_that_are_learnt_from_are_told() -> None:
    before = manifest_table()
    labels = before.assign(bone_age_months=before["bone_age_months"] + [3.0, *[0.0] * (len(before) - 1)])
    assert changed_population(before, labels, RULES) == ["1 of the champion's radiographs have another label"]
    tested = before["split"] == "test"
    learnt = before.assign(split=before["split"].where(~tested, "train"))
    said = f"{tested.sum()} radiographs that the champion was tested on are no longer for testing"
    assert tested.any()
    assert changed_population(before, learnt, RULES) == [said]
    assert changed_population(before, before.sample(frac=1, random_state=3), RULES) == []


def test_a_group_whose_share_moved_is_told() -> None:
    before = manifest_table()
    girls = before[before["sex"] == "F"]
    more = pd.concat([girls.assign(sha256=[f"{sha256}{n}" for sha256 in girls["sha256"]]) for n in range(4)])
    found = changed_population(before, pd.concat([before, more]), RULES)
    assert len(found) == 1
    assert found[0].startswith("the share of ")
    assert changed_population(before, pd.concat([before, more]), PredeterminedChange(band_share_shift=1.0)) == []


def test_a_group_that_is_new_or_gone_is_a_shift() -> None:
    before = manifest_table()
    boys = before[before["sex"] == "M"]
    assert "the share of " in changed_population(boys, before, RULES)[0]
    assert "the share of " in changed_population(before, boys, PredeterminedChange(rows_lost_share=1.0))[0]


def test_all_that_changed_is_told_at_once() -> None:
    champion = Incumbent(1, "11" * 32, synthetic=False, evidence=evidence())
    assert what_changed(evidence(), champion, RULES) == []
    other = evidence(
        architecture="xception_single",
        config_yaml="name: tiny\nseed: 4\ntraining:\n  epochs: 9\n",
        manifest=manifest_table(fewer=34),
        code_digest="0dd",
    )
    assert what_changed(other, champion, RULES) == [
        "architecture is xception_single, was xception_multi",
        "the code that prepares images and trains is another",
        "training.epochs is 9, was 2",
        "10.0% of the champion's radiographs are gone",
    ]


def test_a_champion_without_evidence_asks_for_a_person() -> None:
    unknown = Incumbent(1, "11" * 32, synthetic=False)
    assert what_changed(evidence(), unknown, RULES) == ["how champion version 1 was trained is not on record"]
