"""What MLflow holds of a version, fetched and held against its checksums and against what the ledger recorded of it.

Checksums that lie beside the files are rewritten with them by whoever rewrites the files; the ledger is not.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import mlflow

from bone_age import registry
from bone_age.errors import BoneAgeError, ModelError
from bone_age.governance.anchoring import open_ledger
from bone_age.governance.chain import Chain
from bone_age.governance.entries import NEW_CHAMPION, Event, NewEntry
from bone_age.governance.evidence import Evidence, Incumbent
from bone_age.governance.policy import Policy
from bone_age.mlflow_connection import connect, first_line, reopened
from bone_age.provenance import lock_of, operator, provenance
from bone_age.registry import VersionFacts
from bone_age.serving.bundle import Bundle, load_bundle
from bone_age.serving.predictor import Predictor
from bone_age.serving.references import load_predictor

EVIDENCE, LOCK = "evidence", "requirements.lock"
NAMES_EVIDENCE = (Event.EVIDENCE, Event.GATES, Event.REJECTED, Event.PROMOTED)


def predictor_of(version: int) -> Predictor:
    """The verified model of a version.

    Raises:
        ModelError: There is no such version, or a file of it was changed.
    """
    return load_predictor(f"models:/{registry.REGISTERED_MODEL}/{version}")


def recorded_bundle(ledger: Chain, version: int) -> Bundle:
    """The files of a version, verified, and the same that the ledger recorded when it was registered.

    Raises:
        ModelError: There is no such version, the ledger does not know it, or a file of it was changed.
    """
    bundle = load_bundle(registry.resolve(f"models:/{registry.REGISTERED_MODEL}/{version}")[1])
    entries = ledger.entries(events=(Event.REGISTERED, *NEW_CHAMPION))
    known = next((entry for entry in entries if entry.version == version and entry.model_digest), None)
    if known is None:
        raise ModelError(f"version {version}: is not in the ledger; the training pipeline registers versions")
    if known.model_digest != bundle.digest:
        raise ModelError(f"version {version}: its files are not those that the ledger recorded (entry {known.number})")
    return bundle


def evidence_path(digest: str) -> str:
    """Where evidence lies in its version's run."""
    return f"{EVIDENCE}/{digest[:16]}"


def store_evidence(evidence: Evidence) -> str:
    """Write evidence to its version's run, its digest to the ledger and to a tag of the version. Returns the digest."""
    facts = evidence.facts
    with tempfile.TemporaryDirectory() as folder, reopened(facts.mlflow_run_id):
        digest = evidence.save(Path(folder))
        mlflow.log_artifacts(folder, evidence_path(digest))
    open_ledger().append(
        NewEntry(
            event=Event.EVIDENCE,
            actor=operator(),
            reason=f"evidence of version {facts.version} was collected",
            version=facts.version,
            model_digest=facts.model_digest,
            dataset_fingerprint=facts.dataset_fingerprint,
            policy_digest=facts.policy_digest,
            git_commit=provenance().git_commit,
            run_id=facts.mlflow_run_id,
            details={"evidence_sha256": digest},
        )
    )
    registry.set_version_tag(facts.version, "evidence_sha256", digest)
    return digest


def load_evidence(facts: VersionFacts, digest: str | None = None) -> Evidence:
    """A version's stored evidence, verified.

    Args:
        digest: What was recorded of it; None is what the version's tag says.
    Raises:
        ModelError: There is none, or it was changed.
    """
    with fetched_evidence(facts, digest) as (_, evidence):
        return evidence


@contextmanager
def fetched_evidence(facts: VersionFacts, digest: str | None = None) -> Iterator[tuple[Path, Evidence]]:
    """The same with its folder, which is there as long as the context is open."""
    expected = digest or facts.evidence_sha256
    if not expected:
        raise ModelError(f"version {facts.version}: no evidence was collected for it; the training pipeline does that")
    connect()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            fetched = mlflow.artifacts.download_artifacts(
                run_id=facts.run_id, artifact_path=evidence_path(expected), dst_path=scratch
            )
        except Exception as error:  # each artifact store has its own errors
            raise ModelError(f"version {facts.version}: its evidence cannot be read: {first_line(error)}") from None
        folder = Path(fetched)
        try:
            evidence = Evidence.load(folder, expected)
        except ModelError as error:
            raise ModelError(f"version {facts.version}: {str(error).replace(f'{folder}/', 'evidence: ')}") from None
        yield folder, evidence


def store_policy(run_id: str, policy: Policy) -> None:
    """Keep the policy that a version of this run was judged by, under its digest."""
    connect().log_text(run_id, policy.model_dump_json(indent=2), policy.artifact)


def store_lock(run_id: str) -> None:
    """Keep the lock of the environment that trained this run, if the project still has it; at most once."""
    client = connect()
    tags = client.get_run(run_id).data.tags
    found = lock_of(tags.get("lock_digest", ""), tags.get("git_commit", ""))
    if found is not None and all(file.path != LOCK for file in client.list_artifacts(run_id)):
        client.log_text(run_id, found.decode(), LOCK)


def recorded_evidence(ledger: Chain, facts: VersionFacts, digest: str | None = None) -> Evidence:
    """`load_evidence`, of a digest that the ledger recorded for this version.

    Raises:
        ModelError: There is none, it was changed, or the ledger does not know it.
    """
    expected = digest or facts.evidence_sha256
    if expected and expected not in evidence_digests(ledger, facts.version):
        raise ModelError(f"version {facts.version}: evidence {expected[:12]} is not in the ledger")
    return load_evidence(facts, expected)


def evidence_digests(ledger: Chain, version: int) -> list[str]:
    """Of all evidence that the ledger recorded for a version, the first one first."""
    entries = ledger.entries(events=NAMES_EVIDENCE)
    found = [entry.details.get("evidence_sha256") for entry in entries if entry.version == version]
    return list(dict.fromkeys(str(digest) for digest in found if digest))


def incumbent_now(ledger: Chain) -> Incumbent | None:
    """The version that serves, with its stored evidence where there is any that verifies."""
    current = registry.version_by_alias(registry.CHAMPION)
    if current is None:
        return None
    facts = VersionFacts.of(current)
    digest, synthetic, evidence = facts.model_digest, facts.synthetic, None
    try:
        bundle = recorded_bundle(ledger, facts.version)
        digest, synthetic = bundle.digest, bundle.facts.synthetic
    except BoneAgeError:
        pass  # damaged: what the tags say of it, so that the gates can name it
    with suppress(BoneAgeError):
        evidence = recorded_evidence(ledger, facts)
    return Incumbent(facts.version, digest, synthetic, evidence)
