"""Gates: each a figure, a bound, a verdict, and where the figure comes from.

A figure that is missing, not finite or stale fails its gate: what was not measured on this model, these rows and under
this policy was not shown.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Literal

from bone_age.errors import InputError
from bone_age.evaluation.bootstrap import Estimate
from bone_age.evaluation.comparison import paired_difference
from bone_age.evaluation.evaluation import Evaluation
from bone_age.evaluation.subgroups import subgroup_names
from bone_age.governance.evidence import Evidence, Incumbent, ratio
from bone_age.governance.gate import Gate
from bone_age.governance.policy import Bounds, Policy

NO_CHAMPION_MEASURED = "the champion was not measured on these test rows"
Relation = Literal["superior", "non-inferior", "inferior"]


def judge(evidence: Evidence, policy: Policy, champion: Incumbent | None, stale: str = "") -> tuple[Gate, ...]:
    """All gates of the policy for one version.

    Args:
        champion: What is known of the version that serves now, None where there is none.
        stale: Why the evidence is not of this version, data set or policy; then every gate fails with these words.
    """
    bounds = policy.bounds_for(evidence.facts.synthetic)
    gates = [*_data(evidence), *_errors(evidence, bounds), *_intervals(evidence, bounds)]
    gates += [*_against_champion(evidence, champion, bounds), *_robustness(evidence, bounds)]
    gates += list(_technical(evidence, bounds))
    return tuple(gate.model_copy(update={"problem": stale}) if stale else gate for gate in gates)


def relation_to_champion(difference: Estimate, margin_months: float) -> Relation:
    """What the paired difference of test MAE (version less champion) shows at a margin."""
    if difference.hi < 0:
        return "superior"
    return "non-inferior" if difference.hi <= margin_months else "inferior"


def _data(evidence: Evidence) -> Iterator[Gate]:
    facts, count = evidence.facts, _count
    yield Gate(
        name="data_validation",
        figure=count(facts.data_errors),
        bound=0,
        meaning="errors that Great Expectations found in the data set",
    )
    yield Gate(
        name="no_leakage",
        figure=count(facts.leaks),
        bound=0,
        meaning="patients, images and look-alikes in more than one split",
    )


def _errors(evidence: Evidence, bounds: Bounds) -> Iterator[Gate]:
    test, mae = evidence.test, evidence.test.metrics.mae
    file = "test/metrics.json"
    on = f"test MAE, months, {test.caption}"
    yield Gate(name="test_mae", figure=mae.value, bound=bounds.test_mae_months, meaning=on, evidence=file)
    yield Gate(
        name="test_mae_upper",
        figure=mae.hi,
        bound=bounds.test_mae_upper_months,
        meaning="upper 95 % bootstrap bound of the test MAE, months",
        evidence=file,
    )
    yield Gate(
        name="beats_baseline",
        figure=ratio(mae.value, evidence.facts.baseline_mae),
        bound=bounds.share_of_baseline_mae,
        meaning="test MAE over that of the mean for that sex",
        evidence=file,
    )
    r2 = test.metrics.r2
    yield Gate(
        name="test_r2",
        figure=r2.value if r2 else None,
        bound=bounds.test_r2,
        rule="at least",
        meaning="R² on the test rows",
        evidence=file,
    )
    yield Gate(
        name="large_errors",
        figure=1 - test.metrics.within_24m.lo,
        bound=bounds.large_errors_share,
        meaning="upper 95 % bound of the share off by more than 24 months",
        evidence=file,
    )
    groups = [group for group in test.subgroups if group.n >= bounds.subgroup_rows]
    worst = max(groups, key=lambda group: _or_worst(group.mae.value), default=None)
    yield Gate(
        name="worst_subgroup_mae",
        figure=worst.mae.value if worst else None,
        bound=bounds.subgroup_mae_months,
        meaning=_of_group("test MAE, months", worst.name if worst else None, bounds),
        evidence=file,
    )
    leaning = max(groups, key=lambda group: _or_worst(abs(group.bias.value)), default=None)
    yield Gate(
        name="worst_subgroup_bias",
        figure=abs(leaning.bias.value) if leaning else None,
        bound=bounds.subgroup_bias_months,
        meaning=_of_group("size of the mean error, months", leaning.name if leaning else None, bounds),
        evidence=file,
    )


def _intervals(evidence: Evidence, bounds: Bounds) -> Iterator[Gate]:
    metrics = evidence.test.metrics
    yield Gate(
        name="interval_coverage",
        figure=abs(metrics.coverage.value - metrics.nominal_coverage),
        bound=bounds.coverage_tolerance,
        meaning=f"distance of the coverage ({metrics.coverage.value:.3f}) from {metrics.nominal_coverage:g}",
        evidence="test/metrics.json",
    )
    shares = _coverage_by_group(evidence.test, bounds.subgroup_rows)
    worst = min(shares, key=lambda name: shares[name], default=None)
    yield Gate(
        name="worst_subgroup_coverage",
        figure=shares[worst] if worst else None,
        bound=bounds.subgroup_coverage,
        rule="at least",
        meaning=_of_group("share of labels inside their interval", worst, bounds),
        evidence="test/predictions.csv",
    )


def _coverage_by_group(test: Evaluation, min_rows: int) -> Mapping[str, float]:
    rows = test.predictions
    inside = rows["bone_age_months"].between(rows["lower_months"], rows["upper_months"])
    groups = inside.groupby(subgroup_names(rows["sex"].tolist(), rows["bone_age_months"].tolist()))
    return {str(name): float(group.mean()) for name, group in groups if len(group) >= min_rows}


def _against_champion(evidence: Evidence, champion: Incumbent | None, bounds: Bounds) -> Iterator[Gate]:
    if champion is None:
        return
    name = f"champion version {champion.version}"
    difference, problem = _difference(evidence, champion)
    yield Gate(
        name="same_test_rows",
        figure=float(difference is not None),
        bound=1,
        rule="at least",
        meaning=f"1 if {name} was measured on the same radiographs and labels",
        evidence="champion/predictions.csv",
        problem=problem,
    )
    meaning = f"upper 95 % bound of the paired difference of test MAE to {name}, months"
    if difference:
        relation = relation_to_champion(difference, bounds.inferiority_margin_months)
        meaning += f"; difference {difference.value:+.2f} [{difference.lo:+.2f}, {difference.hi:+.2f}]: {relation}"
    yield Gate(
        name="not_inferior_to_champion",
        figure=difference.hi if difference else None,
        bound=bounds.inferiority_margin_months,
        meaning=meaning,
        evidence="champion/predictions.csv",
        problem=problem,
    )
    if not champion.synthetic:
        yield Gate(
            name="no_synthetic_successor",
            figure=float(evidence.facts.synthetic),
            bound=0,
            meaning=f"1 if trained on synthetic images; {name} was trained on radiographs",
        )
    yield Gate(
        name="latency",
        figure=evidence.latency_share(champion),
        bound=bounds.latency_share_of_champion,
        meaning=f"time of one image over that of {name}, same machine and moment",
    )


def _difference(evidence: Evidence, champion: Incumbent) -> tuple[Estimate | None, str]:
    """Paired difference of test MAE to the champion, or why there is none."""
    test, measured = evidence.test, evidence.champion_test(champion)
    if measured is None:
        return None, f"{NO_CHAMPION_MEASURED}: {evidence.why_not_measured(champion)}"
    try:
        return paired_difference(test, measured, evidence.patient_of_image, test.replicates, test.seed), ""
    except InputError as error:
        return None, f"{NO_CHAMPION_MEASURED}: {error}"


def _robustness(evidence: Evidence, bounds: Bounds) -> Iterator[Gate]:
    effects = {effect.name: effect for effect in evidence.robustness.effects} if evidence.robustness else {}
    for change, bound in bounds.robustness_months.items():
        effect = effects.get(change)
        yield Gate(
            name=f"robust_{change}",
            figure=effect.mae_increase.value if effect else None,
            bound=bound,
            meaning=f"rise of the MAE, months, n = {effect.n}: {effect.description}" if effect else "not measured",
            evidence="robustness.json",
        )


def _technical(evidence: Evidence, bounds: Bounds) -> Iterator[Gate]:
    facts = evidence.facts
    yield Gate(
        name="onnx_agrees",
        figure=facts.onnx_difference_months,
        bound=bounds.onnx_difference_months,
        meaning="largest difference between the Keras and the ONNX model, months",
    )
    yield Gate(
        name="preprocessing_agrees",
        figure=_count(facts.preprocessing_differences if facts.preprocessing_compared else None),
        bound=0,
        meaning=f"of {facts.preprocessing_compared} test images, prepared by serving otherwise than by training",
    )


def _of_group(figure: str, group: str | None, bounds: Bounds) -> str:
    return f"{figure}, worst sex and age band of {bounds.subgroup_rows} test rows or more ({group or 'there is none'})"


def _or_worst(figure: float) -> float:
    """For `max`, which would pass over what is not a number."""
    return figure if math.isfinite(figure) else math.inf


def _count(number: int | None) -> float | None:
    return None if number is None else float(number)
