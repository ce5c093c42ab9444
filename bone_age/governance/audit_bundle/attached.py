"""Is what MLflow holds of a version still what its attached audit bundle holds, and that bundle what the ledger says?

So every artifact, parameter and metric that an auditor is sent to is under the ledger's seal, not only the model's own
files. Left aside is what may grow after the bundle was made: decisions, policies, and newer evidence, which has digests
of its own in the ledger.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Mapping

from bone_age.errors import BoneAgeError
from bone_age.governance.audit_bundle.bundle import ARTIFACTS, TAG, file_name, told_by_run
from bone_age.governance.audit_bundle.sources import artifacts_of, gather
from bone_age.governance.chain import Chain
from bone_age.governance.entries import Event
from bone_age.registry import VersionFacts

MAY_GROW = ("evidence/", "policies/")  # in a bundle, as are those that are made for it alone:
MADE = (
    "README.txt", "SHA256SUMS", "environment/sbom.cdx.json", "ledger/", "lineage.prov.json", "model_card.", "verify.py",
    "version.json",
)  # fmt: skip


def findings(ledger: Chain, facts: VersionFacts) -> Iterator[str]:
    """What is amiss, one line each; none for a version whose bundle was never attached.

    Raises:
        BoneAgeError: MLflow or the artifact store does not answer.
    """
    recorded = [entry for entry in ledger.entries(events=(Event.BUNDLED,)) if entry.version == facts.version]
    expected, tagged = str(recorded[-1].details.get(TAG, "")) if recorded else "", facts.tags.get(TAG, "")
    if tagged != expected:
        yield f"tag {TAG} is {tagged or 'absent'}, the ledger recorded {expected or 'none'}"
    if not expected:
        return
    path = f"{ARTIFACTS}/{file_name(facts.version)}"
    content = artifacts_of(facts.run_id, path).get("", b"")
    if hashlib.sha256(content).hexdigest() != expected:
        yield f"{path} is {'not what the ledger recorded' if content else 'gone'}"
        return
    try:
        sources = gather(facts.version, ledger)
    except BoneAgeError:
        return  # the model's files, its run or the chain: said where those are looked at
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        bundled = {name: archive.read(name) for name in archive.namelist()}
    yield from _differences({**sources.files, **told_by_run(sources)}, bundled)
    trained_by = json.loads(bundled["version.json"]).get("trained_by")
    if trained_by != sources.run.data.tags.get("trained_by"):
        yield f"its run says it was trained by {sources.run.data.tags.get('trained_by')}, its audit bundle {trained_by}"


def _differences(now: Mapping[str, bytes], bundled: Mapping[str, bytes]) -> Iterator[str]:
    for name in sorted({*now} & {*bundled}):
        if now[name] != bundled[name] and not name.startswith(MAY_GROW):
            yield f"{name} is not what its audit bundle holds"
    gone = sorted(name for name in bundled if name not in now and not name.startswith((*MAY_GROW, *MADE)))
    if gone:
        others = f" and {len(gone) - 1} more" if gone[1:] else ""
        yield f"{gone[0]}{others} of its audit bundle no longer with its runs"
