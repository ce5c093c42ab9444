"""What changed since the champion, and whether a retraining may change that without new approval.

A retraining on more of the same data, or with another seed, was foreseen when the champion was approved; another
architecture, another preprocessing or another population was not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import yaml

from bone_age.evaluation.subgroups import subgroup_names
from bone_age.governance.evidence import Evidence, Incumbent
from bone_age.governance.policy import PredeterminedChange


def what_changed(evidence: Evidence, champion: Incumbent, rules: PredeterminedChange) -> list[str]:
    """Differences to the champion that were not foreseen, in words; empty where a pipeline may promote alone."""
    before = champion.evidence
    if before is None:
        return [f"how champion version {champion.version} was trained is not on record"]
    was, now = before.facts.architecture, evidence.facts.architecture
    architecture = [f"architecture is {now}, was {was}"] if now != was else []
    same_code = evidence.facts.code_digest == before.facts.code_digest
    return [
        *architecture,
        *([] if same_code else ["the code that prepares images and trains is another"]),
        *changed_settings(before.config_yaml, evidence.config_yaml, rules),
        *changed_population(before.manifest, evidence.manifest, rules),
    ]


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def changed_settings(before_yaml: str, after_yaml: str, rules: PredeterminedChange) -> list[str]:
    """Settings that differ and were not foreseen, each with both values."""
    before, after = (flat(yaml.safe_load(text) or {}) for text in (before_yaml, after_yaml))

    def foreseen(name: str) -> bool:
        return any(name == allowed or name.startswith(f"{allowed}.") for allowed in rules.settings)

    differing = [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]
    return [f"{name} is {after.get(name)!r}, was {before.get(name)!r}" for name in differing if not foreseen(name)]


def changed_population(before: pd.DataFrame, after: pd.DataFrame, rules: PredeterminedChange) -> list[str]:
    """Radiographs that are gone, have another label or left the test split, and groups whose share moved.

    Args:
        before, after: Manifests with `sha256`, `sex`, `bone_age_months` and `split`.
    """
    lost = 1 - before["sha256"].isin(set(after["sha256"])).mean()
    found = [f"{lost:.1%} of the champion's radiographs are gone"] if lost > rules.rows_lost_share else []
    kept = before.merge(after, on="sha256", suffixes=("", "_after")).drop_duplicates("sha256")
    relabelled = (kept["bone_age_months"] != kept["bone_age_months_after"]) | (kept["sex"] != kept["sex_after"])
    if relabelled.any():
        found.append(f"{relabelled.sum()} of the champion's radiographs have another label")
    learnt = (kept["split"] == "test") & (kept["split_after"] != "test")
    if learnt.any():
        found.append(f"{learnt.sum()} radiographs that the champion was tested on are no longer for testing")
    shares = [_shares(table) for table in (before, after)]
    moved = shares[1].sub(shares[0], fill_value=0.0).abs()
    group = str(moved.idxmax())
    if moved[group] > rules.band_share_shift:
        was, now = (one.get(group, 0.0) for one in shares)
        found.append(f"the share of {group} is {now:.1%}, was {was:.1%}")
    return found


def _shares(table: pd.DataFrame) -> pd.Series:
    return pd.Series(subgroup_names(table["sex"].tolist(), table["bone_age_months"].tolist())).value_counts(
        normalize=True
    )
