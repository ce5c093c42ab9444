from typing import Annotated

from zenml import step

from bone_age.data.manifest import Dataset
from bone_age.evaluation.comparison import Comparison
from bone_age.governance.champion import face_the_gates
from bone_age.governance.promotion import Candidate, Decision, Policy


@step(enable_cache=False)
def promote_best(
    candidates: list[Candidate], comparison: Comparison, splits: Dataset, policy: Policy, seed: int
) -> Annotated[Decision, "decision"]:
    """Let the best Xception face the gates and move the alias if it passes. Not cached: the champion may be new."""
    return face_the_gates(candidates, comparison, splits, policy, seed)
