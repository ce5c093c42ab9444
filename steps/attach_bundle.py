from zenml import step

from bone_age.governance.audit_bundle.bundle import attach_all
from bone_age.governance.candidates import Candidate


@step(enable_cache=False)
def attach_bundles(candidates: list[Candidate]) -> None:
    """Put each version's audit bundle into its run in MLflow. Not cached: the decision may be new."""
    attach_all(candidate.version for candidate in candidates)
