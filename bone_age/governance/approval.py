"""Promotion and rollback by a person: gates judged again on stored, verified evidence, then alias and ledger."""

from __future__ import annotations

from collections.abc import Mapping

from bone_age import registry
from bone_age.errors import InputError, ModelError
from bone_age.governance.anchoring import open_ledger
from bone_age.governance.entries import NEW_CHAMPION, Event, NewEntry
from bone_age.governance.gate import Decision, Gate
from bone_age.governance.gates import judge
from bone_age.governance.ledger import Ledger
from bone_age.governance.policy import Policy
from bone_age.governance.promotions import promotion_of
from bone_age.governance.ruling import LEDGER_REASON_CHARACTERS, Ruling
from bone_age.governance.stored import incumbent_now, recorded_bundle, recorded_evidence, store_policy
from bone_age.governance.succession import install, reconcile
from bone_age.plain_text import is_blank, is_hidden, on_one_line
from bone_age.provenance import provenance


def require_words(approver: str, reason: str) -> None:
    """Refuse an approval that nobody gave or that gives no reason.

    Raises:
        InputError: One of the two is empty, too long, or holds what does not show as itself.
    """
    for name, value in (("--approver", approver), ("--reason", reason)):
        if is_blank(value):
            raise InputError(f"{name} is empty; a promotion needs who answers for it, and why")
        _require_plain(name, value)


def _require_plain(name: str, value: str, most: int = LEDGER_REASON_CHARACTERS) -> None:
    """What stays in the ledger is one line that reads as it was written, to its end."""
    hidden = next((character for character in value.strip() if is_hidden(character)), "")
    if hidden:
        raise InputError(f"{name}: holds the control character {on_one_line(hidden)}; one line of plain text is needed")
    if len(value.strip()) > most:
        raise InputError(f"{name}: has {len(value.strip())} characters, the ledger keeps {most}; say it shorter")


def with_overrides(
    gates: tuple[Gate, ...], overrides: Mapping[str, str], policy: Policy, approver: str
) -> tuple[Gate, ...]:
    """Mark the failed gates that a person lets pass.

    Args:
        overrides: Reason by gate name.
    Raises:
        InputError: A gate that is not there, did not fail, may not be overridden, or a reason that is empty,
            too long or holds what does not show as itself.
    """
    by_name = {gate.name: gate for gate in gates}
    for name, reason in overrides.items():
        if name not in by_name:
            raise InputError(f"--override {name}: there is no such gate; known are {', '.join(by_name)}")
        if by_name[name].passed:
            raise InputError(f"--override {name}: the gate passed, there is nothing to override")
        if name not in policy.overridable:
            raise InputError(f"--override {name}: the policy does not let this gate be overridden")
        if is_blank(reason):
            raise InputError(f"--override {name}: a reason is needed")
        _require_plain(f"--override {name}", reason, LEDGER_REASON_CHARACTERS - len(f"{name}: "))
        by_name[name] = by_name[name].model_copy(update={"overridden_by": approver, "override_reason": reason.strip()})
    return tuple(by_name.values())


def promote_version(
    number: int,
    approver: str,
    reason: str,
    overrides: Mapping[str, str],
    policy: Policy,
    evidence_sha256: str | None = None,
) -> tuple[Decision, list[str]]:
    """Judge a registered version again on its stored evidence, against today's champion, and promote it if it holds.

    Args:
        evidence_sha256: Of the evidence to judge; None is what the version's tag names.
    Returns:
        The decision, and what had to be put in order before it, a sentence each.
    Raises:
        ModelError: There is no such version, no evidence of it, or a file of either was changed.
        InputError: Not an Xception, an override that is not allowed, an approver who trained it, or words that
            `require_words` refuses.
        UnderWayError: Another promotion is at work or was first.
    """
    require_words(approver, reason)
    ledger = open_ledger()
    said = reconcile(ledger)
    facts = registry.version_facts(number)
    if not facts.architecture.startswith("xception"):
        raise InputError(f"version {number} is {facts.architecture}; only Xception versions are promoted")
    bundle, evidence = recorded_bundle(ledger, number), recorded_evidence(ledger, facts, evidence_sha256)
    if policy.two_person and _same_name(evidence.facts.trained_by, approver):
        raise InputError(f"version {number} was trained by {approver.strip()}; the policy asks for another approver")
    incumbent = incumbent_now(ledger)
    if incumbent is not None and incumbent.version == number:
        raise InputError(f"version {number} is the champion already")
    stale = evidence.staleness(bundle.digest, bundle.facts.measured_on, policy.digest)
    gates = with_overrides(judge(evidence, policy, incumbent, stale), overrides, policy, approver.strip())
    ruling = Ruling(evidence, evidence_sha256 or facts.evidence_sha256, policy, incumbent, gates)
    ruling.keep_policy()
    if ruling.failed:
        ledger.append(ruling.entry(Event.REJECTED, approver.strip(), f"{reason.strip()}; {ruling.reason}"))
        return ruling.announced(ledger, "not promoted"), said
    if all(gate.passed for gate in gates):
        registry.set_alias(registry.CHALLENGER, number)
    overridden = [
        ruling.entry(Event.OVERRIDDEN, approver.strip(), f"{gate.name}: {gate.override_reason}")
        for gate in gates
        if gate.verdict == "overridden"
    ]
    install(ledger, ruling.entry(Event.PROMOTED, approver.strip(), reason.strip()), overridden)
    return ruling.announced(ledger, "promoted"), said


