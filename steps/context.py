"""Which pipeline run a step belongs to, in the words of `bone_age.tracking`."""

from __future__ import annotations

from zenml import get_step_context

from bone_age.tracking import PipelineRun


def current_run() -> PipelineRun:
    """The ZenML run that executes the calling step."""
    run = get_step_context().pipeline_run
    return PipelineRun(zenml_run_id=str(run.id), name=run.name)
