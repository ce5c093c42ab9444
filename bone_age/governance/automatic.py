"""The pipeline's part: judge the best Xception, and promote it where the policy lets a pipeline.

The candidate is chosen on the validation split and judged on the test split. Only Xception versions are candidates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from bone_age import registry
from bone_age.errors import ModelError
from bone_age.governance.anchoring import open_ledger
from bone_age.governance.candidates import Candidate
from bone_age.governance.change import what_changed
from bone_age.governance.entries import Event
from bone_age.governance.gate import Decision, Gate
from bone_age.governance.gates import judge
from bone_age.governance.policy import Policy
from bone_age.governance.promotions import overridden_gates, promotion_of, standing_overrides
from bone_age.governance.ruling import Ruling
from bone_age.governance.stored import incumbent_now, recorded_bundle, recorded_evidence
from bone_age.governance.succession import install, reconcile
from bone_age.provenance import operator


def choose(candidates: Sequence[Candidate]) -> Candidate | None:
    """The Xception with the lowest validation MAE; one without a finite figure cannot be chosen."""
    eligible = [
        c
        for c in candidates
        if c.architecture.startswith("xception") and c.validation_mae is not None and math.isfinite(c.validation_mae)
    ]
    return min(eligible, key=lambda c: (c.validation_mae, c.version), default=None)


def face_the_gates(candidates: Sequence[Candidate], policy: Policy, run_name: str) -> tuple[Decision, list[str]]:
    """Judge the best Xception; promote it, leave it to a person, or say why not.

    Args:
        candidates: With the digests of their evidence.
        run_name: Of the pipeline run, for the ledger.
    Returns:
        The decision, and what had to be put in order before it, a sentence each.
    Raises:
        BoneAgeError: MLflow or the database does not answer, or another promotion is at work.
    """
    ledger = open_ledger()
    said = reconcile(ledger)
    chosen, incumbent = choose(candidates), incumbent_now(ledger)
    if chosen is None:
        return _nothing_to_judge(policy, incumbent.version if incumbent else None, standing_overrides(ledger)), said
    if not chosen.evidence_sha256:
        raise ModelError(f"version {chosen.version}: no evidence was collected")
    bundle = recorded_bundle(ledger, chosen.version)
    evidence = recorded_evidence(ledger, registry.version_facts(chosen.version), chosen.evidence_sha256)
    serves = incumbent is not None and incumbent.version == chosen.version
    stale = evidence.staleness(bundle.digest, bundle.facts.measured_on, policy.digest)
    gates = judge(evidence, policy, None if serves else incumbent, stale)
    if serves:
        gates = _as_overridden(gates, overridden_gates(promotion_of(ledger, chosen.version)))
    ruling = Ruling(evidence, chosen.evidence_sha256, policy, incumbent, gates)
    ruling.keep_policy()
    if serves:
        return ruling.announced(ledger, "already champion"), said
    actor, by = f"policy {policy.digest[:12]}", f"pipeline run {run_name}, started by {operator()}"
    if ruling.failed:
        ledger.append(ruling.entry(Event.REJECTED, actor, f"{by}: {ruling.reason}"))
        return ruling.announced(ledger, "not promoted"), said
    registry.set_alias(registry.CHALLENGER, chosen.version)
    needs_person = ["the policy says `promotion: manual`"] if policy.promotion == "manual" else []
    needs_person += ["the policy says `two_person: true`"] if policy.two_person else []
    needs_person += what_changed(evidence, incumbent, policy.predetermined_change) if incumbent else []
    if needs_person:
        reason = f"{ruling.reason}, but a person has to approve: {'; '.join(needs_person)}"
        ledger.append(ruling.entry(Event.GATES, actor, f"{by}: {reason}"))
        return ruling.announced(ledger, "awaits approval", reason), said
    install(ledger, ruling.entry(Event.PROMOTED, actor, f"{by}: {ruling.reason}"))
    return ruling.announced(ledger, "promoted"), said


def _as_overridden(gates: tuple[Gate, ...], overridden: Mapping[str, Gate]) -> tuple[Gate, ...]:
    """Gates of a champion, with the overrides by which it became one."""
    by_whom = ("overridden_by", "override_reason")
    return tuple(
        gate.model_copy(update={name: getattr(overridden[gate.name], name) for name in by_whom})
        if not gate.passed and gate.name in overridden
        else gate
        for gate in gates
    )


def _nothing_to_judge(policy: Policy, champion: int | None, overrides: tuple[str, ...]) -> Decision:
    return Decision(
        outcome="not promoted",
        version=None,
        architecture=None,
        test_mae=None,
        gates=(),
        reason="no Xception version with a validation MAE",
        policy_digest=policy.digest,
        previous_champion=champion,
        standing_overrides=overrides,
    )