def _same_name(one: str, other: str) -> bool:
    return " ".join(one.split()).casefold() == " ".join(other.split()).casefold()


def roll_back(approver: str, reason: str, to: int | None, policy: Policy) -> tuple[int | None, int, list[str]]:
    """Make an earlier champion champion again.

    Args:
        to: Its version; None is the last real champion whose files still verify.
    Returns:
        The version that served (None: it was no longer registered), the one that serves now, and what had to be put
        in order before.
    Raises:
        InputError: Words that `require_words` refuses; nothing to go back to; or `to` never was champion and the
            policy, which has to be the one that it was judged under, does not allow it.
        ModelError: The files of `to` are damaged, or it never was champion and has no evidence.
        UnderWayError: Another promotion or rollback is at work or was first.
    """
    require_words(approver, reason)
    ledger = open_ledger()
    said = reconcile(ledger)
    today = ledger.champion_on()
    if today is None:
        raise InputError("there is no champion to roll back from")
    if to is not None and to == today.version:
        raise InputError(f"--to {to}: that version is the champion already")
    if to is not None and to not in {entry.version for entry in ledger.entries(events=NEW_CHAMPION)}:
        _require_rollback_to_any(ledger, to, approver, policy)
    target = to if to is not None else _last_that_verifies(ledger, today.version)
    if target is None:
        raise InputError("there is no earlier champion whose files still verify")
    facts, bundle = registry.version_facts(target), recorded_bundle(ledger, target)
    if not facts.architecture.startswith("xception"):
        raise InputError(f"version {target} is {facts.architecture}; only Xception versions serve")
    promotion = promotion_of(ledger, target)
    store_policy(facts.run_id, policy)
    install(
        ledger,
        NewEntry(
            event=Event.ROLLED_BACK,
            actor=approver.strip(),
            reason=reason.strip(),
            version=target,
            previous_version=today.version,
            model_digest=bundle.digest,
            dataset_fingerprint=bundle.facts.dataset_fingerprint,
            policy_digest=policy.digest,
            git_commit=provenance().git_commit,
            run_id=facts.run_id,
            details={"promoted_in": promotion.number if promotion else None},
        ),
    )
    return today.version, target, said


def _require_rollback_to_any(ledger: Ledger, to: int, approver: str, policy: Policy) -> None:
    """To a version that never was champion: only if the policy that it was judged under allows it, and two persons."""
    if not policy.rollback_to_any_version:
        raise InputError(f"--to {to}: that version never was champion, and the policy does not allow going to one")
    evidence = recorded_evidence(ledger, registry.version_facts(to))
    if evidence.facts.policy_digest != policy.digest:
        raise InputError(
            f"--to {to}: that version never was champion, and was judged under policy "
            f"{evidence.facts.policy_digest[:12]}, not under this one ({policy.digest[:12]})"
        )
    if policy.two_person and _same_name(evidence.facts.trained_by, approver):
        raise InputError(f"--to {to}: trained by {approver.strip()}; the policy asks for another approver")


def _last_that_verifies(ledger: Ledger, today: int | None) -> int | None:
    """The last champion before today's that nobody rolled away from, and whose files are as they were."""
    line: list[int] = []
    for entry in ledger.entries(events=NEW_CHAMPION):
        if entry.version is None:
            continue
        if entry.event == Event.ROLLED_BACK and entry.version in line:
            line = line[: line.index(entry.version)]
        line = [*(version for version in line if version != entry.version), entry.version]
    for version in reversed(line):
        if version == today:
            continue
        try:
            recorded_bundle(ledger, version)
        except ModelError:
            continue
        return version
    return None
