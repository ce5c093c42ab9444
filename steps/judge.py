from typing import Annotated

from zenml import step

from bone_age import registry
from bone_age.governance.approval import promote_version
from bone_age.governance.gate import Decision
from bone_age.governance.policy import Policy
from bone_age.governance.stored import load_evidence
from bone_age.progress import warn


@step(enable_cache=False)
def verify_evidence(version: int) -> Annotated[str, "evidence_sha256"]:
    """Fetch a version's evidence and check every file of it; the digest is what the next step judges."""
    facts = registry.version_facts(version)
    load_evidence(facts)
    return facts.evidence_sha256


@step(enable_cache=False)
def promote_judged_version(
    version: int, evidence_sha256: str, approver: str, reason: str, overrides: dict[str, str], policy: Policy
) -> Annotated[Decision, "decision"]:
    """Judge a version on that evidence and make it champion if every gate holds."""
    decision, put_in_order = promote_version(version, approver, reason, overrides, policy, evidence_sha256)
    warn(put_in_order)
    return decision
