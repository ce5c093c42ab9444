"""The promotion pipeline: what `bone-age promote` does, as a ZenML run beside the trainings in the dashboard."""

from __future__ import annotations

from zenml import pipeline

from bone_age.governance.policy import Policy
from steps.judge import promote_judged_version, verify_evidence


@pipeline(name="bone-age-promotion", enable_cache=False)
def promotion_pipeline(version: int, approver: str, reason: str, overrides: dict[str, str], policy: Policy) -> None:
    """Verify a version's stored evidence, judge it against today's champion, and promote it if every gate holds.

    Args:
        overrides: Reason by gate, for gates that a person lets pass.
    """
    digest = verify_evidence(version)
    promote_judged_version(version, digest, approver, reason, overrides, policy)
