"""Do ledger, registry and files still agree? Every way of tampering that leaves a trace is a finding, one line each."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from bone_age import registry
from bone_age.errors import BoneAgeError
from bone_age.governance.audit_bundle import attached
from bone_age.governance.entries import Entry, Event
from bone_age.governance.ledger import Ledger
from bone_age.governance.promotions import promotion_of
from bone_age.governance.stored import evidence_digests, load_evidence
from bone_age.mlflow_connection import connect, first_line
from bone_age.registry import VersionFacts
from bone_age.serving.bundle import Bundle, load_bundle

TOLD = {
    Event.PROMOTED: ("promoted", "already champion"),
    Event.REJECTED: ("not promoted",),
    Event.GATES: ("awaits approval",),
}


def verify(ledger: Ledger) -> Iterator[str]:
    """Findings, one line each; none where all is well.

    The chain with its anchor and guards; the alias against the ledger; every registered version's files, tags, run and
    evidence against what the ledger recorded of it; and the evidence by which the champion became one.
    """
    parts: tuple[Callable[[Ledger], Iterator[str]], ...] = (_chain, _alias, _champion, _versions)
    broken = set()
    for part in parts:
        try:
            yield from part(ledger)
        except BoneAgeError as error:  # an entry that cannot be read any more, or no answer
            broken.add(str(error))
        except MlflowException as error:
            broken.add(f"MLflow: {first_line(error)}")
    yield from sorted(broken)


def _chain(ledger: Ledger) -> Iterator[str]:
    yield from (f"ledger: {finding}" for finding in ledger.verify() if not finding.is_note)
    if not ledger.is_anchored and ledger.entry(2) is not None:
        yield "ledger: its anchor, the tag ledger_head of the registered model in MLflow, is gone"


def notes(ledger: Ledger) -> list[str]:
    """What is worth knowing and is no sign of tampering by itself."""
    found = [
        f"ledger: entry {entry.number}: {entry.reason}" for entry in ledger.entries(events=(Event.ANCHOR_RENEWED,))
    ]
    head = ledger.head()
    if head is not None and head.signature and not ledger.checks_signatures:
        found.append("ledger: entries are signed; without BONE_AGE_LEDGER_PUBLIC_KEY the signatures are not checked")
    return found


def _alias(ledger: Ledger) -> Iterator[str]:
    champion, alias = ledger.champion_on(), registry.version_by_alias(registry.CHAMPION)
    recorded, pointed = champion.version if champion else None, int(alias.version) if alias else None
    if (intent := ledger.open_intent()) is not None:
        yield f"ledger: entry {intent.number}, an intent of {intent.actor}, is open; the next command settles it"
    elif recorded != pointed:
        yield f"alias champion: points to version {pointed or 'none'}, the ledger says {recorded or 'none'}"


def _champion(ledger: Ledger) -> Iterator[str]:
    """Is it the model that was promoted, on evidence? Whether that is still there is looked at with its version."""
    champion = ledger.champion_on()
    if champion is None or champion.version is None:
        return
    promotion = promotion_of(ledger, champion.version)
    if promotion is None:
        if not evidence_digests(ledger, champion.version):
            yield f"champion version {champion.version}: entry {champion.number} made it champion without any evidence"
        return
    name, digest = f"champion version {promotion.version}", promotion.details.get("evidence_sha256")
    if not digest:
        yield f"{name}: entry {promotion.number} names no evidence"
    known = [entry for entry in ledger.entries(events=(Event.REGISTERED,)) if entry.version == promotion.version]
    if known and known[0].model_digest != promotion.model_digest:
        yield f"{name}: entry {promotion.number} promoted other files than entry {known[0].number} registered"


def _versions(ledger: Ledger) -> Iterator[str]:
    recorded = {entry.version: entry for entry in ledger.entries(events=(Event.REGISTERED,))}
    found = {facts.version: facts for facts in registry.all_versions()}
    for version, entry in recorded.items():
        if version not in found:
            yield f"version {version}: is in the ledger (entry {entry.number}) but no longer registered"
    for version, facts in found.items():
        known = recorded.get(version)
        checks = (
            _files_and_tags(facts, known),
            _run(facts, known),
            _evidence(ledger, facts),
            _decision(ledger, facts, known),
        )
        for findings in (*checks, attached.findings(ledger, facts)):
            yield from (f"version {version}: {finding}" for finding in findings)


def _files_and_tags(facts: VersionFacts, known: Entry | None) -> Iterator[str]:
    if known is None:
        yield "is registered but not in the ledger"
    expected = dict.fromkeys(known.details.get("tags", {}), "the ledger recorded") if known else {}
    says: dict[str, str] = known.details.get("tags", {}) if known else {}
    try:
        bundle = load_bundle(registry.resolve(f"models:/{registry.REGISTERED_MODEL}/{facts.version}")[1])
    except BoneAgeError as error:
        yield str(error)
    else:
        says = says | _told_by(bundle)
        expected |= dict.fromkeys(_told_by(bundle), "its files say")
        if known is not None and known.model_digest != bundle.digest:
            yield f"its files are not those that the ledger recorded (entry {known.number})"
    for tag, value in says.items():
        if facts.tags.get(tag) != value:
            yield f"tag {tag} is {facts.tags.get(tag, 'absent')}, {expected[tag]} {value}"


def _told_by(bundle: Bundle) -> dict[str, str]:
    return {
        "model_digest": bundle.digest,
        "onnx_sha256": bundle.onnx_sha256,
        "dataset_fingerprint": bundle.facts.dataset_fingerprint,
        "synthetic": str(bundle.facts.synthetic),
        "architecture": bundle.facts.architecture,
    }


def _run(facts: VersionFacts, known: Entry | None) -> Iterator[str]:
    if known is not None and known.run_id != facts.run_id:
        yield f"is of run {facts.run_id or 'none'}, the ledger recorded {known.run_id}"
    run = _fetched(facts.run_id)
    if run is None or run.info.lifecycle_stage != "active":
        yield f"its run {facts.run_id} is {run.info.lifecycle_stage if run else 'gone'}"
    parent_id = run.data.tags.get("mlflow.parentRunId") if run else None
    if parent_id:
        parent = _fetched(parent_id)
        if parent is None or parent.info.lifecycle_stage != "active":
            yield f"the pipeline run {parent_id} above its run is {parent.info.lifecycle_stage if parent else 'gone'}"


def _fetched(run_id: str) -> Run | None:
    try:
        return connect().get_run(run_id)
    except MlflowException:
        return None


def _decision(ledger: Ledger, facts: VersionFacts, known: Entry | None) -> Iterator[str]:
    """The tag is for who reads the version's page; it may not say what the ledger does not."""
    if known is None:
        return
    rulings = [entry for entry in ledger.entries(events=tuple(TOLD)) if entry.version == facts.version]
    said = facts.tags.get("decision", "").partition(":")[0]
    allowed = TOLD[rulings[-1].event] if rulings else ()
    if said and said not in allowed:
        recorded = f"{rulings[-1].event} (entry {rulings[-1].number})" if rulings else "no decision"
        yield f"tag decision says '{said}', the ledger recorded {recorded}"


def _evidence(ledger: Ledger, facts: VersionFacts) -> Iterator[str]:
    """All that was ever recorded of a version; newer evidence lies beside older one and replaces none."""
    recorded, tagged = evidence_digests(ledger, facts.version), facts.evidence_sha256
    if tagged not in recorded and (tagged or recorded):
        known = ", ".join(recorded) or "none"
        yield f"tag evidence_sha256 is {tagged or 'absent'}, the ledger recorded {known}"
    for digest in recorded:
        try:
            load_evidence(facts, digest)
        except BoneAgeError as error:
            yield str(error).removeprefix(f"version {facts.version}: ")
