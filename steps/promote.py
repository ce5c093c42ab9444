from typing import Annotated

from zenml import step

from bone_age.governance.automatic import face_the_gates
from bone_age.governance.candidates import Candidate
from bone_age.governance.gate import Decision
from bone_age.governance.policy import Policy
from bone_age.progress import warn
from steps.context import current_run


@step(enable_cache=False)
def promote_best(candidates: list[Candidate], policy: Policy) -> Annotated[Decision, "decision"]:
    """Let the best Xception face the gates and move the alias if it passes. Not cached: the champion may be new."""
    decision, put_in_order = face_the_gates(candidates, policy, current_run().name)
    warn(put_in_order)
    return decision
