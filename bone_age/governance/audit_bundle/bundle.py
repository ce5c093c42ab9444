"""The audit bundle: everything that somebody who was not there needs to judge a version, in one file.

It is made from what is recorded of the version and nothing else, so the same version gives the same bytes until
something new is recorded of it: another decision, or newer evidence that one rests on.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bone_age import registry
from bone_age.errors import BoneAgeError
from bone_age.evaluation.whole_file import write_whole
from bone_age.governance.anchoring import open_ledger
from bone_age.governance.audit_bundle.card import card_of
from bone_age.governance.audit_bundle.card_pages import to_html, to_markdown
from bone_age.governance.audit_bundle.lineage import lineage_of
from bone_age.governance.audit_bundle.sbom import sbom_of
from bone_age.governance.audit_bundle.sources import Sources, gather
from bone_age.governance.audit_bundle.zipping import with_sums, zipped
from bone_age.governance.chain import Chain
from bone_age.governance.entries import Event, NewEntry
from bone_age.mlflow_connection import connect, first_line
from bone_age.provenance import operator

ARTIFACTS = "audit"
TAG = "audit_bundle_sha256"
_SHIPPED = Path(__file__).parent


@dataclass(frozen=True)
class AuditBundle:
    """A finished bundle in memory."""

    version: int
    content: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def file_name(self) -> str:
        return file_name(self.version)


def file_name(version: int) -> str:
    """What the bundle of a version is called."""
    return f"bone-age-{version}.zip"


def build(version: int, ledger: Chain) -> AuditBundle:
    """Make the bundle of a version.

    Raises:
        ModelError: No such version, its run is gone, or a file of it was changed; it is named.
        BoneAgeError: The ledger's chain is broken, or MLflow does not answer.
    """
    return AuditBundle(version, zipped(with_sums(contents(gather(version, ledger)))))


def contents(sources: Sources) -> dict[str, bytes]:
    """Every file by its path, `SHA256SUMS` left aside."""
    sbom = sbom_of(sources)
    if sbom is None:
        sources = replace(sources, absent={**sources.absent, "bill of materials": "no environment was recorded"})
    card = card_of(sources)
    version = {
        "version": sources.facts.version,
        "model_digest": sources.bundle.digest,
        "dataset_fingerprint": sources.bundle.facts.dataset_fingerprint,
        "run_id": sources.facts.run_id,
        "tags": sources.tags,
        "trained_by": sources.run.data.tags.get("trained_by"),
        "absent": sources.absent,
    }
    made = {
        "README.txt": (_SHIPPED / "README.txt").read_bytes(),
        "verify.py": (_SHIPPED / "verify.py").read_bytes(),
        "model_card.html": to_html(card),
        "model_card.md": to_markdown(card),
        "version.json": _json(version),
        **told_by_run(sources),
        "lineage.prov.json": lineage_of(sources),
        **({"environment/sbom.cdx.json": sbom} if sbom is not None else {}),
        **sources.extract.files(),
    }
    return {**sources.files, **made}


def told_by_run(sources: Sources) -> dict[str, bytes]:
    """What the version's run says that is no artifact."""
    data = sources.run.data
    return {"parameters.json": _json(dict(data.params)), "metrics.json": _json(dict(data.metrics))}


def write(version: int, out: Path) -> AuditBundle:
    """Write the bundle of a version; the file appears whole or not at all, and replaces a former one.

    Raises:
        InputError: The file cannot be written.
        ModelError, BoneAgeError: As `build`.
    """
    made = build(version, open_ledger())
    write_whole(out, made.content)
    return made


def attach(version: int) -> AuditBundle:
    """Put the bundle of a version into its MLflow run as `audit/bone-age-N.zip`, and its SHA-256 on the version.

    Attached again, the same bundle changes nothing; a newer one takes the former's place.

    Raises:
        ModelError, BoneAgeError: As `build`, or the artifact store does not answer.
    """
    made = build(version, open_ledger())
    client = connect()
    path = f"{ARTIFACTS}/{made.file_name}"
    try:
        found = client.get_model_version(registry.REGISTERED_MODEL, str(version))
        run_id = str(found.run_id)
        is_there = any(file.path == path for file in client.list_artifacts(run_id, ARTIFACTS))
        if is_there and found.tags.get(TAG) == made.sha256:
            return made
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / made.file_name
            file.write_bytes(made.content)
            client.log_artifact(run_id, str(file), ARTIFACTS)
    except Exception as error:  # each artifact store has its own errors
        raise BoneAgeError(f"version {version}: its audit bundle cannot be stored: {first_line(error)}") from None
    open_ledger().append(
        NewEntry(
            event=Event.BUNDLED,
            actor=operator(),
            reason=f"audit bundle of version {version} was attached",
            version=version,
            run_id=run_id,
            details={TAG: made.sha256},
        )
    )
    registry.set_version_tag(version, TAG, made.sha256)
    return made


def attach_all(versions: Iterable[int]) -> list[AuditBundle]:
    """`attach` for each of a run's versions."""
    return [attach(version) for version in versions]


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, indent=2, sort_keys=True).encode()
