"""A scheduled run on an orchestrator that keeps schedules itself."""

from __future__ import annotations

from typing import Annotated

from zenml import step

from bone_age.errors import BoneAgeError
from bone_age.scheduling.job import Job
from bone_age.scheduling.retraining import attempt
from bone_age.settings import Home


@step(enable_cache=False)
def retrain_if_due(job: Job) -> Annotated[str, "retraining"]:
    """Train in a run of its own, on the same stack, if there is reason to; a failure is this step's as well."""
    result = attempt(job, Home())
    if result.failed:
        raise BoneAgeError(result.said)
    return result.said
